// SPDX-License-Identifier: Apache-2.0
// What is measured for the placement of generation, and what becomes of wishes.
#include "qwen/generation_placement.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "model_run.hpp"
#include "pager/mapped_file_store.hpp"

namespace tensor_pager::qwen {
namespace {

using loaders::Place;

class GenerationPlacement : public testing::Test {
 protected:
  GenerationPlacement()
      : model_(open_model(test_data("models/tiny-qwen2-q4_k_m.gguf"))),
        plan_(plan_memory(model_, generation_request(4, 16, {.arena = Percent{40}}))) {}

  ChosenPlaces choose(const PlaceWish& wish) const {
    return choose_places(model_, plan_, rates_, wish, {.threads = 3});
  }
  static bool is_feed_forward(const loaders::Step& step) {
    return step.op == loaders::Op::ffn_gate_up || step.op == loaders::Op::ffn_down;
  }

  Model model_;
  MemoryPlan plan_;
  // A link that is slow beside the processors.
  loaders::PlacementRates rates_{
      .link = {1e9, 0.8e9},
      .cpu = {4e9, 3e9},
      .cpu_kernels = {{loaders::TensorType::q4_k, {}}, {loaders::TensorType::q6_k, {}}},
      .gpu_memory = 1e11,
      .gpu_arithmetic = 1e13,
      .gpu_step = 1e-7,
      .handover = 1e-6};
};

TEST_F(GenerationPlacement, OnTheDeviceLeavesEverythingAsItIs) {
  for (const PlaceWish& wish : std::vector<PlaceWish>{OnDevice{}, Percent{0}}) {
    const ChosenPlaces chosen = choose(wish);
    EXPECT_TRUE(chosen.places.places.empty());
    EXPECT_EQ(chosen.places.prefetch_depth, 0U);
    EXPECT_EQ(chosen.predicted.on_cpu, Bytes{0});
    EXPECT_GT(chosen.predicted.seconds, 0);
  }
}

TEST_F(GenerationPlacement, SharesAreOfTheFeedForwardParts) {
  Bytes before;
  for (const double percent : {30.0, 60.0, 100.0}) {
    const ChosenPlaces chosen = choose(Percent{percent});
    ASSERT_EQ(chosen.places.places.size(), plan_.graph.steps.size());
    EXPECT_GT(chosen.predicted.on_cpu, before) << percent;
    before = chosen.predicted.on_cpu;
    EXPECT_EQ(chosen.places.threads.threads, 3U);
    for (std::size_t i = 0; i < plan_.graph.steps.size(); ++i) {
      const bool feed_forward = is_feed_forward(plan_.graph.steps[i]);
      if (!feed_forward) {
        EXPECT_EQ(chosen.places.places[i], Place::gpu);
      } else if (percent == 100) {
        EXPECT_EQ(chosen.places.places[i], Place::cpu);
      }
    }
  }
}

TEST_F(GenerationPlacement, TheFastestIsNoSlowerThanAnyShare) {
  const double fastest = choose(Fastest{}).predicted.seconds;
  for (double percent = 0; percent <= 100; percent += 10) {
    EXPECT_LE(fastest, choose(Percent{percent}).predicted.seconds) << percent;
  }
  EXPECT_LT(fastest, choose(OnDevice{}).predicted.seconds);
  // Without processors there is no choice.
  rates_.cpu = {};
  EXPECT_TRUE(choose(Fastest{}).places.places.empty());
}

// More tokens read no more weights, but they take processors longer.
TEST_F(GenerationPlacement, SeveralSequencesAreOnePass) {
  for (auto& [type, kernel] : rates_.cpu_kernels) kernel.arithmetic = 1.6e10;
  const double one = choose(Percent{100}).predicted.seconds;
  const Bytes one_on_cpu = choose(Fastest{}).predicted.on_cpu;
  MemoryRequest request = generation_request(4, 16, {.arena = Percent{40}});
  request.sequences = 8;
  plan_ = plan_memory(model_, request);
  EXPECT_GT(choose(Percent{100}).predicted.seconds, 4 * one);
  const ChosenPlaces eight = choose(Fastest{});
  EXPECT_LT(eight.predicted.on_cpu, one_on_cpu);
  EXPECT_EQ(eight.generation.request.batch, 8U);
  for (double percent = 0; percent <= 100; percent += 10) {
    EXPECT_LE(eight.predicted.seconds, choose(Percent{percent}).predicted.seconds) << percent;
  }
}

TEST_F(GenerationPlacement, LinesAreOfBothPhases) {
  const std::vector<std::string> lines = choose(Percent{50}).lines();
  EXPECT_TRUE(lines.front().starts_with("prefill, 4 tokens"));
  EXPECT_TRUE(std::ranges::any_of(
      lines, [](const std::string& line) { return line.starts_with("generation, 1 token"); }));
}

TEST_F(GenerationPlacement, RatesAreThoseOfTheTypesOfFeedForwardParts) {
  const MappedFileStore store(model_.gguf.paths());
  HostThreads threads;
  const MachineRates device{.link = 5e9, .memory = 2e10, .arithmetic = 1e11, .cache = 0};
  const loaders::PlacementRates rates =
      measure_placement_rates(model_, plan_.graph, store, threads, {.device = device});
  EXPECT_GT(rates.link.together, 0);
  EXPECT_EQ(feed_forward_types(model_, plan_.graph),
            (std::vector{loaders::TensorType::q4_k, loaders::TensorType::q6_k}));
  EXPECT_EQ(rates.cpu_kernels.size(), 2U);  // Q4_K, and Q6_K for some of ffn_down
  for (const auto& [type, kernel] : rates.cpu_kernels) {
    EXPECT_GT(kernel.weights, 1e7) << loaders::to_string(type);
    EXPECT_LE(kernel.weights, rates.cpu.alone);
  }
  // The host device is these processors.
  const double q4 = rates.cpu_kernels.at(loaders::TensorType::q4_k).weights;
  const double q6 = rates.cpu_kernels.at(loaders::TensorType::q6_k).weights;
  EXPECT_GE(rates.gpu_memory, std::min(q4, q6));
  EXPECT_LE(rates.gpu_memory, std::max(q4, q6));
  EXPECT_GT(rates.cpu.together, 0);
  EXPECT_LE(rates.cpu.together, rates.cpu.alone);
  EXPECT_LE(rates.link.together, rates.link.alone);
}

// Eight tokens take about as long as one to eight that come one after another; what disturbs one of
// the measurements makes it several times slower.
TEST_F(GenerationPlacement, RatesAreThoseOfSeveralTokens) {
  const MappedFileStore store(model_.gguf.paths());
  HostThreads threads;
  const loaders::PlacementRates rates = measure_placement_rates(
      model_, plan_.graph, store, threads,
      {.device = {.link = 5e9, .memory = 2e10, .arithmetic = 1e11, .cache = 0}, .sequences = 8});
  double least = 1e30;
  double most = 0;
  for (const auto& [type, kernel] : rates.cpu_kernels) {
    // A weight takes two operations, of each token.
    const double weights_per_byte = type == loaders::TensorType::q4_k ? 256.0 / 144 : 256.0 / 210;
    const double one = 2 * weights_per_byte * kernel.weights;
    EXPECT_GT(kernel.arithmetic, one / 5) << loaders::to_string(type);
    EXPECT_LT(kernel.arithmetic, 40 * one) << loaders::to_string(type);
    least = std::min(least, kernel.arithmetic);
    most = std::max(most, kernel.arithmetic);
  }
  // The host device is these processors.
  EXPECT_GE(rates.gpu_arithmetic, least);
  EXPECT_LE(rates.gpu_arithmetic, most);
}

TEST(HostThreads, RunOnTheProcessorsThatWereChosen) {
  const auto allowed = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    EXPECT_EQ(::sched_getaffinity(0, sizeof set, &set), 0);
    return set;
  };
  const cpu_set_t before = allowed();
  std::uint32_t last = 0;
  for (std::uint32_t i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &before)) last = i;
  }
  HostThreads threads({.processors = {last}});
  std::atomic<int> elsewhere = 0;
  const auto look = [&](int) {
    const cpu_set_t now = allowed();
    if (CPU_COUNT(&now) != 1 || !CPU_ISSET(last, &now)) ++elsewhere;
  };
  threads.run([&] { tbb::parallel_for(0, 100, look); });
  EXPECT_EQ(elsewhere, 0);
  const cpu_set_t after = allowed();
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
  EXPECT_THROW(threads.run([] { throw std::runtime_error("in the arena"); }), std::runtime_error);
  const cpu_set_t thrown = allowed();
  EXPECT_TRUE(CPU_EQUAL(&before, &thrown));
}

TEST(WaitUntilReady, ReturnsWhenTheLastPieceWasAnnounced) {
  class Gradual final : public BackingStore {
   public:
    Bytes size() const override { return {100}; }
    void read(Bytes /*offset*/, std::span<std::byte> /*out*/) const override {}
    Subscription announce(std::function<void(ByteRange)> ready) const override {
      ready({{0}, {30}});
      auto thread = std::make_shared<std::thread>([this, ready = std::move(ready)] {
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
        all_ = true;
        ready({{30}, {70}});
      });
      return Subscription([thread] { thread->join(); });
    }
    bool all() const { return all_; }

   private:
    mutable std::atomic<bool> all_ = false;
  };
  const Gradual store;
  wait_until_ready(store);
  EXPECT_TRUE(store.all());
}

}  // namespace
}  // namespace tensor_pager::qwen
