// SPDX-License-Identifier: Apache-2.0
#include "loaders/tokenizer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "loaders/metadata.hpp"
#include "tokenizer_vocabularies.hpp"

namespace tensor_pager::loaders {
namespace {

using namespace std::string_literals;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::ThrowsMessage;
using Ids = std::vector<TokenId>;
using testing::add_merge;
using testing::add_token;
using testing::byte_vocabulary;

auto throws(const std::string& part) {
  return ThrowsMessage<TokenizerError>(AllOf(HasSubstr(part), Not(HasSubstr("\n"))));
}

/// Merging as the algorithm is defined: always the best pair, leftmost first, until none is left.
Ids merge_naively(const Vocabulary& vocabulary, std::string_view word) {
  std::vector<std::string> parts;
  for (const char c : word) parts.push_back(testing::in_alphabet({&c, 1}));
  for (;;) {
    const auto& merges = vocabulary.merges;
    auto best = merges.end();
    std::size_t where = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto merge = std::find(merges.begin(), best, parts[i] + ' ' + parts[i + 1]);
      if (merge != best) {
        best = merge;
        where = i;
      }
    }
    if (best == merges.end()) break;
    parts[where] += parts[where + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(where) + 1);
  }
  Ids ids;
  for (const std::string& part : parts) {
    const auto token = std::ranges::find(vocabulary.tokens, part);
    ids.push_back(static_cast<TokenId>(token - vocabulary.tokens.begin()));
  }
  return ids;
}

TEST(TokenizerMerges, AgreeWithTheDefinitionOnRandomVocabularies) {
  std::mt19937 random(42);
  for (int round = 0; round < 40; ++round) {
    Vocabulary vocabulary = byte_vocabulary();
    std::vector<std::string> known{"a", "b", "c"};
    for (int i = 0; i < 40; ++i) {
      const std::string left = known[random() % known.size()];
      const std::string right = known[random() % known.size()];
      if (left.size() + right.size() > 6) continue;
      add_merge(vocabulary, left, right);
      known.push_back(left + right);
    }
    const Tokenizer tokenizer(vocabulary);
    for (int i = 0; i < 30; ++i) {
      std::string word(random() % 60, 'a');
      for (char& c : word) c = static_cast<char>('a' + random() % 3);
      ASSERT_EQ(tokenizer.encode(word), merge_naively(vocabulary, word)) << word;
    }
  }
}

TEST(TokenizerMerges, TakeTheBestRankThenTheLeftmost) {
  Vocabulary vocabulary = byte_vocabulary();
  const TokenId bc = add_merge(vocabulary, "b", "c");
  const TokenId ab = add_merge(vocabulary, "a", "b");
  const TokenId aa = add_merge(vocabulary, "a", "a");
  const Tokenizer tokenizer(vocabulary);
  EXPECT_THAT(tokenizer.encode("abc"), ElementsAre('a', bc));
  EXPECT_THAT(tokenizer.encode("aab"), ElementsAre('a', ab));
  EXPECT_THAT(tokenizer.encode("aaa"), ElementsAre(aa, 'a'));
}

TEST(TokenizerMerges, FirstOfEqualMergesCounts) {
  Vocabulary vocabulary = byte_vocabulary();
  const TokenId ab = add_merge(vocabulary, "a", "b");
  add_merge(vocabulary, "b", "c");
  add_merge(vocabulary, "a", "b");
  EXPECT_THAT(Tokenizer(vocabulary).encode("abc"), ElementsAre(ab, 'c'));
}

TEST(TokenizerMerges, StopAtWordBoundaries) {
  Vocabulary vocabulary = byte_vocabulary();
  add_merge(vocabulary, "1", "2");
  add_merge(vocabulary, "a", " ");
  const TokenId space_a = add_merge(vocabulary, " ", "a");
  EXPECT_THAT(Tokenizer(vocabulary).encode("12a a"), ElementsAre('1', '2', 'a', space_a));
}

/// The tokens of `text` where `left` and `right`, one character each, merge if they are in one
/// word.
std::size_t tokens_of_pair(const std::string& pre, const std::string& left,
                           const std::string& right) {
  Vocabulary vocabulary = byte_vocabulary();
  vocabulary.pre = pre;
  for (const std::string& character : {left, right}) {
    for (std::size_t i = 1; i < character.size(); ++i) {
      add_merge(vocabulary, character.substr(0, i), character.substr(i, 1));
    }
  }
  add_merge(vocabulary, left, right);
  return Tokenizer(vocabulary).encode(left + right, {.nfc = false}).size();
}

TEST(PreTokenizers, MarksArePartsOfWordsInQwen35) {
  const std::string ka = "\u0915";      // a letter
  const std::string vowel = "\u093F";   // a mark
  const std::string accent = "\u0301";  // likewise
  for (const char* name : {"qwen2", "deepseek-r1-qwen", "f2llmv2", "kormo", "megrez"}) {
    SCOPED_TRACE(name);
    EXPECT_EQ(tokens_of_pair(name, ka, vowel), 2);
    EXPECT_EQ(tokens_of_pair(name, accent, "!"), 1);
    EXPECT_EQ(tokens_of_pair(name, "1", "2"), 2);
  }
  EXPECT_EQ(tokens_of_pair("qwen35", ka, vowel), 1);
  EXPECT_EQ(tokens_of_pair("qwen35", vowel, ka), 1);
  EXPECT_EQ(tokens_of_pair("qwen35", accent, "!"), 2);
  EXPECT_EQ(tokens_of_pair("qwen35", "!", accent), 1);
  EXPECT_EQ(tokens_of_pair("qwen35", "1", accent), 2);
  EXPECT_EQ(tokens_of_pair("qwen35", "1", "2"), 2);
}

TEST(TokenizerLiterals, MatchLeftmostThenLongest) {
  Vocabulary vocabulary = byte_vocabulary();
  const TokenId shorter = add_token(vocabulary, "<x>", TokenType::control);
  const TokenId longer = add_token(vocabulary, "<x>y", TokenType::user_defined);
  const TokenId later = add_token(vocabulary, "x>yz", TokenType::control);
  const Tokenizer tokenizer(vocabulary);
  EXPECT_THAT(tokenizer.encode("<x><x>yz<x"), ElementsAre(shorter, longer, 'z', '<', 'x'));
  EXPECT_THAT(tokenizer.encode("x>yz"), ElementsAre(later));
}

TEST(TokenizerLiterals, EmptyUnusedAndUnknownTokensNeverMatch) {
  Vocabulary vocabulary = byte_vocabulary();
  add_token(vocabulary, "", TokenType::control);
  add_token(vocabulary, "[PAD]", TokenType::unused);
  add_token(vocabulary, "<unk>", TokenType::unknown);
  const Tokenizer tokenizer(vocabulary);
  EXPECT_EQ(tokenizer.encode("[PAD]<unk>").size(), 10);
  EXPECT_EQ(tokenizer.bytes(257), "[PAD]");
}

TEST(TokenizerLiterals, ControlTokensCanBePlainTextAndHidden) {
  Vocabulary vocabulary = byte_vocabulary();
  const TokenId control = add_token(vocabulary, "<c>", TokenType::control);
  const TokenId user = add_token(vocabulary, "<u>", TokenType::user_defined);
  const Tokenizer tokenizer(vocabulary);
  EXPECT_THAT(tokenizer.encode("<c><u>", {.parse_control = false}),
              ElementsAre('<', 'c', '>', user));
  const Ids ids{control, 'a', user};
  EXPECT_EQ(tokenizer.decode(ids), "<c>a<u>");
  EXPECT_EQ(tokenizer.decode(ids, {.render_control = false}), "a<u>");
}

TEST(Tokenizer, AddsBosWhenTheVocabularyAsks) {
  Vocabulary vocabulary = byte_vocabulary();
  vocabulary.bos = add_token(vocabulary, "<s>", TokenType::control);
  vocabulary.eos = 0;
  EXPECT_THAT(Tokenizer(vocabulary).encode("a"), ElementsAre('a'));
  EXPECT_FALSE(Tokenizer(vocabulary).adds_bos());
  vocabulary.add_bos = true;
  const Tokenizer tokenizer(vocabulary);
  EXPECT_THAT(tokenizer.encode("a"), ElementsAre(256, 'a'));
  EXPECT_THAT(tokenizer.encode(""), ElementsAre(256));
  EXPECT_THAT(tokenizer.encode("a", {.add_bos = false}), ElementsAre('a'));
  EXPECT_EQ(tokenizer.bos(), TokenId{256});
  EXPECT_EQ(tokenizer.eos(), TokenId{0});
  EXPECT_TRUE(tokenizer.adds_bos());
}

TEST(Tokenizer, TypesMayBeAbsent) {
  Vocabulary vocabulary = byte_vocabulary();
  vocabulary.types.clear();
  EXPECT_THAT(Tokenizer(vocabulary).encode("a"), ElementsAre('a'));
}

TEST(Tokenizer, TokensOutsideTheAlphabetDecodeToThemselves) {
  Vocabulary vocabulary = byte_vocabulary();
  for (const char* text : {"\u65E5", "\u0144", "a b", "\xC4", "\xC4z"}) {
    const TokenId id = add_token(vocabulary, text, TokenType::normal);
    EXPECT_EQ(Tokenizer(vocabulary).bytes(id), text);
  }
}

TEST(Tokenizer, EveryByteSurvives) {
  const Tokenizer tokenizer(byte_vocabulary());
  for (TokenId byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(tokenizer.bytes(byte), std::string(1, static_cast<char>(byte)));
  }
}

TEST(Tokenizer, RefusesIdsOutsideTheVocabulary) {
  const Tokenizer tokenizer(byte_vocabulary());
  const Ids ids{'a', 256};
  EXPECT_THAT([&] { tokenizer.decode(ids); }, throws("token id 256 is outside the vocabulary"));
  EXPECT_THAT([&] { tokenizer.bytes(UINT32_MAX); }, throws("4294967295"));
}

TEST(Tokenizer, NamesAByteThatTheVocabularyLacks) {
  Vocabulary vocabulary;
  add_token(vocabulary, "a", TokenType::normal);
  const Tokenizer tokenizer(vocabulary);
  EXPECT_THAT(tokenizer.encode("aa"), ElementsAre(0, 0));
  EXPECT_THAT([&] { tokenizer.encode("ab"); }, throws("no token for byte 0x62"));
  EXPECT_THAT([&] { tokenizer.encode("a\n"); }, throws("word \"\\n\""));
}

struct BadText {
  const char* name;
  std::string text;
  std::size_t offset;
};

class BadUtf8 : public ::testing::TestWithParam<BadText> {};

TEST_P(BadUtf8, IsRefusedWithItsOffset) {
  const Tokenizer tokenizer(byte_vocabulary());
  const std::string offset = "offset " + std::to_string(GetParam().offset) + " of";
  EXPECT_THAT([&] { tokenizer.encode(GetParam().text); }, throws("not UTF-8"));
  EXPECT_THAT([&] { tokenizer.encode(GetParam().text); }, throws(offset));
}

INSTANTIATE_TEST_SUITE_P(
    Texts, BadUtf8,
    ::testing::Values(
        BadText{"LoneContinuation", "abc\x80", 3}, BadText{"NeverUsedByte", "\xFF", 0},
        BadText{"Latin1", "na\xEFve text", 2}, BadText{"OverlongTwo", "a\xC0\x80", 1},
        BadText{"OverlongThree", "\xE0\x9F\xBF", 0}, BadText{"OverlongFour", "\xF0\x8F\xBF\xBF", 0},
        BadText{"Surrogate", "ab\xED\xA0\x80", 2}, BadText{"BeyondUnicode", "\xF4\x90\x80\x80", 0},
        BadText{"FiveBytes", "\xF8\x88\x80\x80\x80", 0}, BadText{"CutTwo", "0123456789\xC3", 10},
        BadText{"CutThree", "x\xE2\x82", 1}, BadText{"CutFour", "\xF0\x9F\x91", 0},
        BadText{"CutByAscii", "\xE2\x82 and more", 0},
        BadText{"AfterGoodOnes", "\u00E9\u65E5\U0001F44D\xBF", 9},
        BadText{"InsideLiteral", "01234567\xFE 1234567", 8}),
    [](const auto& instance) { return instance.param.name; });

TEST(Utf8, AcceptsTheLimitsOfEachLength) {
  const Tokenizer tokenizer(byte_vocabulary());
  const std::string text = "\0\x7F\u0080\u07FF\u0800\uD7FF\uE000\uFFFF\U00010000\U0010FFFF"s;
  ASSERT_EQ(text.size(), 26);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, {.nfc = false})), text);
}

