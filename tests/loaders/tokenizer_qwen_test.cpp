// SPDX-License-Identifier: Apache-2.0
// The tokenizer with the whole vocabulary of Qwen2.5.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>

#include "loaders/tokenizer.hpp"
#include "tokenizer_vocabularies.hpp"

namespace tensor_pager::loaders {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Ids = std::vector<TokenId>;

constexpr EncodeOptions kVerbatim{.nfc = false};

class QwenTokenizer : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    tokenizer_ = std::make_unique<Tokenizer>(testing::qwen25_vocabulary());
  }
  static void TearDownTestSuite() { tokenizer_.reset(); }

  static inline std::unique_ptr<const Tokenizer> tokenizer_;
};

char32_t random_character(std::mt19937& random) {
  // Control characters to Hangul and beyond, so that each kind of word and every length of UTF-8
  // character comes up often.
  constexpr std::array<char32_t, 7> kEnds{0x20, 0x80, 0x250, 0x700, 0x3100, 0xD800, 0x110000};
  char32_t character = 0;
  do {
    character = static_cast<char32_t>(random() % kEnds[random() % kEnds.size()]);
  } while (character >= 0xD800 && character < 0xE000);
  return character;
}

void append_utf8(std::string& text, char32_t character) {
  const auto put = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (character < 0x80) return put(character);
  if (character < 0x800) {
    put(0xC0 | character >> 6);
  } else if (character < 0x10000) {
    put(0xE0 | character >> 12);
    put(0x80 | (character >> 6 & 0x3F));
  } else {
    put(0xF0 | character >> 18);
    put(0x80 | (character >> 12 & 0x3F));
    put(0x80 | (character >> 6 & 0x3F));
  }
  put(0x80 | (character & 0x3F));
}

std::string random_text(std::mt19937& random) {
  static const std::vector<std::string> kPieces{
      " ",      "  ",      "\n",   "\r\n", "'s",          "'LL",    "the",    "<|im_start|>",
      "<|im_e", "e\u0301", "1234", "...",  "<tool_call>", "\u180e", "\u3000", "<|im_end|>"};
  std::string text;
  for (auto pieces = random() % 30; pieces > 0; --pieces) {
    if (random() % 2 == 0) {
      append_utf8(text, random_character(random));
    } else {
      text += kPieces[random() % kPieces.size()];
    }
  }
  return text;
}

nlohmann::json golden_texts(const std::string& name) {
  std::ifstream file(TEST_DATA_DIR "/tokenizer/" + name);
  return nlohmann::json::parse(file);
}

TEST_F(QwenTokenizer, ReproducesHuggingFaceOnAllGoldenTexts) {
  const auto golden = golden_texts("qwen2.5-golden.json");
  ASSERT_EQ(golden.size(), 95);
  int composed_texts = 0;
  for (const auto& entry : golden) {
    const auto text = entry.at("text").get<std::string>();
    const Ids ids = tokenizer_->encode(text);
    EXPECT_EQ(ids, entry.at("ids").get<Ids>()) << text;
    // Decoding returns the text, or its NFC form, which is all that the ids have of it.
    const std::string decoded = tokenizer_->decode(ids);
    if (decoded != text) {
      ++composed_texts;
      EXPECT_EQ(tokenizer_->encode(decoded, kVerbatim), ids) << text;
    }
    EXPECT_EQ(tokenizer_->decode(tokenizer_->encode(text, kVerbatim)), text);
  }
  EXPECT_EQ(composed_texts, 2) << "only two of the texts are not in NFC";
}

TEST_F(QwenTokenizer, ReproducesHuggingFaceUnderTheQwen35Rule) {
  Vocabulary vocabulary = testing::qwen25_vocabulary();
  vocabulary.pre = "qwen35";
  const Tokenizer qwen35(vocabulary);
  int different = 0;
  for (const auto& entry : golden_texts("qwen35-rule-golden.json")) {
    const auto text = entry.at("text").get<std::string>();
    EXPECT_EQ(qwen35.encode(text), entry.at("ids").get<Ids>()) << text;
    different += tokenizer_->encode(text) != qwen35.encode(text) ? 1 : 0;
  }
  EXPECT_GE(different, 8) << "texts that the two rules cut alike show nothing";
}

