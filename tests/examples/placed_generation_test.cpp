// SPDX-License-Identifier: Apache-2.0
// Generation of which the processors compute a part: the answer is the same, the pager keeps what
// is left, and failures leave nothing behind. The host device stands for a GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "../edited_model.hpp"
#include "../temporary_directory.hpp"
#include "golden_models.hpp"
#include "loaders/graph.hpp"
#include "loaders/placement.hpp"
#include "model_run.hpp"
#include "pager/mapped_file_store.hpp"
#include "qwen/cpu_operations.hpp"
#include "qwen/error.hpp"
#include "random_model.hpp"

namespace tensor_pager::qwen {
namespace {

using namespace std::chrono_literals;

using loaders::Place;

constexpr std::size_t kPrompt = 4;
constexpr std::size_t kGenerated = 5;

/// A device that lends copies, as a GPU does, and whose own row is worth nothing meanwhile.
class LendingOperations final : public CpuOperations {
 public:
  struct Counts {
    int lent = 0;
    int taken_back = 0;
  };

  explicit LendingOperations(Counts& counts) : counts_(counts) {}

  std::span<float> lend(const kernels::MatrixView& rows) override {
    EXPECT_EQ(counts_.lent, counts_.taken_back) << "one loan at a time";
    ++counts_.lent;
    const std::span<float> lent(rows.data, rows.rows * rows.cols);
    copy_.assign(lent.begin(), lent.end());
    std::ranges::fill(lent, std::numeric_limits<float>::quiet_NaN());
    return copy_;
  }
  void take_back(const kernels::MatrixView& rows) override {
    ++counts_.taken_back;
    std::ranges::copy(copy_, rows.data);
  }

 private:
  Counts& counts_;
  std::vector<float> copy_;
};

std::vector<loaders::TokenId> tokens() {
  std::vector<loaders::TokenId> tokens = golden_tokens();
  tokens.resize(kPrompt + kGenerated);
  return tokens;
}

MemoryPlan plan_of(const Model& model, const Backend& backend, const RunOptions& options) {
  return plan_memory(
      model, request_for(backend, model, generation_request(kPrompt, tokens().size(), options)));
}

std::vector<float> generate(const Model& model, RunOptions options, std::uint32_t mask,
                            unsigned threads = 0) {
  options.layers_on_cpu = mask;
  options.threads = threads;
  return generated_logits(model, tokens(), kPrompt, options);
}

class PlacedGeneration : public testing::TestWithParam<std::string> {
 protected:
  PlacedGeneration() : model_(open_model(path())) {}

  std::filesystem::path path() const {
    if (GetParam().starts_with("tiny")) return test_data("models/" + GetParam() + ".gguf");
    const std::filesystem::path random = directory_ / "model.gguf";
    const std::size_t dash = GetParam().find('-');
    make_gguf::write_random_model(random, {.architecture = GetParam().substr(0, dash),
                                           .type = GetParam().substr(dash + 1),
                                           .seed = 7});
    return random;
  }
  std::uint32_t all_layers() const { return (1U << model_.config.block_count()) - 1; }

