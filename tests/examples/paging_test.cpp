// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "../temporary_directory.hpp"
#include "model_run.hpp"
#include "pager/host_device.hpp"
#include "random_model.hpp"

namespace tensor_pager::qwen {
namespace {

// Several models, each with the logits of a run in which everything stays resident.
class PagingTest : public testing::TestWithParam<std::string> {
 protected:
  PagingTest() : model_(open_model(path())) {
    for (std::uint32_t i = 0; i < 20; ++i) tokens_.push_back((i * 97 + 5) % 500);
    undisturbed_ = prompt_logits(model_, tokens_, {.arena = Percent{100}});
  }

  std::filesystem::path path() const {
    if (GetParam() != "random") return test_data("models/" + GetParam() + ".gguf");
    const std::filesystem::path random = directory_ / "model.gguf";
    make_gguf::write_random_model(random, {.architecture = "qwen3", .type = "q5_k_m", .seed = 7});
    return random;
  }

  Bytes minimum_arena(Bytes page) const {
    try {
      plan_memory(model_, memory_request(tokens_.size(), {.arena = Bytes{0}, .page = page}));
    } catch (const MemoryError& error) {
      return error.minimum();
    }
    ADD_FAILURE() << "an arena of no bytes was accepted";
    return {};
  }

  void expect_undisturbed(const RunOptions& options) const {
    // Bit for bit, hence no tolerance.
    EXPECT_TRUE(prompt_logits(model_, tokens_, options) == undisturbed_);
  }

  tests::TemporaryDirectory directory_;
  Model model_;
  std::vector<loaders::TokenId> tokens_;
  std::vector<float> undisturbed_;
};

TEST_P(PagingTest, NeverChangesAnAnswer) {
  for (const Bytes page : {KiB(4), KiB(64)}) {
    const std::vector<std::variant<Bytes, Percent>> arenas = {Percent{100}, Percent{60},
                                                              Percent{30}, minimum_arena(page)};
    for (std::size_t arena = 0; arena < arenas.size(); ++arena) {
      for (const std::uint32_t window : {0U, 3U, kWholePass}) {  // 0 is plain LRU
        SCOPED_TRACE(testing::Message()
                     << "page " << page.count << " arena " << arena << " lookahead " << window);
        expect_undisturbed(
            {.arena = arenas[arena], .page = page, .ubatch = 7, .policy = {.window = window}});
      }
    }
  }
}

TEST_P(PagingTest, UbatchesNeverChangeAnAnswer) {
  for (const std::uint32_t ubatch : {1U, 3U, 16U, 20U, 512U}) {
    SCOPED_TRACE(ubatch);
    expect_undisturbed({.arena = Percent{50}, .ubatch = ubatch});
  }
}

TEST_P(PagingTest, ArenaThatChangesMeanwhileNeverChangesAnAnswer) {
  EXPECT_EQ(
      runs_disturbed_by_arena(model_, tokens_, {.arena = Percent{50}, .page = KiB(4)}, 15, MiB(8)),
      0);
}

TEST_P(PagingTest, CopiesEachPageOnceWhenAllFit) {
  const MemoryRequest request =
      memory_request(tokens_.size(), {.arena = Percent{100}, .ubatch = 3});
  Inference inference(model_, plan_memory(model_, request), host_backend(model_));
  AllLogits logits(tokens_.size(), model_.config.vocab_size);
  inference.prefill(tokens_, logits);
  inference.prefill(tokens_, logits);
  const Statistics statistics = inference.statistics();
  EXPECT_EQ(statistics.core.evictions, 0U);
  EXPECT_EQ(statistics.core.loads, statistics.resident_pages);
  EXPECT_TRUE(logits.values == undisturbed_);
}

// Prefill, generation, and the memory given back in between, all within the budget.
TEST_P(PagingTest, KeepsTheBudgetThroughBothPhases) {
  MemoryRequest request = memory_request(tokens_.size(), {});
  request.context = static_cast<std::uint32_t>(tokens_.size()) + 4;
  const Bytes minimum = minimum_vram(model_, request);
  for (const Bytes vram : {minimum, minimum + KiB(700), minimum * 2, GiB(1)}) {
    SCOPED_TRACE(vram.count);
    request.vram = vram;
    Inference inference(model_, plan_memory(model_, request), host_backend(model_));
    AllLogits logits(tokens_.size(), model_.config.vocab_size);
    inference.prefill(tokens_, logits);
    EXPECT_TRUE(logits.values == undisturbed_);
    LastLogits last(1, model_.config.vocab_size);
    for (loaders::TokenId token = 0; token < 4; ++token) inference.decode(token, last);
    EXPECT_THROW(inference.decode(4, last), Error);  // the context is full
    EXPECT_LE(inference.statistics().memory.peak, vram);
    inference.prefill(tokens_, logits);  // and back to the first phase
    EXPECT_TRUE(logits.values == undisturbed_);
    EXPECT_LE(inference.statistics().memory.peak, vram);
  }
  request.vram = minimum - Bytes{1};
  EXPECT_THROW(plan_memory(model_, request), MemoryError);
}

// One token less in the prompt and one token decoded give the logits of the whole prompt.
TEST_P(PagingTest, DecodingContinuesThePrompt) {
  MemoryRequest request = memory_request(tokens_.size(), {.arena = Percent{40}});
  request.tokens -= 1;
  request.wanted = 1;
  Inference inference(model_, plan_memory(model_, request), host_backend(model_));
  LastLogits last(1, model_.config.vocab_size);
  inference.prefill(std::span(tokens_).first(tokens_.size() - 1), last);
  inference.decode(tokens_.back(), last);
  const std::vector<float> logits(last.values().begin(), last.values().end());
  const std::vector<float> expected(undisturbed_.end() - model_.config.vocab_size,
                                    undisturbed_.end());
  EXPECT_TRUE(logits == expected);
}

INSTANTIATE_TEST_SUITE_P(Models, PagingTest,
                         testing::Values("tiny-qwen2-q4_k_m", "tiny-qwen3-q8_0", "random"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace tensor_pager::qwen
