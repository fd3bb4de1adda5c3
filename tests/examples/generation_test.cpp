// SPDX-License-Identifier: Apache-2.0
// What users of qwen_prefill expect of generation: where it ends, how tokens are chosen, where
// prompts come from, and models whose text is not understood.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <ostream>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../edited_model.hpp"
#include "../temporary_directory.hpp"
#include "child_process.hpp"
#include "loaders/gguf.hpp"
#include "loaders/tokenizer.hpp"
#include "model_run.hpp"

namespace tensor_pager::qwen {
namespace {

using loaders::TokenId;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using tests::EditedModel;
using tests::ProcessResult;
using Arguments = std::vector<std::string>;

// Tokens of the test model.
constexpr TokenId kEndOfText = 2045;
constexpr TokenId kImStart = 2046;
constexpr TokenId kImEnd = 2047;

constexpr const char* kPre = "tokenizer.ggml.pre";

class Generation : public testing::Test {
 protected:
  static std::string model() { return test_data("models/tiny-qwen2-q4_k_m.gguf"); }

  std::string prompt_ids() const { return directory_.write("ids.txt", "40 77 258 1783 1234 389"); }

  static ProcessResult run_model(const std::string& model, const Arguments& more) {
    Arguments all{"--device", "host", "-m", model};
    all.insert(all.end(), more.begin(), more.end());
    return tests::run_process(QWEN_PREFILL, all);
  }

  // The prompt of ids, quietly.
  ProcessResult run(const std::string& model, const Arguments& more) const {
    Arguments all{"-q", "--tokens", prompt_ids()};
    all.insert(all.end(), more.begin(), more.end());
    return run_model(model, all);
  }

  std::string write(const EditedModel& model) const { return model.write(directory_ / "m.gguf"); }

  // The test model with a rule that nobody knows, so that it gives ids.
  std::string model_of_ids() const {
    EditedModel edited(model());
    edited.set(kPre, std::string("nobody-knows"));
    return edited.write(directory_ / "ids.gguf");
  }

  std::vector<TokenId> ids(const Arguments& more) const {
    const ProcessResult result = run(model_of_ids(), more);
    EXPECT_EQ(result.status, 0) << result.err;
    std::istringstream words(result.out);
    std::vector<TokenId> tokens;
    for (TokenId token = 0; words >> token;) tokens.push_back(token);
    return tokens;
  }

  tests::TemporaryDirectory directory_;
};

// Wherever the model would give `token`, it gives `end`: their rows change places.
void give_instead(EditedModel& model, TokenId token, TokenId end) {
  for (const char* name : {"token_embd.weight", "output.weight"}) {
    EditedModel::Tensor* const tensor = model.find(name);
    if (tensor == nullptr) continue;
    const std::size_t row = tensor->data.size() / tensor->ne.at(1);
    const auto at = [&](TokenId id) {
      return tensor->data.begin() + static_cast<std::ptrdiff_t>(id * row);
    };
    std::swap_ranges(at(token), at(token + 1), at(end));
  }
}

struct End {
  std::string name;
  TokenId given;       ///< what the model gives as its fifth token
  TokenId eos;         ///< what its file calls the end of a sequence
  std::string key{};   ///< how else its file calls `given`
  std::string text{};  ///< of `given`, if it is not what the test model has
};

void PrintTo(const End& end, std::ostream* out) {
  *out << end.name;
}

class EndOfGeneration : public Generation, public testing::WithParamInterface<End> {
 protected:
  void SetUp() override {
    usual_ = ids({"-n", "12"});
    ASSERT_EQ(usual_.size(), 12U);
    ASSERT_EQ(std::ranges::count(usual_, usual_[4]), 1) << "the fifth token tells where it ended";
  }

  EditedModel edited(const End& end) const {
    EditedModel edited(model());
    give_instead(edited, usual_[4], end.given);
    edited.set("tokenizer.ggml.eos_token_id", std::uint32_t{end.eos});
    if (!end.key.empty()) edited.set(end.key, std::uint32_t{end.given});
    if (end.text.empty()) return edited;
    constexpr const char* kTokens = "tokenizer.ggml.tokens";
    const auto file = loaders::GgufModel::open(model());
    const loaders::StringArray& tokens = file.metadata().strings(kTokens);
    std::vector<std::string_view> changed;
    for (std::size_t i = 0; i < tokens.size(); ++i) changed.push_back(tokens[i]);
    changed.at(end.given) = end.text;
    edited.set_array(kTokens, changed);
    return edited;
  }

