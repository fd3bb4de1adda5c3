// SPDX-License-Identifier: Apache-2.0
// What a run plans to take of its memory, and what it takes: through prefill, the change and
// generation. Operations here need memory of their own, as those of a GPU do.
#include "qwen/memory_plan.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "counting_device.hpp"
#include "model_run.hpp"
#include "qwen/cpu_operations.hpp"

namespace tensor_pager::qwen {
namespace {

using testing::HasSubstr;

constexpr std::uint32_t kPrompt = 24;
constexpr std::uint32_t kGenerated = 2;
constexpr Bytes kPage = KiB(8);

/// How much of what operations need.
struct Needs {
  std::uint64_t base = 40'000;
  std::uint64_t token = 96;     // of the prompt
  std::uint64_t ubatch = 3000;  // a token of it
  std::uint64_t generation = 0;
};

/// Operations of the host whose activations are wider than they have to be, that need scratch
/// memory, and that know what they were given.
class NeedyOperations final : public CpuOperations {
 public:
  NeedyOperations(const Needs& needs, kernels::WeightType cache, std::vector<Bytes>& given)
      : needs_(needs), cache_(cache), given_(given) {}

  kernels::WeightType cache_type() const override { return cache_; }
  Bytes activation_bytes(std::size_t rows, std::size_t cols) const override {
    return {rows * (cols * sizeof(float) + 100)};
  }
  Bytes scratch_bytes(const loaders::ModelConfig& /*config*/, const PassSize& size,
                      std::uint32_t /*context*/, Bytes /*budget*/) const override {
    return scratch(needs_, size);
  }
  void begin_passes(const PassSize& /*size*/, const DeviceBuffer& scratch) override {
    given_.push_back(scratch.size());
  }

  static Bytes scratch(const Needs& needs, const PassSize& size) {
    return {needs.base + needs.token * size.tokens + needs.ubatch * size.ubatch +
            (size.tokens == 1 ? needs.generation : 0)};
  }

 private:
  const Needs needs_;
  const kernels::WeightType cache_;
  std::vector<Bytes>& given_;
};

class MemoryPlanTest : public testing::Test {
 protected:
  MemoryPlanTest() : model_(open_model(test_data("models/tiny-qwen2-q4_k_m.gguf"))) {
    for (std::uint32_t i = 0; i < kPrompt; ++i) tokens_.push_back((i * 97 + 5) % 500);
  }

  Backend backend() {
    Backend backend = host_backend(model_);
    backend.device = std::make_unique<tests::CountingDevice>(std::move(backend.device), held_);
    backend.in_place = nullptr;  // as on a GPU: what is resident is copied
    backend.operations = std::make_unique<NeedyOperations>(needs_, cache_, given_);
    return backend;
  }
  MemoryPlan plan(Bytes vram) { return plan_memory(model_, request(vram)); }
  MemoryRequest request(Bytes vram) {
    operations_ = backend();
    MemoryRequest request;
    request.vram = vram;
    request.page = kPage;
    request.tokens = kPrompt;
    request.context = kPrompt + kGenerated;
    request.arena = arena_;
    request.ubatch = ubatch_;
    return request_for(operations_, model_, request);
  }
  Bytes minimum() {
    try {
      plan(Bytes{1});
    } catch (const MemoryError& error) {
      return error.minimum();
    }
    ADD_FAILURE() << "a byte was enough";
    return {};
  }

  // Keys and values of all positions, by the definition of a cache.
  Bytes cache_bytes(std::uint32_t positions) const {
    const std::uint64_t element = cache_ == kernels::WeightType::f32 ? 4 : 2;
    std::uint64_t bytes = 0;
    for (const loaders::LayerConfig& layer : model_.config.layers) {
      bytes += 2 * element * positions * layer.head_count_kv * model_.config.key_length;
    }
    return {bytes};
  }
  Bytes activations(const PassSize& size) const {
    const NeedyOperations& operations =
        static_cast<const NeedyOperations&>(*operations_.operations);
    return ActivationLayout(model_.config, size,
                            [&](std::size_t rows, std::size_t cols) {
                              return operations.activation_bytes(rows, cols);
                            })
        .bytes();
  }
  Bytes scratch(const PassSize& size) const { return NeedyOperations::scratch(needs_, size); }