  tests::TemporaryDirectory directory_;
  Model model_;
};

TEST_P(PlacedGeneration, NeverChangesAnAnswer) {
  const std::vector<float> expected = generate(model_, {.arena = Percent{100}}, 0);
  ASSERT_TRUE(std::ranges::all_of(expected, [](float x) { return std::isfinite(x); }));
  for (const double share : {100.0, 60.0, 30.0}) {
    for (std::uint32_t mask = 0; mask <= all_layers(); ++mask) {
      EXPECT_TRUE(generate(model_, {.arena = Percent{share}, .page = KiB(4)}, mask) == expected)
          << share << "% of the weights, layers " << mask;
    }
  }
}

TEST_P(PlacedGeneration, PrefetchDepthsNeverChangeAnAnswer) {
  const std::vector<float> expected = generate(model_, {.arena = Percent{100}}, 0);
  for (const std::uint32_t depth : {1U, 4U, 9U, 40U, 100'000U}) {
    for (const double share : {100.0, 40.0}) {
      EXPECT_TRUE(generate(model_,
                           {.arena = Percent{share}, .page = KiB(4), .prefetch_depth = depth},
                           1) == expected)
          << depth << " pages ahead, " << share << "%";
    }
  }
}

TEST_P(PlacedGeneration, HasTheSameBitsInTwentyRunsOnAnyNumberOfThreads) {
  const std::vector<float> expected = generate(model_, {.arena = Percent{40}}, 0);
  for (unsigned run = 0; run < 20; ++run) {
    ASSERT_TRUE(generate(model_, {.arena = Percent{40}}, 1, run % 4) == expected) << run;
  }
}

TEST_P(PlacedGeneration, LendsTheResidualStreamOnceForEachUnit) {
  const std::vector<float> expected = generate(model_, {.arena = Percent{40}}, 0);
  for (std::uint32_t mask = 0; mask <= all_layers(); ++mask) {
    LendingOperations::Counts counts;
    Backend backend = host_backend(model_);
    backend.operations = std::make_unique<LendingOperations>(counts);
    // Steps of a few rows: a unit has many slices.
    MemoryPlan plan = plan_of(model_, backend, {.arena = Percent{40}, .page = KiB(4)});
    plan.graph = loaders::build_graph(model_.gguf, {.max_step_bytes = KiB(8)});
    const loaders::Places places = places_of_layers(plan.graph, mask);
    Inference inference(model_, std::move(plan), std::move(backend),
                        {.generation = {.places = places}});
    EXPECT_TRUE(generated_logits(inference, model_, tokens(), kPrompt) == expected) << mask;
    EXPECT_EQ(counts.lent, __builtin_popcount(mask) * static_cast<int>(kGenerated));
    EXPECT_EQ(counts.taken_back, counts.lent);
  }
}

// Of a token that begins with nothing resident, in an arena that holds everything.
TEST_P(PlacedGeneration, PagesOnlyWhatTheDeviceComputes) {
  for (std::uint32_t mask = 0; mask <= all_layers(); ++mask) {
    Backend backend = host_backend(model_);
    MemoryPlan plan = plan_of(model_, backend, {.arena = Percent{100}, .page = KiB(4)});
    const loaders::Places places = places_of_layers(plan.graph, mask);
    std::set<PageIndex> expected;
    for (std::size_t i = 0; i < places.size(); ++i) {
      if (places[i] == Place::cpu) continue;
      const auto pages = pages_of(plan.layout, loaders::reads(plan.graph.steps[i]));
      expected.insert(pages.begin(), pages.end());
    }
    Inference inference(model_, std::move(plan), std::move(backend),
                        {.generation = {.places = places}});
    AllLogits logits(1, model_.config.vocab_size);
    const std::vector<loaders::TokenId> all = tokens();
    inference.prefill(std::span(all).first(kPrompt), logits);
    inference.decode(1, logits);  // from here on generation's plan counts
    inference.evict_all();
    inference.decode(2, logits);
    inference.settle();
    EXPECT_EQ(inference.statistics().resident_pages, expected.size()) << mask;
    EXPECT_EQ(inference.host_threads() > 0, mask != 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, PlacedGeneration,
                         testing::Values("tiny-qwen2-q4_k_m", "qwen2-q4_k_m", "qwen2-nvfp4",
                                         "qwen3-q4_k_m"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

class PlacedFailures : public testing::Test {
 protected:
  PlacedFailures() {
    make_gguf::write_random_model(directory_ / "m.gguf",
                                  {.architecture = "qwen2", .type = "q4_k_m", .seed = 7});
  }
  tests::EditedModel file() const { return tests::EditedModel(directory_ / "m.gguf"); }

  tests::TemporaryDirectory directory_;
};

// What the error says of a token that is generated with all units on the processors.
std::string failure(const Model& model, const std::function<void()>& before = {}) {
  Backend backend = host_backend(model);
  MemoryPlan plan = plan_of(model, backend, {.arena = Percent{50}, .page = KiB(4)});
  const loaders::Places places = places_of_layers(plan.graph, ~0U);
  Inference inference(model, std::move(plan), std::move(backend),
                      {.generation = {.places = places}});
  // Prefill of a damaged model fails, too: the sequence begins without a prompt.
  AllLogits logits(1, model.config.vocab_size);
  if (before) before();
  try {
    inference.decode(1, logits);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "none";
}

TEST_F(PlacedFailures, WeightsThatAreNoNumbersAreNamed) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"blk.0.ffn_norm.weight", "layer 0 (feed-forward)"},
      {"blk.0.ffn_gate.weight", "layer 0 (feed-forward)"},
      {"blk.1.ffn_down.weight", "layer 1 (feed-forward)"},
      {"blk.1.attn_output.weight", "layer 1 (attention)"},
      {"token_embd.weight", "the token embedding"}};
  for (const auto& [name, where] : cases) {
    tests::EditedModel edited = file();
    std::ranges::fill(edited.tensor(name).data, std::byte{0xff});
    const Model model = open_model(edited.write(directory_ / "nan.gguf"));
    EXPECT_NE(failure(model).find("not numbers after " + where), std::string::npos)
        << name << ": " << failure(model);
    EXPECT_LT(idle_processor_seconds(200ms), 0.05) << "a thread spins";
  }
}

TEST_F(PlacedFailures, AStoreWithoutAddressesIsAnErrorWithARemedy) {
  class Unaddressed final : public BackingStore {
   public:
    explicit Unaddressed(const Model& model) : files_(model.gguf.paths()) {}
    Bytes size() const override { return files_.size(); }
    void read(Bytes offset, std::span<std::byte> out) const override { files_.read(offset, out); }

   private:
    MappedFileStore files_;
  };
  const Model model = open_model(directory_ / "m.gguf");
  Backend backend = host_backend(model);
  backend.store = std::make_shared<Unaddressed>(model);
  MemoryPlan plan = plan_of(model, backend, {});
  const loaders::Places places = places_of_layers(plan.graph, 1);
  Inference inference(model, std::move(plan), std::move(backend),
                      {.generation = {.places = places}});
  AllLogits logits(1, model.config.vocab_size);
  try {
    inference.decode(1, logits);
    FAIL() << "weights that nobody can read were read";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("leave all to the device"), std::string::npos);
  }
  EXPECT_LT(idle_processor_seconds(200ms), 0.05) << "a thread spins";
}

TEST_F(PlacedFailures, PlacesOfAnotherGraphAreRefused) {
  const Model model = open_model(directory_ / "m.gguf");
  Backend backend = host_backend(model);
  MemoryPlan plan = plan_of(model, backend, {});
  loaders::Places places = places_of_layers(plan.graph, 1);
  places.pop_back();
  Inference inference(model, std::move(plan), std::move(backend),
                      {.generation = {.places = places}});
  AllLogits logits(1, model.config.vocab_size);
  EXPECT_THROW(inference.decode(1, logits), std::invalid_argument);
}

}  // namespace
}  // namespace tensor_pager::qwen
