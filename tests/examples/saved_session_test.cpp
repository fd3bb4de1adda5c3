// SPDX-License-Identifier: Apache-2.0
// Sequences on disk: what goes on from a saved one is what would have gone on from the sequence,
// bit for bit; and no other file is taken for one.
#include "qwen/saved_session.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../temporary_directory.hpp"
#include "child_process.hpp"
#include "model_run.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using tests::ProcessResult;

constexpr std::uint32_t kPrompt = 50;

Inference inference_of(const Model& model, std::uint32_t context = 128, double arena = 60) {
  Backend backend = host_backend(model);
  MemoryRequest request =
      generation_request(kPrompt, context, {.vram = GiB(1), .arena = Percent{arena}});
  request.sequences = 2;
  MemoryPlan plan = plan_memory(model, request_for(backend, model, request));
  return {model, std::move(plan), std::move(backend)};
}

void save(Inference& inference, SequenceId sequence, const fs::path& path) {
  output::ReplacementFile file(path);
  save_session(inference, sequence, file);
  file.commit();
}

std::string bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class SavedSessionTest : public testing::Test {
 protected:
  SavedSessionTest()
      : model_(open_model(test_data("models/tiny-qwen2-q4_k_m.gguf"))),
        path_(directory_ / "a.session") {
    for (std::uint32_t i = 0; i < kPrompt + 20; ++i) tokens_.push_back((i * 97 + 5) % 500);
    Inference inference = inference_of(model_);
    const SequenceId sequence = inference.begin();
    NoLogits nowhere;
    inference.extend(sequence, std::span(tokens_).first(kPrompt), nowhere);
    save(inference, sequence, path_);
    expected_ = go_on(inference, sequence);
  }

  // A few more tokens of a prompt, and some that follow it.
  std::vector<float> go_on(Inference& inference, SequenceId sequence) const {
    AllLogits logits(1, model_.config.vocab_size);
    std::vector<float> all;
    inference.extend(sequence, std::span(tokens_).subspan(kPrompt, 9), logits);
    all = logits.values;
    for (std::size_t i = kPrompt + 9; i < tokens_.size(); ++i) {
      const NextToken next{sequence, tokens_[i]};
      inference.advance({&next, 1}, logits);
      all.insert(all.end(), logits.values.begin(), logits.values.end());
    }
    return all;
  }

  std::string error(const fs::path& path, const Model& model, std::uint32_t context = 128) const {
    Inference inference = inference_of(model, context);
    const SequenceId sequence = inference.begin();
    std::string message = "none";
    try {
      SavedSession(path).load(inference, sequence);
    } catch (const Error& error) {
      message = error.what();
    }
    EXPECT_EQ(message.find('\n'), std::string::npos);
    EXPECT_TRUE(message == "none" || inference.tokens(sequence).empty());
    return message;
  }
  std::string error_of(const std::string& content) const {
    return error(directory_.write("damaged", content), model_);
  }

  tests::TemporaryDirectory directory_;
  Model model_;
  fs::path path_;
  std::vector<loaders::TokenId> tokens_;
  std::vector<float> expected_;
};

// In another place of the cache, too, at any arena and in a context of another size.
TEST_F(SavedSessionTest, GoesOnAsTheSequenceDid) {
  for (const double arena : {30.0, 100.0}) {
    for (const std::uint32_t context : {kPrompt + 20, 300U}) {
      Inference inference = inference_of(model_, context, arena);
      inference.begin();
      const SequenceId sequence = inference.begin();
      SavedSession session(path_);
      EXPECT_EQ(session.tokens(), kPrompt);
      session.load(inference, sequence);
      EXPECT_TRUE(go_on(inference, sequence) == expected_) << arena << "%, context " << context;
    }
  }
}

TEST_F(SavedSessionTest, SavedAgainItIsTheSameFile) {
  Inference inference = inference_of(model_);
  const SequenceId sequence = inference.begin();
  SavedSession(path_).load(inference, sequence);
  save(inference, sequence, directory_ / "b.session");
  EXPECT_TRUE(bytes_of(directory_ / "b.session") == bytes_of(path_));
}

TEST_F(SavedSessionTest, OneThatIsCutOffOrLongerIsRefused) {
  const std::string content = bytes_of(path_);
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{39}, std::size_t{40},
                                 std::size_t{41}, content.size() / 2, content.size() - 1}) {
    EXPECT_THAT(error_of(content.substr(0, size)),
                testing::AnyOf(HasSubstr("is not a saved session"), HasSubstr("is cut off")))
        << size;
  }
  EXPECT_THAT(error_of(content + "x"), HasSubstr("is cut off or damaged"));
  EXPECT_THAT(error_of(std::string(4096, '\0')), HasSubstr("is not a saved session"));
}

// Of the header each byte matters, of the rest every one is in the checksum.
TEST_F(SavedSessionTest, DamageIsNoticed) {
  const std::string content = bytes_of(path_);
  const std::size_t step = content.size() / 97;
  for (std::size_t at = 0; at < content.size(); at += at < 48 ? 1 : step) {
    std::string damaged = content;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    EXPECT_NE(error_of(damaged), "none") << at;
  }
  EXPECT_EQ(error_of(content), "none");
}

TEST_F(SavedSessionTest, AnotherVersionIsSaid) {
  std::string content = bytes_of(path_);
  content[8] = 9;
  EXPECT_THAT(error_of(content), HasSubstr("was saved in form 9, but this program reads form 1"));
}