// DeepSeek-R1-Distill-Qwen and others: the same words by another name.
TEST_F(QwenTokenizer, OtherNamesOfTheRuleGiveTheSameIds) {
  for (const char* name : {"deepseek-r1-qwen", "f2llmv2", "kormo", "megrez"}) {
    Vocabulary vocabulary = testing::qwen25_vocabulary();
    vocabulary.pre = name;
    const Tokenizer other(vocabulary);
    for (const auto& entry : golden_texts("qwen2.5-golden.json")) {
      EXPECT_EQ(other.encode(entry.at("text").get<std::string>()), entry.at("ids").get<Ids>());
    }
  }
}

TEST_F(QwenTokenizer, ComposesToNfcOutsideLiteralTokens) {
  EXPECT_EQ(tokenizer_->decode(tokenizer_->encode("e\u0301 \u1100\u1161 \u212B \uFB01")),
            "\u00E9 \uAC00 \u00C5 \uFB01");
  EXPECT_EQ(tokenizer_->encode("e\u0301<|im_end|>\u0301"),
            (Ids{963, 151645, tokenizer_->encode("\u0301").at(0)}));
}

TEST_F(QwenTokenizer, RoundTripsRandomText) {
  std::mt19937 random(20240925);
  for (int i = 0; i < 2000; ++i) {
    const std::string text = random_text(random);
    ASSERT_EQ(tokenizer_->decode(tokenizer_->encode(text, kVerbatim)), text) << "text " << i;
    const Ids ids = tokenizer_->encode(text);
    ASSERT_EQ(tokenizer_->encode(tokenizer_->decode(ids), kVerbatim), ids) << "text " << i;
  }
}

TEST_F(QwenTokenizer, StreamsRandomTextAsValidUtf8) {
  std::mt19937 random(7);
  for (int i = 0; i < 500; ++i) {
    const std::string text = random_text(random);
    StreamDecoder stream(*tokenizer_);
    std::string streamed;
    for (const TokenId id : tokenizer_->encode(text, kVerbatim)) {
      const std::string part = stream.push(id);
      ASSERT_NO_THROW(tokenizer_->encode(part)) << "not UTF-8";
      streamed += part;
    }
    ASSERT_EQ(stream.finish(), "");
    ASSERT_EQ(streamed, text);
  }
}

TEST_F(QwenTokenizer, MatchesAdjacentSpecialTokens) {
  EXPECT_THAT(tokenizer_->encode("<|im_start|><|im_start|><|im_end|><tool_call>"),
              ElementsAre(151644, 151644, 151645, 151657));
  EXPECT_THAT(tokenizer_->encode("<<|endoftext|>>"), ElementsAre(27, 151643, 29));
}

TEST_F(QwenTokenizer, KeepsWhiteSpace) {
  EXPECT_THAT(tokenizer_->encode(""), IsEmpty());
  EXPECT_THAT(tokenizer_->encode(" "), ElementsAre(220));
  EXPECT_THAT(tokenizer_->encode("\n"), ElementsAre(198));
  for (const std::string text :
       {" ", "   ", "\t", "\n\n\n", " \r\n \t", "\u00A0\u3000", "\u2028"}) {
    EXPECT_EQ(tokenizer_->decode(tokenizer_->encode(text)), text);
  }
}

TEST_F(QwenTokenizer, MongolianVowelSeparatorIsNotWhiteSpace) {
  // Ids by Hugging Face tokenizers. As white space it would go with both blanks before it.
  EXPECT_THAT(tokenizer_->encode("a  \u180Eb"), ElementsAre(64, 220, 86089, 254, 236, 65));
}

// Minutes if merging were quadratic in the length of a word, or the pre-tokeniser in the length of
// white space.
TEST_F(QwenTokenizer, HandlesLongWords) {
  constexpr std::size_t kLength = 200'000;
  std::string letters;
  std::mt19937 random(1);
  while (letters.size() < kLength) letters.push_back(static_cast<char>('a' + random() % 26));
  for (const std::string& text :
       {letters, std::string(kLength, 'a'), std::string(kLength, ' '), std::string(kLength, '-'),
        std::string(kLength, ' ') + "x", std::string(kLength, '\n'), std::string(kLength, '<')}) {
    ASSERT_EQ(tokenizer_->decode(tokenizer_->encode(text)), text);
  }
}

}  // namespace
}  // namespace tensor_pager::loaders