struct Stream {
  const char* name;
  std::string bytes;
  std::vector<std::string> pushed;  // what comes out for each byte
  std::string finished;
};

class StreamDecoding : public ::testing::TestWithParam<Stream> {};

TEST_P(StreamDecoding, HoldsBackHalfCharacters) {
  const Tokenizer tokenizer(byte_vocabulary());
  StreamDecoder stream(tokenizer);
  for (int repeat = 0; repeat < 2; ++repeat) {  // finish() must leave it as new
    std::vector<std::string> pushed;
    for (const char c : GetParam().bytes)
      pushed.push_back(stream.push(static_cast<unsigned char>(c)));
    EXPECT_EQ(pushed, GetParam().pushed);
    EXPECT_EQ(stream.finish(), GetParam().finished);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Bytes, StreamDecoding,
    ::testing::Values(Stream{"Ascii", "ab", {"a", "b"}, ""},
                      Stream{"Two", "\u00E9", {"", "\u00E9"}, ""},
                      Stream{"Four", "\U0001F44D", {"", "", "", "\U0001F44D"}, ""},
                      Stream{"Cut", "a\xF0\x9F\x91", {"a", "", "", ""}, "\uFFFD"},
                      Stream{"BrokenOff", "\xE2\x82z", {"", "", "\uFFFDz"}, ""},
                      Stream{
                          "BrokenOffByLead", "\xE2\x82\xC3\xA9", {"", "", "\uFFFD", "\u00E9"}, ""},
                      Stream{"Surrogate", "\xED\xA0\x80", {"", "\uFFFD\uFFFD", "\uFFFD"}, ""},
                      Stream{"NeverUsed", "\xFFz", {"\uFFFD", "z"}, ""}),
    [](const auto& instance) { return instance.param.name; });

TEST(StreamDecoder, LeavesControlTokensOutOnRequest) {
  Vocabulary vocabulary = byte_vocabulary();
  const TokenId control = add_token(vocabulary, "<c>", TokenType::control);
  const Tokenizer tokenizer(vocabulary);
  StreamDecoder stream(tokenizer, {.render_control = false});
  EXPECT_EQ(stream.push(0xC3), "");
  EXPECT_EQ(stream.push(control), "");
  EXPECT_EQ(stream.push(0xA9), "\u00E9");
  EXPECT_THAT([&] { stream.push(257); }, throws("token id 257"));
}

struct BadVocabulary {
  const char* name;
  void (*spoil)(Vocabulary&);
  std::string message;
};

class VocabularyErrors : public ::testing::TestWithParam<BadVocabulary> {};

TEST_P(VocabularyErrors, AreNamed) {
  Vocabulary vocabulary = byte_vocabulary();
  add_merge(vocabulary, "a", "b");
  ASSERT_NO_THROW(Tokenizer{vocabulary});
  GetParam().spoil(vocabulary);
  EXPECT_THAT([&] { Tokenizer tokenizer(vocabulary); }, throws(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Fields, VocabularyErrors,
    ::testing::Values(
        BadVocabulary{"Model", [](Vocabulary& v) { v.model = "llama"; },
                      "unknown tokenizer model \"llama\""},
        BadVocabulary{"Pre", [](Vocabulary& v) { v.pre = "gpt-5"; },
                      "unknown pre-tokeniser \"gpt-5\" (tokenizer.ggml.pre); supported: qwen2"},
        BadVocabulary{"DuplicateToken",
                      [](Vocabulary& v) { add_token(v, "a", TokenType::control); },
                      "tokens 97 and 257 (tokenizer.ggml.tokens) are both \"a\""},
        BadVocabulary{"DuplicateLine",
                      [](Vocabulary& v) {
                        add_token(v, "\n\x1B[2J" + std::string(100, 'x'), TokenType::control);
                        v.tokens.push_back(v.tokens.back());
                        v.types.push_back(TokenType::normal);
                      },
                      "are both \"\\n\\x1b[2Jxxx"},
        BadVocabulary{"TypeCount", [](Vocabulary& v) { v.types.pop_back(); },
                      "257 tokens but 256 types"},
        BadVocabulary{"TypeValue", [](Vocabulary& v) { v.types[3] = TokenType{7}; },
                      "token 3 has type 7"},
        BadVocabulary{"Bos", [](Vocabulary& v) { v.bos = 257; }, "bos_token_id is token 257"},
        BadVocabulary{"Eos", [](Vocabulary& v) { v.eos = UINT32_MAX; }, "eos_token_id is token"},
        BadVocabulary{"AddBosWithoutBos", [](Vocabulary& v) { v.add_bos = true; },
                      "no tokenizer.ggml.bos_token_id"},
        BadVocabulary{"MergeLeft", [](Vocabulary& v) { v.merges.push_back("zz a"); },
                      "merge 1 (tokenizer.ggml.merges), \"zz a\", needs token \"zz\""},
        BadVocabulary{"MergeRight", [](Vocabulary& v) { v.merges.push_back("a zz"); },
                      "needs token \"zz\""},
        BadVocabulary{"MergeResult", [](Vocabulary& v) { v.merges.push_back("a c"); },
                      "needs token \"ac\""},
        BadVocabulary{"MergeWithoutSpace", [](Vocabulary& v) { v.merges.push_back("ab"); },
                      "merge 1 (tokenizer.ggml.merges) is \"ab\", not two tokens"},
        BadVocabulary{"MergeOfThree", [](Vocabulary& v) { v.merges.push_back("a b c"); },
                      "not two tokens"},
        BadVocabulary{"MergeWithoutRight", [](Vocabulary& v) { v.merges.push_back("a "); },
                      "not two tokens"},
        BadVocabulary{"EmptyMerge", [](Vocabulary& v) { v.merges.push_back(""); },
                      "not two tokens"}),
    [](const auto& instance) { return instance.param.name; });

MetadataArray string_array(std::initializer_list<std::string_view> strings) {
  StringArray array;
  for (const std::string_view text : strings) array.push_back(text);
  return MetadataArray(std::move(array));
}

MetadataArray int32_array(const std::vector<std::int32_t>& numbers) {
  PackedElements bytes(numbers.size() * sizeof(std::int32_t));
  std::memcpy(bytes.data(), numbers.data(), bytes.size());
  return MetadataArray(MetadataType::int32, std::move(bytes));
}

Metadata vocabulary_metadata(std::vector<std::int32_t> types) {
  Metadata metadata("model.gguf");
  const auto put = [&](const char* key, MetadataValue value) {
    metadata.insert(std::string("tokenizer.ggml.") + key, {.value = std::move(value)});
  };
  put("model", std::string("gpt2"));
  put("pre", std::string("qwen2"));
  put("tokens", string_array({"a", "b", "ab", "<s>"}));
  put("token_type", int32_array(types));
  put("merges", string_array({"a b"}));
  put("bos_token_id", std::uint32_t{3});
  put("add_bos_token", true);
  return metadata;
}

TEST(ReadVocabulary, TakesAllFields) {
  const auto vocabulary = read_vocabulary(vocabulary_metadata({1, 1, 1, 3}));
  ASSERT_TRUE(vocabulary);
  EXPECT_EQ(vocabulary->bos, TokenId{3});
  EXPECT_EQ(vocabulary->eos, std::nullopt);
  EXPECT_THAT(Tokenizer(*vocabulary).encode("abb<s>"), ElementsAre(3, 2, 1, 3));
}

TEST(ReadVocabulary, TakesTheTokensThatEndGeneration) {
  Metadata metadata = vocabulary_metadata({1, 1, 1, 3});
  std::uint32_t id = 10;
  for (const char* name : {"eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep"}) {
    metadata.insert(std::string("tokenizer.ggml.") + name + "_token_id", {.value = id++});
  }
  const auto vocabulary = read_vocabulary(metadata);
  ASSERT_TRUE(vocabulary);
  EXPECT_EQ(vocabulary->eos, TokenId{10});
  EXPECT_EQ(vocabulary->eot, TokenId{11});
  EXPECT_EQ(vocabulary->eom, TokenId{12});
  EXPECT_EQ(vocabulary->fim_pad, TokenId{13});
  EXPECT_EQ(vocabulary->fim_repo, TokenId{14});
  EXPECT_EQ(vocabulary->fim_separator, TokenId{15});
}

TEST(ReadVocabulary, IsNothingForModelsWithout) {
  Metadata metadata;
  EXPECT_EQ(read_vocabulary(metadata), std::nullopt);
  metadata.insert("tokenizer.ggml.model", {.value = std::string("no_vocab")});
  EXPECT_EQ(read_vocabulary(metadata), std::nullopt);
}

TEST(ReadVocabulary, RefusesUnknownTypes) {
  EXPECT_THAT(
      [] {
        read_vocabulary(vocabulary_metadata({1, 1, 257, 3}));
      },
      ThrowsMessage<GgufError>(HasSubstr("token 2 has type 257")));
}

TEST(ReadVocabulary, OtherModelsAreNamedByTheTokenizer) {
  Metadata metadata;
  metadata.insert("tokenizer.ggml.model", {.value = std::string("llama")});
  metadata.insert("tokenizer.ggml.tokens", {.value = string_array({"a"})});
  const auto vocabulary = read_vocabulary(metadata);
  ASSERT_TRUE(vocabulary);
  EXPECT_THAT([&] { Tokenizer tokenizer(*vocabulary); }, throws("\"llama\""));
}

}  // namespace
}  // namespace tensor_pager::loaders