TEST_F(SavedSessionTest, AnotherModelOrOtherPositionsAreRefused) {
  EXPECT_THAT(error(path_, open_model(test_data("models/tiny-qwen3-q8_0.gguf"))),
              HasSubstr("another model"));
  EXPECT_THAT(error(path_, open_model(test_data("models/tiny-qwen2-q4_k_m.gguf"),
                                      {.scaling = loaders::RopeScalingKind::yarn, .factor = 4})),
              HasSubstr("other --rope-scaling"));
  // Of the same shape, with another weight.
  std::string model = bytes_of(test_data("models/tiny-qwen2-q4_k_m.gguf"));
  const loaders::TensorInfo& tensor = *model_.gguf.find("blk.1.ffn_down.weight");
  char& weight = model[tensor.bytes.offset.count + 70];
  weight = static_cast<char>(weight ^ 1);
  EXPECT_THAT(error(path_, open_model(directory_.write("other.gguf", model))),
              HasSubstr("another model"));
}

TEST_F(SavedSessionTest, OneThatTheContextHasNoRoomForIsRefused) {
  EXPECT_THAT(error(path_, model_, kPrompt - 1),
              HasSubstr("has 50 tokens, but the context only 49; give a larger --ctx"));
}

// What says that it has 2^40 bytes, and does, is not read.
TEST_F(SavedSessionTest, OneOfATerabyteIsRefusedAtOnce) {
  const fs::path large = directory_.write("large", bytes_of(path_));
  fs::resize_file(large, std::uintmax_t{1} << 40);
  EXPECT_THAT(error(large, model_), HasSubstr("is cut off or damaged"));
  std::string content = bytes_of(path_).substr(0, 40);
  const std::uint64_t cache = (std::uint64_t{1} << 40) - 40 - 50 * 4 - 8;
  content.replace(32, 8, reinterpret_cast<const char*>(&cache), 8);
  const fs::path consistent = directory_.write("consistent", content);
  fs::resize_file(consistent, std::uintmax_t{1} << 40);
  EXPECT_THAT(error(consistent, model_), HasSubstr("another model"));
}

TEST_F(SavedSessionTest, WhatIsNoFileIsSaid) {
  ASSERT_EQ(::mkfifo((directory_ / "fifo").c_str(), 0600), 0);
  EXPECT_THAT(error(directory_ / "fifo", model_), HasSubstr("is not a saved session"));
  EXPECT_THAT(error(directory_ / "none", model_), HasSubstr("No such file"));
  EXPECT_THAT(error(directory_ / ".", model_), HasSubstr("is not a saved session"));
}

class SessionOfRuns : public testing::Test {
 protected:
  static ProcessResult run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(),
                     {"-q", "-m", test_data("models/tiny-qwen2-q4_k_m.gguf").string()});
    return tests::run_process(QWEN_PREFILL, arguments);
  }
  std::string file(const std::string& name) const { return directory_ / name; }

  tests::TemporaryDirectory directory_;
};

// As one run with both prompts; the session stays for others.
TEST_F(SessionOfRuns, ALongTextIsPrefilledOnce) {
  const std::string text = "In the beginning God created the heaven and the earth.";
  const auto question = [&](const std::string& more) {
    return run({"--load-session", file("s"), "-p", more, "-n", "8"});
  };
  ASSERT_EQ(run({"-p", text, "-n", "0", "--save-session", file("s")}).status, 0);
  for (const std::string more : {" And", " The man"}) {
    const ProcessResult result = question(more);
    EXPECT_EQ(result.status, 0) << result.err;
    const std::string whole = run({"-p", text + more, "-n", "8"}).out;
    EXPECT_EQ(result.out, whole);
  }
  // Longer each time, in one file.
  const std::string before = bytes_of(file("s"));
  EXPECT_EQ(run({"--load-session", file("s"), "--save-session", file("s"), "-p", " And", "-n", "3"})
                .status,
            0);
  EXPECT_GT(bytes_of(file("s")).size(), before.size());
  EXPECT_EQ(question(" the").out, run({"-p", text + " And the", "-n", "8"}).out);
}

TEST_F(SessionOfRuns, ARunThatFailsLeavesTheOlderFile) {
  ASSERT_EQ(run({"-p", "And", "-n", "0", "--save-session", file("s")}).status, 0);
  const std::string before = bytes_of(file("s"));
  EXPECT_EQ(run({"-p", "And the", "-n", "0", "--save-session", file("s"), "--vram", "1KiB"}).status,
            1);
  EXPECT_TRUE(bytes_of(file("s")) == before);
  EXPECT_EQ(run({"--load-session", directory_.write("bad", "no session"), "-p", "x",
                 "--save-session", file("s")})
                .status,
            1);
  EXPECT_TRUE(bytes_of(file("s")) == before);
}

TEST_F(SessionOfRuns, WrongUsageIsSaid) {
  const std::string lines = directory_.write("lines", "And\nThe\n");
  const auto usage = [&](const std::vector<std::string>& arguments) {
    const ProcessResult result = run(arguments);
    EXPECT_EQ(result.status, 2) << result.err;
    return result.err;
  };
  EXPECT_THAT(usage({"--prompts", lines, "--load-session", file("s")}), HasSubstr("one prompt"));
  EXPECT_THAT(usage({"-f", lines, "--perplexity", "--save-session", file("s")}),
              HasSubstr("goes on from nothing"));
  EXPECT_THAT(usage({"-f", lines, "--save-session", lines}), HasSubstr("--save-session"));
  ASSERT_EQ(run({"-p", "And", "-n", "0", "--save-session", file("s")}).status, 0);
  EXPECT_THAT(usage({"-p", "x", "--load-session", file("s"), "--stats", file("s")}),
              HasSubstr("--load-session"));
}

}  // namespace
}  // namespace tensor_pager::qwen
