// SPDX-License-Identifier: Apache-2.0
// Several sequences, and one that is kept from call to call: whatever else the batch holds, and
// however its tokens came, a sequence's logits are the same, bit for bit.
#include "qwen/sequences.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "golden_models.hpp"
#include "model_run.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

using Tokens = std::vector<loaders::TokenId>;
using Logits = std::vector<float>;

Tokens slice(const Tokens& tokens, std::size_t first, std::size_t count) {
  const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

TEST(Sequences, AreAsManyAsThereMayBe) {
  Sequences sequences(2, 8);
  const SequenceId a = sequences.begin();
  const SequenceId b = sequences.begin();
  EXPECT_FALSE(a == b);
  EXPECT_EQ(sequences.count(), 2U);
  EXPECT_THROW(sequences.begin(), Error);
  EXPECT_THROW(sequences.fork(a), Error);
  sequences.end(a);
  EXPECT_EQ(sequences.count(), 1U);
  EXPECT_EQ(sequences.fork(b).place, a.place);
}

TEST(Sequences, OneThatHasEndedIsNoLaterOne) {
  Sequences sequences(1, 8);
  const SequenceId first = sequences.begin();
  sequences.end(first);
  const SequenceId second = sequences.begin();
  EXPECT_EQ(first.place, second.place);
  EXPECT_THROW(sequences.tokens(first), std::invalid_argument);
  EXPECT_THROW(sequences.append(first, Tokens{1}), std::invalid_argument);
  EXPECT_THROW(sequences.end(first), std::invalid_argument);
  EXPECT_THROW(sequences.tokens({.place = 7, .number = 1}), std::invalid_argument);
  EXPECT_THROW(sequences.tokens({}), std::invalid_argument);
  EXPECT_TRUE(sequences.tokens(second).empty());
}

TEST(Sequences, ForksHaveTheSameTokensAndGoTheirOwnWay) {
  Sequences sequences(3, 8);
  const SequenceId a = sequences.begin();
  sequences.append(a, Tokens{1, 2, 3});
  const SequenceId b = sequences.fork(a);
  sequences.append(b, Tokens{4});
  sequences.rewind(a, 1);
  EXPECT_THAT(sequences.tokens(a), testing::ElementsAre(1));
  EXPECT_THAT(sequences.tokens(b), testing::ElementsAre(1, 2, 3, 4));
  EXPECT_THROW(sequences.rewind(a, 2), std::invalid_argument);
}

TEST(Sequences, HaveRoomForTheirContext) {
  Sequences sequences(1, 3);
  const SequenceId a = sequences.begin();
  sequences.append(a, Tokens{1, 2});
  EXPECT_NO_THROW(sequences.require_room(a, 1));
  EXPECT_THROW(sequences.require_room(a, 2), Error);
  EXPECT_THROW(sequences.append(a, Tokens{3, 4}), Error);
  sequences.append(a, Tokens{3});
  EXPECT_THROW(sequences.append(a, Tokens{4}), Error);
  EXPECT_THAT(sequences.tokens(a), testing::ElementsAre(1, 2, 3));
}

TEST(Sequences, CommonBeginning) {
  EXPECT_EQ(common_beginning(Tokens{}, Tokens{1}), 0U);
  EXPECT_EQ(common_beginning(Tokens{1, 2, 3}, Tokens{1, 2, 4, 3}), 2U);
  EXPECT_EQ(common_beginning(Tokens{1, 2}, Tokens{1, 2, 3}), 2U);
  EXPECT_EQ(common_beginning(Tokens{2, 1}, Tokens{1, 2}), 0U);
}

/// Three prompts of different lengths, and what follows each.
class SequencesOfModels : public testing::TestWithParam<std::string> {
 protected:
  static constexpr std::size_t kSteps = 4;
  static constexpr std::uint32_t kContext = 40;

  SequencesOfModels() : model_(open_model(test_data("models/" + GetParam() + ".gguf"))) {
    const Tokens all = golden_tokens();
    prompts_ = {slice(all, 0, 7), slice(all, 3, 12), slice(all, 9, 1)};
    for (std::size_t i = 0; i < prompts_.size(); ++i) next_.push_back(slice(all, i, kSteps));
  }

  MemoryRequest request(const RunOptions& options, std::uint32_t sequences) const {
    MemoryRequest request = memory_request(12, options);
    request.context = kContext;
    request.wanted = 1;
    request.sequences = sequences;
    return request;
  }
  Inference inference(const RunOptions& options, std::uint32_t sequences = 3) const {
    Backend backend = host_backend(model_);
    MemoryPlan plan =
        plan_memory(model_, request_for(backend, model_, request(options, sequences)));
    GenerationPlaces places{.places = places_of_layers(plan.graph, options.layers_on_cpu)};
    return Inference(model_, std::move(plan), std::move(backend),
                     {.policy = options.policy, .generation = std::move(places)});
  }
  Logits extend(Inference& inference, SequenceId sequence,
                std::span<const loaders::TokenId> tokens) {
    AllLogits logits(1, model_.config.vocab_size);
    inference.extend(sequence, tokens, logits);
    return logits.values;
  }
  Logits advance(Inference& inference, std::span<const NextToken> next) {
    AllLogits logits(next.size(), model_.config.vocab_size);
    inference.advance(next, logits);
    return logits.values;
  }
  Logits row(const Logits& logits, std::size_t i) const {
    const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(i * model_.config.vocab_size);
    return {begin, begin + model_.config.vocab_size};
  }
  // The logits of each token after its prompt, with nobody else there.
  std::vector<Logits> alone(std::size_t which) {
    Inference inference = this->inference({.arena = Percent{100}}, 1);
    const SequenceId sequence = inference.begin();
    std::vector<Logits> all{extend(inference, sequence, prompts_[which])};
    for (const loaders::TokenId token : next_[which]) {
      const NextToken one{sequence, token};
      all.push_back(advance(inference, {&one, 1}));
    }
    return all;
  }

  Model model_;
  std::vector<Tokens> prompts_;
  std::vector<Tokens> next_;
};

TEST_P(SequencesOfModels, AnswerTogetherAsTheyDoAlone) {
  std::vector<std::vector<Logits>> expected;
  for (std::size_t i = 0; i < prompts_.size(); ++i) expected.push_back(alone(i));
  for (const double share : {100.0, 30.0}) {
    for (const std::uint32_t layers_on_cpu : {0U, 1U, 3U}) {
      SCOPED_TRACE(testing::Message() << share << "%, layers " << layers_on_cpu);
      Inference inference = this->inference(
          {.arena = Percent{share}, .page = KiB(4), .layers_on_cpu = layers_on_cpu});
      std::vector<SequenceId> ids;
      for (std::size_t i = 0; i < prompts_.size(); ++i) {
        ids.push_back(inference.begin());
        EXPECT_TRUE(extend(inference, ids[i], prompts_[i]) == expected[i][0]) << i;
      }
      for (std::size_t step = 0; step < kSteps; ++step) {
        // In another order each time.
        std::vector<std::size_t> order{0, 1, 2};
        std::ranges::rotate(order, order.begin() + static_cast<std::ptrdiff_t>(step % 3));
        std::vector<NextToken> next;
        for (const std::size_t i : order) next.push_back({ids[i], next_[i][step]});
        const Logits logits = advance(inference, next);
        for (std::size_t r = 0; r < order.size(); ++r) {
          EXPECT_TRUE(row(logits, r) == expected[order[r]][step + 1])
              << "step " << step << ", sequence " << order[r];
        }
      }
    }
  }
}

// One ends, another begins in its place while the third goes on.
TEST_P(SequencesOfModels, ComeAndGo) {
  const std::vector<Logits> first = alone(0);
  const std::vector<Logits> second = alone(1);
  Inference inference = this->inference({.arena = Percent{40}}, 2);
  const SequenceId gone = inference.begin();
  const SequenceId kept = inference.begin();
  extend(inference, gone, prompts_[2]);
  extend(inference, kept, prompts_[0]);
  const std::vector<NextToken> both{{gone, 5}, {kept, next_[0][0]}};
  EXPECT_TRUE(row(advance(inference, both), 1) == first[1]);
  inference.end(gone);
  const SequenceId begun = inference.begin();
  EXPECT_TRUE(extend(inference, begun, prompts_[1]) == second[0]);
  const std::vector<NextToken> others{{kept, next_[0][1]}, {begun, next_[1][0]}};
  const Logits logits = advance(inference, others);
  EXPECT_TRUE(row(logits, 0) == first[2]);
  EXPECT_TRUE(row(logits, 1) == second[1]);
  EXPECT_THROW(inference.tokens(gone), std::invalid_argument);
}

TEST_P(SequencesOfModels, ForksGoOnFromWhatTheyShare) {
  const std::vector<Logits> expected = alone(1);
  Inference inference = this->inference({.arena = Percent{40}});
  const SequenceId a = inference.begin();
  extend(inference, a, prompts_[1]);
  const SequenceId b = inference.fork(a);
  const NextToken elsewhere{a, next_[1][0] + 1};
  advance(inference, {&elsewhere, 1});
  const NextToken here{b, next_[1][0]};
  EXPECT_TRUE(advance(inference, {&here, 1}) == expected[1]);
  const SequenceId c = inference.fork(b);
  inference.end(b);
  const std::vector<NextToken> last{{a, 1}, {c, next_[1][1]}};
  EXPECT_TRUE(row(advance(inference, last), 1) == expected[2]);
  NoLogits nowhere;
  EXPECT_THROW(inference.advance(std::vector<NextToken>{{a, 1}, {a, 2}}, nowhere),
               std::invalid_argument);
}

// A second prompt that begins like the first: only the rest is computed, and nothing changes.
TEST_P(SequencesOfModels, ReuseWhatPromptsHaveInCommon) {
  const std::vector<Logits> expected = alone(1);
  for (const std::size_t common : {0, 1, 5, 11, 12}) {
    SCOPED_TRACE(common);
    Inference inference = this->inference({.arena = Percent{40}}, 1);
    const SequenceId sequence = inference.begin();
    Tokens first = slice(prompts_[1], 0, common);
    first.push_back(prompts_[1][std::min<std::size_t>(common, 11)] + 1);
    extend(inference, sequence, first);
    const NextToken answer{sequence, 9};
    advance(inference, {&answer, 1});
    const std::size_t kept = inference.rewind_to_common(sequence, prompts_[1]);
    EXPECT_EQ(kept, std::min<std::size_t>(common, 11));
    const auto rest = std::span<const loaders::TokenId>(prompts_[1]).subspan(kept);
    EXPECT_TRUE(extend(inference, sequence, rest) == expected[0]);
    EXPECT_TRUE(std::ranges::equal(inference.tokens(sequence), prompts_[1]));
  }
}

// A page that is there is not copied again because another prompt comes.
TEST_P(SequencesOfModels, TheNextPromptFindsWhatIsResident) {
  Inference inference = this->inference({.arena = Percent{100}}, 1);
  const SequenceId sequence = inference.begin();
  extend(inference, sequence, prompts_[1]);
  const NextToken answer{sequence, 9};
  advance(inference, {&answer, 1});
  inference.settle();
  const Bytes copied = inference.statistics().link.copied;
  extend(inference, sequence, prompts_[0]);
  inference.settle();
  EXPECT_EQ(inference.statistics().link.copied, copied);
}

// The plan's prefill has 12 tokens: more come in pieces, and which ones makes no difference.
TEST_P(SequencesOfModels, TakeLongPromptsInPieces) {
  Tokens prompt = golden_tokens();
  prompt.resize(20);
  Inference whole = [&] {
    MemoryRequest all = request({.arena = Percent{40}}, 1);
    all.tokens = 20;
    Backend backend = host_backend(model_);
    MemoryPlan plan = plan_memory(model_, request_for(backend, model_, all));
    return Inference(model_, std::move(plan), std::move(backend));
  }();
  const Logits expected = extend(whole, whole.begin(), prompt);
  Inference inference = this->inference({.arena = Percent{40}}, 2);
  EXPECT_TRUE(extend(inference, inference.begin(), prompt) == expected);
  const SequenceId bit_by_bit = inference.begin();
  for (const std::size_t end : {1, 2, 9}) {
    const std::size_t begin = inference.tokens(bit_by_bit).size();
    extend(inference, bit_by_bit, slice(prompt, begin, end - begin));
  }
  EXPECT_TRUE(extend(inference, bit_by_bit, slice(prompt, 9, 11)) == expected);
}

// What fails leaves every sequence as it was, and the next call finds it so.
TEST_P(SequencesOfModels, AreAsBeforeWhenACallFails) {
  const std::vector<Logits> expected = alone(1);
  Inference inference = this->inference({.arena = Percent{40}}, 2);
  const SequenceId sequence = inference.begin();
  extend(inference, sequence, prompts_[1]);
  AllLogits logits(1, model_.config.vocab_size);
  const PassProgress interrupt = [](std::size_t done, std::size_t total) {
    if (done > total / 2) throw std::runtime_error("interrupted");
  };
  // In the second of two pieces.
  EXPECT_THROW(inference.extend(sequence, Tokens(20, 1), logits, interrupt), std::runtime_error);
  EXPECT_TRUE(std::ranges::equal(inference.tokens(sequence), prompts_[1]));
  EXPECT_THROW(inference.extend(sequence, {}, logits), std::invalid_argument);
  EXPECT_THROW(inference.extend(sequence, Tokens(kContext, 1), logits), Error);
  EXPECT_THROW(inference.advance({}, logits), std::invalid_argument);
  const NextToken unknown{sequence, static_cast<loaders::TokenId>(model_.config.vocab_size)};
  EXPECT_THROW(inference.advance({&unknown, 1}, logits), Error);
  for (std::size_t i = 0; i < kSteps; ++i) {
    const NextToken next{sequence, next_[1][i]};
    EXPECT_TRUE(advance(inference, {&next, 1}) == expected[i + 1]) << i;
  }
  const SequenceId full = inference.begin();
  extend(inference, full, Tokens(kContext, 1));
  EXPECT_THROW(inference.advance(std::vector<NextToken>{{sequence, 1}, {full, 1}}, logits), Error);
  EXPECT_EQ(inference.tokens(sequence).size(), prompts_[1].size() + kSteps);
}

// Each sequence's cache and its row of every buffer are part of the budget.
TEST_P(SequencesOfModels, KeepTheBudgetTogether) {
  for (const std::uint32_t sequences : {1U, 2U, 8U}) {
    SCOPED_TRACE(sequences);
    MemoryRequest wish = request({}, sequences);
    wish.tokens = 2;  // so that generation needs more than prefill
    const Bytes minimum = minimum_vram(model_, wish);
    wish.vram = minimum - Bytes{1};
    EXPECT_THROW(plan_memory(model_, wish), MemoryError);
    for (const Bytes vram : {minimum, minimum * 2}) {
      wish.vram = vram;
      Inference inference(model_, plan_memory(model_, wish), host_backend(model_));
      std::vector<NextToken> next;
      for (std::uint32_t i = 0; i < sequences; ++i) {
        next.push_back({inference.begin(), i});
        extend(inference, next.back().sequence, prompts_[i % 3]);
      }
      for (std::size_t count = 1; count <= next.size(); ++count) {
        advance(inference, std::span<const NextToken>(next).first(count));
      }
      extend(inference, next.front().sequence, Tokens{1});
      EXPECT_LE(inference.statistics().memory.peak, vram);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, SequencesOfModels,
                         testing::Values("tiny-qwen2-q4_k_m", "tiny-qwen3-q8_0"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace tensor_pager::qwen
