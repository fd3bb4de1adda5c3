// SPDX-License-Identifier: Apache-2.0
#include "loaders/end_of_generation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tokenizer_vocabularies.hpp"

namespace tensor_pager::loaders {
namespace {

using testing::add_merge;
using testing::add_token;
using testing::byte_vocabulary;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(EndOfGeneration, IsWhatTheVocabularyNames) {
  Vocabulary vocabulary = byte_vocabulary();
  EXPECT_THAT(end_of_generation(vocabulary), IsEmpty());
  vocabulary.eos = 7;
  vocabulary.eot = 3;
  vocabulary.eom = 5;
  vocabulary.fim_pad = 9;
  vocabulary.fim_repo = 11;
  vocabulary.fim_separator = 10;
  vocabulary.bos = 1;
  EXPECT_THAT(end_of_generation(vocabulary), ElementsAre(3, 5, 7, 9, 10, 11));
}

TEST(EndOfGeneration, NamesOutsideTheVocabularyEndNothing) {
  Vocabulary vocabulary = byte_vocabulary();
  vocabulary.eos = 255;
  vocabulary.eot = 256;
  vocabulary.eom = UINT32_MAX;
  EXPECT_THAT(end_of_generation(vocabulary), ElementsAre(255));
}

// The vocabulary of Qwen2.5: chat ends with <|im_end|>, and its other ends are not named.
TEST(EndOfGeneration, OfQwenIsChatTextAndFile) {
  Vocabulary vocabulary = testing::qwen25_vocabulary();
  vocabulary.eos = 151645;
  constexpr TokenId kEndOfText = 151643;
  constexpr TokenId kImEnd = 151645;
  constexpr TokenId kFimPad = 151662;
  constexpr TokenId kRepoName = 151663;
  constexpr TokenId kFileSeparator = 151664;
  EXPECT_THAT(end_of_generation(vocabulary),
              ElementsAre(kEndOfText, kImEnd, kFimPad, kRepoName, kFileSeparator));
}

TEST(EndOfGeneration, TextThatMergesMakeIsNoEnd) {
  const Vocabulary qwen = testing::qwen25_vocabulary();
  const auto strike = std::ranges::find(qwen.tokens, "</s>");
  ASSERT_NE(strike, qwen.tokens.end()) << "the closing tag of HTML is a token of Qwen's";
  EXPECT_THAT(end_of_generation(qwen),
              ::testing::Not(::testing::Contains(strike - qwen.tokens.begin())));

  Vocabulary vocabulary = byte_vocabulary();
  const TokenId marker = add_token(vocabulary, "</s>", TokenType::control);
  EXPECT_THAT(end_of_generation(vocabulary), ElementsAre(marker));
  vocabulary.types[marker] = TokenType::normal;  // as badly converted files have it
  EXPECT_THAT(end_of_generation(vocabulary), ElementsAre(marker));
  vocabulary.types.clear();
  EXPECT_THAT(end_of_generation(vocabulary), ElementsAre(marker));
  add_merge(vocabulary, "</s", ">");
  EXPECT_THAT(end_of_generation(vocabulary), IsEmpty());
}

TEST(EndOfGeneration, OfOtherFamiliesIsKnownByItsText) {
  for (const char* text : {"<|eot_id|>", "<|eom_id|>", "<|endoftext|>", "<end_of_turn>", "[EOS]",
                           "<\uFF5Cend\u2581of\u2581sentence\uFF5C>", "<|fim_pad|>", "[PAD]"}) {
    Vocabulary vocabulary = byte_vocabulary();
    add_token(vocabulary, "<|im_start|>", TokenType::control);
    const TokenId end = add_token(vocabulary, text, TokenType::control);
    EXPECT_THAT(end_of_generation(vocabulary), ElementsAre(end)) << text;
  }
}

TEST(EndOfGeneration, HarmonysEndIsOneMessageOfSeveral) {
  Vocabulary vocabulary = byte_vocabulary();
  const TokenId end = add_token(vocabulary, "<|end|>", TokenType::control);
  const TokenId back = add_token(vocabulary, "<|return|>", TokenType::control);
  EXPECT_THAT(end_of_generation(vocabulary), ElementsAre(end, back));
  const TokenId call = add_token(vocabulary, "<|call|>", TokenType::control);
  EXPECT_THAT(end_of_generation(vocabulary), ElementsAre(back, call));
}

}  // namespace
}  // namespace tensor_pager::loaders