  std::vector<TokenId> usual_;
};

TEST_P(EndOfGeneration, IsWhereTheModelSaysSo) {
  EditedModel model_of_text = edited(GetParam());
  for (const bool text : {true, false}) {
    if (!text) model_of_text.set(kPre, std::string("nobody-knows"));
    const std::string model = write(model_of_text);
    const std::string four = run(text ? this->model() : model_of_ids(), {"-n", "4"}).out;
    for (const char* n : {"12", "-1"}) {
      const ProcessResult result = run(model, {"-n", n});
      EXPECT_EQ(result.status, 0);
      EXPECT_EQ(result.err, "");
      EXPECT_EQ(result.out, four);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Tokens, EndOfGeneration,
    testing::Values(End{"Eos", kEndOfText, kEndOfText}, End{"TextOfAChatModel", kEndOfText, kImEnd},
                    End{"TurnOfABaseModel", kImEnd, kEndOfText},
                    End{"EotByKey", kImStart, kEndOfText, "tokenizer.ggml.eot_token_id"},
                    End{"EomByKey", kImStart, kEndOfText, "tokenizer.ggml.eom_token_id"},
                    End{"FileByKey", kImStart, kEndOfText, "tokenizer.ggml.fim_sep_token_id"},
                    End{"FileByText", kImStart, kEndOfText, "", "<|file_sep|>"},
                    End{"RepositoryByText", kImStart, kEndOfText, "", "<|repo_name|>"},
                    End{"PaddingByText", kImStart, kEndOfText, "", "<|fim_pad|>"},
                    End{"SentenceOfDeepSeek", kImStart, kEndOfText, "",
                        "<\uFF5Cend\u2581of\u2581sentence\uFF5C>"}),
    [](const auto& end) { return end.param.name; });

TEST_F(Generation, GoesOnAfterATokenThatIsNoEnd) {
  const std::vector<TokenId> usual = ids({"-n", "12"});
  EditedModel edited(model());
  give_instead(edited, usual.at(4), kImStart);
  edited.set(kPre, std::string("nobody-knows"));
  std::string expected;
  for (const TokenId token : usual) {
    expected +=
        (expected.empty() ? "" : " ") + std::to_string(token == usual[4] ? kImStart : token);
  }
  EXPECT_EQ(run(write(edited), {"-n", "12"}).out, expected + "\n");
}

TEST_F(Generation, WithoutALimitEndsWithTheContext) {
  const ProcessResult result = run(model_of_ids(), {"-n", "-1", "-c", "20"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(std::ranges::count(result.out, ' '), 14) << "14 fit, and the last gives one more";
  EXPECT_EQ(
      result.err,
      "qwen_prefill: the context of 20 tokens is full after 15 tokens; give a larger --ctx\n");
}

// All that a model could hold may be gigabytes of keys and values.
TEST_F(Generation, WithoutALimitHasRoomForALongText) {
  EditedModel edited(model());
  edited.set("qwen2.context_length", std::uint32_t{131'072});
  give_instead(edited, ids({"-n", "5"}).at(4), kEndOfText);
  const ProcessResult result = run_model(write(edited), {"--tokens", prompt_ids(), "-n", "-1"});
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.err, HasSubstr(" for 4128 positions"));  // 6 and 4096, in steps of 32
}

// Qwen's matrices have more rows than its vocabulary has tokens.
TEST_F(Generation, NeverGivesARowOfPadding) {
  const auto file = loaders::GgufModel::open(model());
  const loaders::StringArray& tokens = file.metadata().strings("tokenizer.ggml.tokens");
  std::vector<std::string_view> fewer;
  for (TokenId i = 0; i < kImEnd; ++i) fewer.push_back(tokens[i]);
  EditedModel edited(model());
  give_instead(edited, ids({"-n", "5"}).at(4), kImEnd);
  edited.set_array("tokenizer.ggml.tokens", fewer);
  edited.set_array("tokenizer.ggml.token_type", std::vector<std::int32_t>(fewer.size(), 1));
  for (const char* pre : {"qwen2", "nobody-knows"}) {
    edited.set(kPre, std::string(pre));
    const ProcessResult result = run(write(edited), {"-n", "12"});
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_THAT(result.out, Not(HasSubstr(" 2047")));
  }
}

// DeepSeek-R1-Distill-Qwen: its rule is that of Qwen2 by another name.
TEST_F(Generation, KnowsTheRuleOfDeepSeekDistillations) {
  EditedModel edited(model());
  edited.set(kPre, std::string("deepseek-r1-qwen"));
  const Arguments prompt{"-q", "-p", "In the beginning God", "-n", "6"};
  const ProcessResult result = run_model(write(edited), prompt);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, run_model(model(), prompt).out);
}

// The remedy that a message names has to help.
TEST_F(Generation, OfIdsNeedsNoTokenizer) {
  const std::vector<TokenId> expected = ids({"-n", "6"});
  EXPECT_EQ(expected.size(), 6U);
  using Edit = void (*)(EditedModel&);
  const std::vector<std::pair<std::string, Edit>> unusable = {
      {"unknown pre-tokeniser", [](EditedModel& m) { m.set(kPre, std::string("nobody-knows")); }},
      {"unknown tokenizer model",
       [](EditedModel& m) { m.set("tokenizer.ggml.model", std::string("llama")); }},
      {"merge 0",
       [](EditedModel& m) {
         m.set_array("tokenizer.ggml.merges", std::vector<std::string_view>{"none"});
       }},
      {"tokenizer.ggml.tokens", [](EditedModel& m) { m.erase("tokenizer.ggml.tokens"); }},
      {"token_type",
       [](EditedModel& m) {
         m.set_array("tokenizer.ggml.token_type", std::vector<std::int32_t>(2048, 99));
       }},
      {"no vocabulary", [](EditedModel& m) { m.erase("tokenizer.ggml.model"); }}};
  for (const auto& [problem, edit] : unusable) {
    SCOPED_TRACE(problem);
    EditedModel edited(model());
    edit(edited);
    const std::string path = write(edited);
    const ProcessResult text = run_model(path, {"-p", "In"});
    EXPECT_EQ(text.status, 1);
    EXPECT_THAT(text.err, HasSubstr(problem));
    EXPECT_EQ(std::ranges::count(text.err, '\n'), 1) << text.err;
    const ProcessResult quiet = run(path, {"-n", "6"});
    EXPECT_EQ(quiet.status, 0);
    EXPECT_EQ(quiet.err, "");
    EXPECT_EQ(quiet.out, run(model_of_ids(), {"-n", "6"}).out);
    const ProcessResult loud = run_model(path, {"--tokens", prompt_ids(), "-n", "6"});
    EXPECT_THAT(loud.err, AllOf(HasSubstr("token ids alone"), HasSubstr(problem)));
  }
}

TEST_F(Generation, ReadsThePromptFromStandardInput) {
  const auto piped = [&](const std::string& file, const Arguments& more) {
    Arguments all{"-c",         "exec \"$0\" \"$@\" <'" + file + "'",
                  QWEN_PREFILL, "--device",
                  "host",       "-m",
                  model(),      "-q",
                  "-n",         "6"};
    all.insert(all.end(), more.begin(), more.end());
    return tests::run_process("/bin/sh", all);
  };
  const std::string text = directory_.write("prompt.txt", "In the beginning God");
  const std::string expected = run_model(model(), {"-q", "-f", text, "-n", "6"}).out;
  EXPECT_EQ(piped(text, {"-f", "-"}).out, expected);
  EXPECT_EQ(piped(prompt_ids(), {"--tokens", "-"}).out, expected);
  EXPECT_THAT(piped("/dev/null", {"-f", "-"}).err, HasSubstr("standard input is empty"));
  EXPECT_THAT(piped(directory_.write("bad", "1 x"), {"--tokens", "-"}).err,
              HasSubstr("standard input: \"x\", number 2"));
  EXPECT_THAT(piped(directory_ / ".", {"-f", "-"}).err,
              HasSubstr("standard input: cannot read the prompt: Is a directory"));
}

TEST_F(Generation, SampledIdsDoNotDependOnTheBudget) {
  const Arguments sampled{"-n",      "24",   "--temp",  "1.2",   "--top-k",          "200",
                          "--top-p", "0.98", "--min-p", "0.001", "--repeat-penalty", "1.1",
                          "--seed",  "99"};
  const std::vector<TokenId> expected = ids(sampled);
  EXPECT_EQ(expected.size(), 24U);
  for (const Arguments& memory : std::vector<Arguments>{{"--arena", "100%"},
                                                        {"--arena", "50%"},
                                                        {"--arena", "25%"},
                                                        {"--arena", "25%", "--policy", "lru"},
                                                        {"--arena", "40%", "--page", "16KiB"},
                                                        {"--vram", "3MiB", "-ub", "2"}}) {
    Arguments all = sampled;
    all.insert(all.end(), memory.begin(), memory.end());
    EXPECT_EQ(ids(all), expected) << testing::PrintToString(memory);
  }
  Arguments other = sampled;
  other.back() = "100";
  EXPECT_NE(ids(other), expected);
}

// Of one token, products on the host device are those of the processors' share.
TEST_F(Generation, DoesNotDependOnItsPlace) {
  const std::vector<TokenId> expected = ids({"-n", "24", "--arena", "40%"});
  for (const char* place : {"auto", "gpu", "cpu", "30%", "60%", "0%"}) {
    EXPECT_EQ(ids({"-n", "24", "--arena", "40%", "--place", place}), expected) << place;
  }
  EXPECT_EQ(ids({"-n", "24", "--arena", "40%", "--place", "cpu", "--threads", "1"}), expected);
  const ProcessResult explained = run_model(
      model(), {"-q", "-p", "In", "-n", "2", "--arena", "40%", "--place", "50%", "--explain"});
  EXPECT_THAT(explained.err,
              AllOf(HasSubstr("prefill, 2 tokens"), HasSubstr("generation, 1 token a pass"),
                    HasSubstr("feed-forward CPU")));
}

// Each option alone leaves nothing to chance, so that one that does nothing is found.
TEST_F(Generation, EveryOptionOfTheSamplerReachesIt) {
  const std::vector<TokenId> greedy = ids({"-n", "24"});
  const std::vector<TokenId> hot =
      ids({"-n", "24", "--temp", "5", "--top-k", "0", "--top-p", "1", "--min-p", "0"});
  EXPECT_NE(hot, greedy);
  EXPECT_NE(ids({"-n", "24", "--temp", "0.8", "--top-k", "0", "--top-p", "1", "--min-p", "0"}),
            hot);
  const auto hot_but = [&](const std::string& option, const std::string& value) {
    Arguments all{"-n", "24", "--temp", "5"};
    for (const auto& [name, none] : std::vector<std::pair<std::string, std::string>>{
             {"--top-k", "0"}, {"--top-p", "1"}, {"--min-p", "0"}}) {
      all.insert(all.end(), {name, name == option ? value : none});
    }
    return ids(all);
  };
  EXPECT_EQ(hot_but("--top-k", "1"), greedy);
  EXPECT_EQ(hot_but("--top-p", "0"), greedy);
  EXPECT_EQ(hot_but("--min-p", "1"), greedy);

  // Penalties that forbid: no token comes twice, be it of the prompt.
  const std::vector<TokenId> prompt{40, 77, 258, 1783, 1234, 389};
  const auto repeats = [&](const Arguments& penalties) {
    Arguments all{"-n", "60"};
    all.insert(all.end(), penalties.begin(), penalties.end());
    std::vector<TokenId> seen = prompt;
    const std::vector<TokenId> tokens = ids(all);
    seen.insert(seen.end(), tokens.begin(), tokens.end());
    return seen.size() - std::set<TokenId>(seen.begin(), seen.end()).size();
  };
  EXPECT_GT(repeats({}), 0U);
  EXPECT_EQ(repeats({"--presence-penalty", "1000", "--repeat-last-n", "-1"}), 0U);
  EXPECT_EQ(repeats({"--frequency-penalty", "1000", "--repeat-last-n", "-1"}), 0U);
  EXPECT_LT(repeats({"--repeat-penalty", "3"}), repeats({}));
  EXPECT_EQ(repeats({"--presence-penalty", "1000", "--repeat-last-n", "0"}), repeats({}));
  EXPECT_GT(repeats({"--presence-penalty", "1000", "--repeat-last-n", "2"}), 0U);
}

TEST_F(Generation, ARandomSeedIsSaidAndGivesTheSameTextAgain) {
  const auto loud = [&](const std::string& seed) {
    return run_model(model(), {"-p", "In", "-n", "20", "--temp", "2", "--top-k", "0", "--top-p",
                               "1", "--min-p", "0", "-s", seed});
  };
  const ProcessResult first = loud("-1");
  const std::string before = ", seed ";
  const std::size_t at = first.err.find(before);
  ASSERT_NE(at, std::string::npos) << first.err;
  const std::size_t begin = at + before.size();
  const std::string seed = first.err.substr(begin, first.err.find('\n', begin) - begin);
  EXPECT_EQ(loud(seed).out, first.out);
  EXPECT_NE(loud("-1").out, first.out) << "2048^20 texts";
}

// Converters write the model's own generation_config.json into newer files.
TEST_F(Generation, FollowsTheAdviceOfTheFile) {
  EditedModel edited(model());
  edited.set(kPre, std::string("nobody-knows"));
  edited.set("general.sampling.temp", 0.9F);
  edited.set("general.sampling.top_k", std::int32_t{30});
  edited.set("general.sampling.top_p", 0.8F);
  edited.set("general.sampling.min_p", 0.01F);
  edited.set("general.sampling.penalty_repeat", 1.05F);
  edited.set("general.sampling.penalty_last_n", std::int32_t{32});
  edited.set("general.sampling.mirostat", std::int32_t{2});
  const std::string advised = edited.write(directory_ / "advised.gguf");
  const Arguments same{
      "-n",      "24",   "--temp",           "0.9",  "--top-k",         "30", "--top-p", "0.8",
      "--min-p", "0.01", "--repeat-penalty", "1.05", "--repeat-last-n", "32"};
  const ProcessResult result = run_model(advised, {"--tokens", prompt_ids(), "-n", "24"});
  EXPECT_EQ(result.out, run(model_of_ids(), same).out);
  EXPECT_THAT(result.err,
              HasSubstr("sampling temp 0.9 (file), top-k 30 (file), top-p 0.8 (file), min-p 0.01 "
                        "(file), seed 0; penalties repeat 1.05 (file), presence 0, frequency 0, "
                        "last 32 (file); not followed: general.sampling.mirostat\n"));
  // The user knows better.
  EXPECT_EQ(run(advised, {"-n", "24", "--temp", "0", "--repeat-penalty", "1"}).out,
            run(model_of_ids(), {"-n", "24"}).out);

  edited.set("general.sampling.top_p", std::numeric_limits<float>::quiet_NaN());
  const ProcessResult refused = run(edited.write(directory_ / "bad.gguf"), {});
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err,
              AllOf(HasSubstr("general.sampling.top_p"), HasSubstr("is not a finite number")));

  edited.set("general.sampling.top_p", 0.8F).set("general.sampling.penalty_repeat", 0.0F);
  EXPECT_THAT(
      run(edited.write(directory_ / "bad.gguf"), {}).err,
      AllOf(HasSubstr("general.sampling.penalty_repeat"), HasSubstr("0 is not a positive number")));
}

TEST_F(Generation, IsGreedyUnlessSomebodyWantsOtherwise) {
  EXPECT_THAT(run_model(model(), {"-p", "In"}).err,
              HasSubstr("sampling the most likely token (temp 0)\n"));
  EXPECT_THAT(run_model(model(), {"-p", "In", "--top-k", "20"}).err,
              HasSubstr("sampling temp 0.8, top-k 20, top-p 0.95, min-p 0.05, seed 0\n"));
  EXPECT_THAT(run_model(model(), {"-p", "In", "-n", "0"}).err, Not(HasSubstr("sampling")));
}

TEST_F(Generation, WarnsOfTwoBeginnings) {
  EditedModel edited(model());
  edited.set("tokenizer.ggml.add_bos_token", true);
  const std::string adds = write(edited);
  const std::string twice = "begins with \"<|endoftext|>\" twice";
  const auto said = [](const std::string& model, const std::string& prompt) {
    const ProcessResult result = run_model(model, {"-q", "-n", "1", "-p", prompt});
    EXPECT_EQ(result.status, 0);
    return result.err;
  };
  EXPECT_THAT(said(adds, "<|endoftext|>In the"), HasSubstr(twice));
  EXPECT_THAT(said(adds, "In the"), IsEmpty());
  EXPECT_THAT(said(model(), "<|endoftext|>In the"), IsEmpty());
  EXPECT_THAT(said(model(), "<|endoftext|><|endoftext|>In the"), IsEmpty());
}

}  // namespace
}  // namespace tensor_pager::qwen
