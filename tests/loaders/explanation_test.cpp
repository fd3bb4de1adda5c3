// SPDX-License-Identifier: Apache-2.0
// What --explain says of machines that are not here.
#include "loaders/explanation.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "../golden_text.hpp"
#include "made_up_graph.hpp"

namespace tensor_pager::loaders {
namespace {

using tests::expect_golden;
using tests::made_up_32b;
using tests::MadeUpModel;

constexpr Bytes kPage = MiB(16);

PlacementRates server() {
  PlacementRates rates;
  rates.link = {.alone = 54e9, .together = 47e9};
  rates.cpu = {.alone = 114e9, .together = 85e9};
  rates.cpu_kernels[TensorType::q4_k] = {.weights = 150e9, .arithmetic = 1.5e12};
  rates.cpu_kernels[TensorType::q6_k] = {.weights = 150e9, .arithmetic = 1.2e12};
  rates.gpu_memory = 3e12;
  rates.gpu_arithmetic = 600e12;
  rates.gpu_step = 5e-6;
  rates.handover = 20e-6;
  return rates;
}

// Two channels of memory, PCIe 4 x16.
PlacementRates desktop() {
  PlacementRates rates = server();
  rates.link = {.alone = 24e9, .together = 20e9};
  rates.cpu = {.alone = 60e9, .together = 42e9};
  rates.gpu_memory = 0.8e12;
  return rates;
}

std::string explained(const MadeUpModel& model, const PlacementRates& rates,
                      const PlacementRequest& request, const std::string& pass = "generation") {
  const Placement placement = place(model.graph, model.tensors, rates, request);
  const std::vector<std::string> all =
      lines(explain(pass, model.graph, model.tensors, rates, request, placement));
  EXPECT_LE(all.size(), 24U);
  std::string text;
  for (const std::string& line : all) {
    EXPECT_LE(line.size(), 120U) << line;
    text += line + "\n";
  }
  return text;
}

TEST(Explanation, OfAServerWithLittleArena) {
  expect_golden("explain/server-2g.txt",
                explained(made_up_32b(), server(), {.arena = GiB(2), .page = kPage}));
}

TEST(Explanation, OfAServerWithHalfOfTheWeights) {
  expect_golden("explain/server-9g.txt",
                explained(made_up_32b(), server(), {.arena = GiB(9), .page = kPage}));
}

TEST(Explanation, OfAServerThatHoldsEverything) {
  expect_golden("explain/server-24g.txt",
                explained(made_up_32b(), server(), {.arena = GiB(24), .page = kPage}));
}

TEST(Explanation, OfADesktop) {
  expect_golden("explain/desktop-12g.txt",
                explained(made_up_32b(), desktop(), {.arena = GiB(12), .page = kPage}));
}

TEST(Explanation, OfSixtyFourSequences) {
  expect_golden("explain/server-batch.txt",
                explained(made_up_32b(), server(), {.arena = GiB(2), .page = kPage, .batch = 64}));
}

TEST(Explanation, OfPrefill) {
  expect_golden("explain/server-prefill.txt",
                explained(made_up_32b(), server(), {.arena = GiB(8), .page = kPage, .batch = 2048},
                          "prefill"));
}

TEST(Explanation, WithoutAKernelForOneType) {
  PlacementRates rates = server();
  rates.cpu_kernels.erase(TensorType::q6_k);
  expect_golden("explain/no-kernel.txt",
                explained(made_up_32b(), rates, {.arena = GiB(2), .page = kPage}));
}

TEST(Explanation, WithoutACpu) {
  PlacementRates rates = server();
  rates.cpu = {};
  expect_golden("explain/no-cpu.txt",
                explained(made_up_32b(), rates, {.arena = GiB(2), .page = kPage}));
}

TEST(Explanation, AsAskedFor) {
  expect_golden(
      "explain/asked.txt",
      explained(made_up_32b(), server(), {.arena = GiB(2), .page = kPage, .cpu_share = 0.25}));
}

TEST(Explanation, PartsAddUpToThePrediction) {
  const MadeUpModel model = made_up_32b();
  const PlacementRequest request{.arena = GiB(8), .page = kPage};
  const Placement placement = place(model.graph, model.tensors, server(), request);
  const Explanation e =
      explain("generation", model.graph, model.tensors, server(), request, placement);
  double seconds = 0;
  Bytes weights, cpu, moved;
  for (const ExplainedPart& part : e.parts) {
    seconds += part.seconds;
    weights += part.weights;
    if (part.place == Place::cpu) cpu += part.weights;
    moved += part.resident + part.streamed;
  }
  EXPECT_NEAR(seconds, placement.predicted.seconds - placement.predicted.stalled, 1e-9);
  EXPECT_EQ(weights, model.bytes());
  EXPECT_EQ(cpu, placement.predicted.on_cpu);
  EXPECT_EQ(cpu + moved, weights);
}

TEST(Explanation, RangesOfLayers) {
  const auto text = [](std::vector<std::uint32_t> numbers) { return ranges_text(numbers); };
  EXPECT_EQ(text({}), "");
  EXPECT_EQ(text({3}), "3");
  EXPECT_EQ(text({0, 1, 2, 5, 7, 8}), "0-2, 5, 7-8");
}

}  // namespace
}  // namespace tensor_pager::loaders