  // Both phases, twice, of a run that was planned for `vram`: what it holds is what was planned,
  // and never more than that.
  void expect_within(Bytes vram);

  Model model_;
  std::vector<loaders::TokenId> tokens_;
  Needs needs_;
  kernels::WeightType cache_ = kernels::WeightType::f32;
  std::optional<std::variant<Bytes, Percent>> arena_;
  std::optional<std::uint32_t> ubatch_;
  tests::HeldMemory held_;
  std::vector<Bytes> given_;  // scratch memory, phase by phase
  Backend operations_;        // that were asked by the last plan
};

void MemoryPlanTest::expect_within(Bytes vram) {
  SCOPED_TRACE(testing::Message() << vram.count << " bytes");
  const MemoryPlan planned = plan(vram);
  operations_ = {};
  held_.take_peak();
  given_.clear();
  Inference inference(model_, planned, backend());
  const auto expect_held = [&](Bytes arena, const PassSize& size) {
    EXPECT_EQ(held_.frames(), arena);
    operations_ = backend();
    EXPECT_EQ(held_.buffers(),
              cache_bytes(kPrompt + kGenerated) + activations(size) + given_.back());
    EXPECT_GE(given_.back(), scratch(size));
    EXPECT_LE(held_.take_peak(), vram);
    EXPECT_LE(held_.frames() + held_.buffers(), vram);
  };
  LastLogits logits(1, model_.vocabulary);
  for (int run = 0; run < 2; ++run) {
    if (cache_ == kernels::WeightType::f32) inference.prefill(tokens_, logits);
    expect_held(planned.arena, planned.prefill);
    if (cache_ != kernels::WeightType::f32) return;  // kernels of the host have no such cache
    for (std::uint32_t i = 0; i < kGenerated; ++i) inference.decode(tokens_[i], logits);
    expect_held(planned.decode_arena, {});
  }
}

// The exact minimum, a byte more, just below and at the next page, and up to what holds all.
TEST_F(MemoryPlanTest, EveryPhaseIsWithinTheBudgetAndHoldsWhatWasPlanned) {
  const Bytes least = minimum();
  for (const Bytes more :
       {Bytes{0}, Bytes{1}, kPage - Bytes{1}, kPage, KiB(333), MiB(1), MiB(3), MiB(40)}) {
    expect_within(least + more);
  }
}

TEST_F(MemoryPlanTest, OfACacheOfHalvesTheSizeIsCounted) {
  const Bytes of_floats = minimum();
  cache_ = kernels::WeightType::f16;
  const Bytes least = minimum();
  EXPECT_EQ(of_floats - least, cache_bytes(kPrompt + kGenerated));
  for (const Bytes more : {Bytes{0}, KiB(333), MiB(3)}) expect_within(least + more);
  EXPECT_EQ(plan(least).kv_cache, cache_bytes(kPrompt + kGenerated));
  EXPECT_EQ(plan(least).cache_type, kernels::WeightType::f16);
}

TEST_F(MemoryPlanTest, AByteLessThanTheMinimumFailsWithTheNumber) {
  const Bytes least = minimum();
  EXPECT_NO_THROW(plan(least));
  try {
    plan(least - Bytes{1});
    FAIL() << "a byte less than the minimum was enough";
  } catch (const MemoryError& error) {
    EXPECT_EQ(error.minimum(), least);
    EXPECT_THAT(error.what(), HasSubstr("give --vram " + std::to_string(least.count) + " or more"));
  }
}

// At the minimum everything is as small as it can be.
TEST_F(MemoryPlanTest, TheMinimumIsOfOneTokenAtATime) {
  const MemoryPlan smallest = plan(minimum());
  EXPECT_EQ(smallest.prefill.ubatch, 1U);
  const PassSize size{kPrompt, 1, 1};
  EXPECT_EQ(minimum(),
            smallest.arena + cache_bytes(kPrompt + kGenerated) + activations(size) + scratch(size));
  EXPECT_EQ(smallest.arena,
            tensor_pager::minimum_arena(
                smallest.layout, loaders::access_plan(smallest.graph, {.ubatches = kPrompt})));
}

// Whole pages, as many as are left, as long as more of them hold something.
TEST_F(MemoryPlanTest, NothingIsLeftUnused) {
  for (const Bytes more : {Bytes{0}, KiB(3), KiB(50), KiB(333), MiB(1), MiB(2), MiB(4), MiB(9)}) {
    const Bytes vram = minimum() + more;
    const MemoryPlan p = plan(vram);
    const auto expect_full = [&](Bytes arena, const PassSize& size) {
      const Bytes rest = vram - cache_bytes(p.context) - activations(size) - scratch(size);
      EXPECT_EQ(arena.count % kPage.count, 0U);
      EXPECT_LE(arena, rest);
      const Bytes weights = model_.gguf.image_bytes();
      if (rest < weights) {
        EXPECT_GT(arena + kPage, rest) << to_string(vram);
      } else {
        EXPECT_LE(arena, weights + kPage);
      }
    };
    expect_full(p.arena, p.prefill);
    expect_full(p.decode_arena, {});
    EXPECT_GE(p.decode_arena, p.arena);
  }
}

TEST_F(MemoryPlanTest, AnArenaThatWasAskedForIsKeptInBothPhases) {
  for (const auto& asked : std::vector<std::variant<Bytes, Percent>>{KiB(704) + Bytes{4321},
                                                                     Percent{50}, Percent{100}}) {
    arena_ = asked;
    const Bytes least = minimum();
    const MemoryPlan p = plan(least);
    EXPECT_EQ(p.arena, p.decode_arena);
    if (const Bytes* const bytes = std::get_if<Bytes>(&asked)) {
      EXPECT_EQ(p.arena, kPage * (*bytes / kPage)) << "whole pages";
    }
    for (const Bytes more : {Bytes{0}, KiB(77), MiB(3)}) expect_within(least + more);
    EXPECT_THROW(plan(least - Bytes{1}), MemoryError);
  }
}

TEST_F(MemoryPlanTest, AnUbatchThatWasAskedForIsPaidFor) {
  Bytes before;
  for (const std::uint32_t ubatch : {1U, 7U, kPrompt, 10 * kPrompt}) {
    ubatch_ = ubatch;
    const Bytes least = minimum();
    const MemoryPlan p = plan(least);
    EXPECT_EQ(p.prefill.ubatch, std::min(ubatch, kPrompt));
    EXPECT_GE(least, before);
    before = least;
    expect_within(least);
    EXPECT_THROW(plan(least - Bytes{1}), MemoryError);
  }
}

// Without a wish it is as large as is useful, and takes at most a quarter of the memory for it.
TEST_F(MemoryPlanTest, TheUbatchGrowsWithTheMemory) {
  // It is halved until it fits.
  const std::map<std::uint32_t, std::uint32_t> larger = {{1, 3}, {3, 6}, {6, 12}, {12, 24}};
  std::uint32_t before = 1;
  std::set<std::uint32_t> seen;
  const Bytes least = minimum();
  for (int step = 0; step <= 60; ++step) {
    const Bytes vram = least + KiB(60) * static_cast<std::uint64_t>(step);
    const MemoryPlan p = plan(vram);
    const std::uint32_t ubatch = p.prefill.ubatch;
    EXPECT_GE(ubatch, before) << to_string(vram);
    before = ubatch;
    seen.insert(ubatch);
    const auto beyond_one = [&](std::uint32_t u) {
      const PassSize size{kPrompt, u, 1};
      const PassSize one{kPrompt, 1, 1};
      return activations(size) + scratch(size) - activations(one) - scratch(one);
    };
    EXPECT_LE(4 * beyond_one(ubatch), vram);
    if (ubatch == kPrompt) continue;
    const std::uint32_t next = larger.at(ubatch);
    EXPECT_TRUE(4 * beyond_one(next) > vram || least + beyond_one(next) > vram)
        << next << " at a time would do at " << to_string(vram);
  }
  EXPECT_EQ(before, kPrompt);
  EXPECT_GT(seen.size(), 3U);
  MemoryRequest modest = request(MiB(40));
  modest.useful_ubatch = 8;
  EXPECT_EQ(plan_memory(model_, modest).prefill.ubatch, 8U);
}

TEST_F(MemoryPlanTest, ALongerContextTakesItsPlace) {
  const auto with_context = [&](std::uint32_t context) {
    MemoryRequest r = request(minimum() + MiB(1));
    r.context = context;
    return plan_memory(model_, r);
  };
  const MemoryPlan shorter = with_context(kPrompt + kGenerated);
  const MemoryPlan longer = with_context(kPrompt + kGenerated + 64);
  EXPECT_EQ(longer.context, kPrompt + kGenerated + 64);
  EXPECT_EQ(longer.kv_cache - shorter.kv_cache, cache_bytes(64));
  const Bytes difference = shorter.decode_arena - longer.decode_arena;
  EXPECT_LE(difference, cache_bytes(64) + kPage);
  EXPECT_GE(difference + kPage, cache_bytes(64));
}

TEST_F(MemoryPlanTest, SequencesAreWithinTheBudgetHoweverManyAdvance) {
  constexpr std::uint32_t kSequences = 5;
  for (const std::uint64_t generation : {0, 300'000}) {
    needs_.generation = generation;
    const auto planned = [&](Bytes vram) {
      MemoryRequest r = request(vram);
      r.sequences = kSequences;
      r.context = kPrompt + kSequences;
      return plan_memory(model_, r);
    };
    Bytes least;
    try {
      planned(Bytes{1});
    } catch (const MemoryError& error) {
      least = error.minimum();
    }
    for (const Bytes more : {Bytes{0}, KiB(333), MiB(2)}) {
      const MemoryPlan p = planned(least + more);
      EXPECT_EQ(p.kv_cache, kSequences * cache_bytes(kPrompt + kSequences));
      operations_ = {};
      held_.take_peak();
      Inference inference(model_, p, backend());
      LastLogits logits(1, model_.vocabulary);
      std::vector<NextToken> next;
      for (std::uint32_t i = 0; i < kSequences; ++i) {
        next.push_back({inference.begin(), i});
        // Prompts of all lengths.
        inference.extend(next.back().sequence, std::span(tokens_).first(i == 0 ? kPrompt : i),
                         logits);
        LastLogits all(i + 1, model_.vocabulary);
        inference.advance(next, all);
        EXPECT_LE(held_.take_peak(), least + more) << i + 1 << " sequences";
        const std::uint32_t count = i + 1;
        EXPECT_GE(given_.back(), scratch({count, count, count}));
      }
    }
    EXPECT_THROW(planned(least - Bytes{1}), MemoryError);
  }
}

// Operations may need more for one token than for many: attention over a long cache is split.
TEST_F(MemoryPlanTest, GenerationMayNeedMoreThanThePrompt) {
  needs_.generation = 900'000;
  const Bytes least = minimum();
  for (const Bytes more : {Bytes{0}, kPage, MiB(1), MiB(3)}) {
    expect_within(least + more);
  }
  arena_ = Percent{50};
  expect_within(minimum());
  EXPECT_THROW(plan(minimum() - Bytes{1}), MemoryError);
}

}  // namespace
}  // namespace tensor_pager::qwen
