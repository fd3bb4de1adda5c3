// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../edited_model.hpp"
#include "../temporary_directory.hpp"
#include "child_process.hpp"
#include "loaders/gguf.hpp"
#include "model_run.hpp"
#include "random_model.hpp"

// Whatever is wrong, the program says so in one line on stderr and exits with 1, or with 2 if the
// command line is to blame.
namespace tensor_pager::qwen {
namespace {

using Arguments = std::vector<std::string>;

class BadInput : public testing::Test {
 protected:
  static std::string good_model() { return test_data("models/tiny-qwen2-q4_k_m.gguf"); }

  static std::string good_model_bytes() {
    std::ifstream in(good_model(), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }

  // The good model with its first `what` replaced by `by`, of the same length.
  std::string patched(const std::string& what, const std::string& by) const {
    std::string bytes = good_model_bytes();
    bytes.replace(bytes.find(what), what.size(), by);
    return directory_.write("patched.gguf", bytes);
  }

  // The good model with a number in the tensor table's entry of blk.0.ffn_down.weight replaced. The
  // entry: name, u32 dimensions (2), u64 in, u64 out, u32 type, u64 offset.
  template <class T>
  std::string patched_entry(std::size_t offset, T value) const {
    const std::string name = "blk.0.ffn_down.weight";
    std::string bytes = good_model_bytes();
    std::memcpy(bytes.data() + bytes.find(name) + name.size() + offset, &value, sizeof(value));
    return directory_.write("patched.gguf", bytes);
  }

  static void expect_failure(int status, const Arguments& arguments,
                             const std::vector<std::string>& parts) {
    SCOPED_TRACE(testing::PrintToString(arguments));
    const tests::ProcessResult result = tests::run_process(QWEN_PREFILL, arguments);
    EXPECT_EQ(result.status, status);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
    EXPECT_TRUE(result.err.starts_with("qwen_prefill: ")) << result.err;
    for (const std::string& part : parts) EXPECT_THAT(result.err, testing::HasSubstr(part));
  }

  static void expect_bad_model(const std::string& model, const std::vector<std::string>& parts) {
    expect_failure(1, {"-m", model, "-p", "x"}, parts);
  }

  // The good model with these options.
  static void expect_failure_with(int status, Arguments options,
                                  const std::vector<std::string>& parts) {
    options.insert(options.begin(), {"-m", good_model()});
    expect_failure(status, options, parts);
  }

  tests::TemporaryDirectory directory_;
};

TEST_F(BadInput, ModelFiles) {
  expect_bad_model("/nonexistent/model.gguf", {"/nonexistent/model.gguf", "No such file"});
  expect_bad_model(directory_ / ".", {"not a regular file"});
  expect_bad_model(directory_.write("empty.gguf", ""), {"empty.gguf"});
  expect_bad_model(directory_.write("text.gguf", "This is not a model, but a text about models."),
                   {"text.gguf", "magic"});
  const std::string bytes = good_model_bytes();
  for (const std::size_t size : {std::size_t{20}, std::size_t{5000}, bytes.size() - 1}) {
    expect_bad_model(directory_.write("short.gguf", bytes.substr(0, size)), {"short.gguf"});
  }
}

TEST_F(BadInput, ModelsThatCannotBeRun) {
  expect_bad_model(patched("qwen2", "llama"),
                   {"general.architecture", "llama", "one that is: qwen2, qwen3\n"});
  expect_bad_model(patched("blk.0.ffn_down.weight", "blk.0.ffn_dowX.weight"),
                   {"blk.0.ffn_down.weight", "missing"});
  expect_bad_model(patched_entry(4, std::uint64_t{512}),
                   {"blk.0.ffn_down.weight", "{512, 256}", "{768, 256}"});
  // Q1_0 is a type of the format that has no kernel; 999 is not one.
  expect_bad_model(patched_entry(20, std::uint32_t{41}),
                   {"blk.0.ffn_down.weight", "Q1_0", "no kernel"});
  expect_bad_model(patched_entry(20, std::uint32_t{999}), {"blk.0.ffn_down.weight", "999"});
}

TEST_F(BadInput, ExpertsAreNotSupportedYet) {
  for (const std::string architecture : {"qwen2moe", "qwen3moe"}) {
    const std::filesystem::path path = directory_ / (architecture + ".gguf");
    make_gguf::write_random_model(path, {.architecture = architecture, .type = "q4_k_m"});
    expect_bad_model(path, {"general.architecture",
                            architecture + " models have experts, which are not run yet"});
  }
}

TEST_F(BadInput, ModelWithoutAVocabularyTakesNoText) {
  const std::filesystem::path path = directory_ / "random.gguf";
  make_gguf::write_random_model(path, {.type = "q4_0"});
  expect_bad_model(path, {"no vocabulary", "--tokens"});
  const std::string ids = directory_.write("ids.txt", "1 2 3");
  const auto result =
      tests::run_process(QWEN_PREFILL, {"-m", path, "--tokens", ids, "-n", "3", "-q"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, testing::MatchesRegex("[0-9]+ [0-9]+ [0-9]+\n"));
}

// Answers that would be nonsense are none.
TEST_F(BadInput, WeightsThatAreNotNumbers) {
  tests::EditedModel model(good_model());
  const float nan = std::nanf("");
  std::memcpy(model.tensor("blk.1.ffn_norm.weight").data.data(), &nan, sizeof(nan));
  const std::string path = model.write(directory_ / "nan.gguf");
  const std::string where = "logits are not numbers after layer 1 (feed-forward)";
  expect_failure(1, {"-m", path, "-p", "In the beginning", "-q"}, {where});
  expect_failure(1, {"-m", path, "-f", test_data("models/heldout.txt"), "--perplexity", "-q"},
                 {where});
  expect_failure(1, {"-m", path, "-p", "x", "--logits", directory_ / "logits", "-q"}, {where});
}

TEST_F(BadInput, PerplexityBeyondAllNumbers) {
  tests::EditedModel model(good_model());
  std::vector<float> bias(2048);
  bias[7] = 1e6F;
  model.add("output.bias", {bias.size()}, bias);
  expect_failure(1,
                 {"-m", model.write(directory_ / "sure.gguf"), "-f",
                  test_data("models/heldout.txt"), "--perplexity", "-c", "64", "-q"},
                 {"the perplexity is infinite"});
}

TEST_F(BadInput, FilesThatAreNoModels) {
  tests::EditedModel lora(good_model());
  lora.set("general.type", "adapter").set("adapter.type", "lora");
  expect_bad_model(lora.write(directory_ / "lora.gguf"), {"general.type", "an adapter (LoRA)"});
  tests::EditedModel reranker(good_model());
  reranker.set("qwen2.pooling_type", std::uint32_t{4});
  expect_bad_model(reranker.write(directory_ / "rank.gguf"), {"qwen2.pooling_type", "reranker"});
  const std::string pipe = directory_ / "pipe.gguf";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  expect_bad_model(pipe, {"pipe.gguf", "not a regular file"});
  expect_bad_model("/dev/zero", {"/dev/zero", "not a regular file"});
}

TEST_F(BadInput, ModelsWithMoreThanIsUsed) {
  tests::EditedModel model(good_model());
  const std::vector<float> values(32);
  model.add("blk.1.ffn_norm.scale", {1}, std::span(values).first(1));
  model.add("blk.0.attn_q.weight.lora_a", {32}, values);
  expect_bad_model(model.write(directory_ / "more.gguf"),
                   {"blk.1.ffn_norm.scale", "the first of 2 such tensors"});
}

TEST_F(BadInput, NamesAreShownWithoutTheirControlCharacters) {
  tests::EditedModel model(good_model());
  model.set("general.name", "red \x1b[31m\nline \xc2\x9b bad \xff f\xc3\xbcr");
  const std::string path = model.write(directory_ / "name.gguf");
  const auto result = tests::run_process(QWEN_PREFILL, {"-m", path, "-p", "x", "-n", "1"});
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.err, testing::HasSubstr(R"(red \x1b[31m\x0aline \xc2\x9b bad )"
                                             "\xef\xbf\xbd f\xc3\xbcr (qwen2"));
}

TEST_F(BadInput, AByteOrderMarkIsNoText) {
  const std::string text = "In the beginning God created";
  const auto run = [&](const std::string& name, const std::string& bytes) {
    return tests::run_process(QWEN_PREFILL,
                              {"-m", good_model(), "-f", directory_.write(name, bytes), "-n", "4"});
  };
  const auto with = run("with.txt", "\xef\xbb\xbf" + text);
  const auto without = run("without.txt", text);
  EXPECT_EQ(with.status, 0) << with.err;
  EXPECT_EQ(with.out, without.out);
  const std::string tokens = "prefill  6 tokens";
  EXPECT_EQ(with.err.find(tokens) == std::string::npos,
            without.err.find(tokens) == std::string::npos);
  expect_failure_with(1, {"-f", directory_.write("mark.txt", "\xef\xbb\xbf")},
                      {"mark.txt", "is empty"});
}

TEST_F(BadInput, LongContexts) {
  const Arguments yarn = {"--rope-scaling", "yarn", "--rope-scale", "4"};
  Arguments good = {"-m", good_model(), "-p", "In the beginning", "-n", "1", "-c", "16384"};
  good.insert(good.end(), yarn.begin(), yarn.end());
  const auto result = tests::run_process(QWEN_PREFILL, good);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err,
              testing::HasSubstr("YaRN scaling by 4 of 4096 positions: contexts of up to 16384"));
  expect_failure_with(1, {"-p", "x", "-c", "16384"}, {"16384", "4096"});
  expect_failure_with(1, {"-p", "x", "--rope-scaling", "yarn"}, {"--rope-scale"});
  expect_failure_with(2, {"-p", "x", "--rope-scaling", "longrope"}, {"--rope-scaling"});
  expect_failure_with(2, {"-p", "x", "--rope-scaling", "none", "--rope-scale", "4"},
                      {"exclude one another"});
  for (const std::string option : {"--rope-scale", "--rope-freq-base", "--yarn-orig-ctx"}) {
    for (const std::string value : {"0", "-1", "nan", "inf", "x"}) {
      expect_failure_with(2, {"-p", "x", option + "=" + value}, {option});
    }
  }
}

TEST_F(BadInput, PredictionBlocksAreMentioned) {
  tests::EditedModel model(good_model());
  const auto layers =
      loaders::GgufModel::open(good_model()).metadata().get<std::uint32_t>("qwen2.block_count");
  model.set("qwen2.block_count", layers + 1);
  model.set("qwen2.nextn_predict_layers", std::uint32_t{1});
  const std::vector<float> values(1024);
  model.add("blk." + std::to_string(layers) + ".nextn.eh_proj.weight", {1024}, values);
  const std::string path = model.write(directory_ / "next.gguf");
  const auto result = tests::run_process(QWEN_PREFILL, {"-m", path, "-p", "x", "-n", "1"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, testing::HasSubstr("unused   4 KiB in 1 tensor: "));
}

TEST_F(BadInput, Prompts) {
  expect_failure_with(1, {"-p", ""}, {"prompt", "empty"});
  expect_failure_with(1, {"-f", directory_.write("empty.txt", "")}, {"empty.txt", "is empty"});
  expect_failure_with(1, {"-f", directory_.write("latin1.txt", "caf\xe9 au lait")},
                      {"latin1.txt", "UTF-8", "offset 3"});
  expect_failure_with(1, {"-f", "/nonexistent/prompt.txt"}, {"/nonexistent/prompt.txt", "No such"});
  expect_failure_with(1, {"-f", directory_ / "."}, {"directory"});
  expect_failure_with(1, {"-p", "In the beginning God", "-c", "5"}, {" 6 tokens", "only 5"});
  expect_failure_with(1, {"-f", test_data("models/heldout.txt")}, {"tokens", "only 4096"});
  expect_failure_with(1, {"-p", "x", "-c", "5000"}, {"5000", "4096"});
  expect_failure_with(1, {"--tokens", directory_.write("ids", "1 2 2048")},
                      {"2048", "number 3", "out of range"});
  expect_failure_with(1, {"--tokens", directory_.write("ids", "1 -2")}, {"\"-2\"", "number 2"});
  expect_failure_with(1, {"--tokens", directory_.write("ids", "1 x")}, {"\"x\"", "not a token id"});
  expect_failure_with(1, {"--tokens", directory_.write("ids", "  \n")}, {"no tokens"});
}

TEST_F(BadInput, PromptsWithoutEnd) {
  expect_failure_with(1, {"-f", "/dev/zero"}, {"/dev/zero", "longer than 256 MiB"});
  expect_failure_with(1, {"--tokens", "/dev/zero"}, {"/dev/zero", "longer than 256 MiB"});
}

TEST_F(BadInput, WordsThatAreNoTokensAreShownWithoutTheirControlCharacters) {
  const std::string bytes("5\0006 \x1b[31m", 9);
  expect_failure_with(1, {"--tokens", directory_.write("ids", bytes)},
                      {R"("5\x006", number 1 in the file, is not a token id)"});
  expect_failure_with(1, {"--tokens", directory_.write("ids", "1 \x1b[31m")},
                      {R"("\x1b[31m", number 2)"});
}

// A slip of the keyboard must not cost a model.
TEST_F(BadInput, OutputsReplaceNoInputs) {
  const std::string model = directory_ / "model.gguf";
  const std::string link = directory_ / "link.gguf";
  const std::string prompt = directory_.write("prompt.txt", "In the beginning");
  std::filesystem::copy_file(good_model(), model);
  std::filesystem::create_symlink("model.gguf", link);
  for (const std::string option : {"--stats", "--trace", "--logits"}) {
    for (const std::string& output : Arguments{model, link, directory_ / "./model.gguf"}) {
      expect_failure(2, {"-m", model, "-p", "x", option, output},
                     {option + " would replace " + model + ", which --model reads"});
    }
    expect_failure(2, {"-m", model, "-f", prompt, option, prompt}, {"which --file reads"});
    expect_failure(2, {"-m", model, "--tokens", prompt, option, prompt}, {"which --tokens reads"});
  }
  EXPECT_EQ(std::filesystem::file_size(model), good_model_bytes().size());
}

TEST_F(BadInput, OutputsReplaceNoFileOfASplitModel) {
  const auto files =
      make_gguf::write_random_model(directory_ / "model.gguf", {.type = "q4_0", .pieces = 3}).files;
  const std::string ids = directory_.write("ids.txt", "1 2 3");
  for (const std::string option : {"--stats", "--trace", "--logits"}) {
    for (const std::filesystem::path& file : files) {
      expect_failure(2, {"-m", files.front(), "--tokens", ids, option, file},
                     {option + " would replace " + file.string() + ", which --model reads"});
    }
  }
  for (const std::filesystem::path& file : files)
    EXPECT_GT(std::filesystem::file_size(file), 4096U);
}

TEST_F(BadInput, AModelIsNotWrittenOverItsVocabulary) {
  const make_gguf::RandomModelOptions options = {
      .type = "q4_0", .pieces = 2, .vocabulary = "bytes"};
  const auto files = make_gguf::write_random_model(directory_ / "model.gguf", options).files;
  const auto write = [&](const Arguments& more) {
    Arguments all = {"qwen2", "q4_0", "-q", "--vocabulary", files.front()};
    all.insert(all.end(), more.begin(), more.end());
    return tests::run_process(MAKE_GGUF, all);
  };
  const std::string complaint = "make_gguf: OUT would replace ";
  const tests::ProcessResult whole = write({files.back()});
  EXPECT_EQ(whole.status, 2);
  EXPECT_THAT(whole.err, testing::HasSubstr(complaint + files.back().string()));
  const tests::ProcessResult split = write({directory_ / "model.gguf", "--split", "2"});
  EXPECT_EQ(split.status, 2);
  EXPECT_THAT(split.err, testing::HasSubstr(complaint + files.front().string()));
  EXPECT_EQ(write({directory_ / "model.gguf", "--split", "3"}).status, 0);
}

TEST_F(BadInput, OutputsDoNotReplaceOneAnother) {
  const std::string file = directory_ / "out";
  const std::string same = directory_ / "./out";
  for (const auto& [a, b] : {std::pair("--stats", "--trace"), std::pair("--stats", "--logits"),
                             std::pair("--trace", "--logits")}) {
    expect_failure_with(2, {"-p", "x", a, file, b, same}, {a, b, "same file"});
    expect_failure_with(2, {"-p", "x", a, "-", b, "/dev/stdout"}, {a, b, "same file"});
  }
}

TEST_F(BadInput, ContextsThatAreTooShortCanBeMadeLonger) {
  expect_failure_with(1, {"-f", test_data("models/heldout.txt")}, {"--rope-scaling yarn"});
}

TEST_F(BadInput, PerplexityOfTooLittleText) {
  expect_failure_with(1, {"-p", "In the beginning God", "--perplexity", "-c", "4"},
                      {"at least 8 tokens", "has 6"});
  expect_failure_with(1, {"-p", "In the beginning God", "--perplexity"}, {"at least 1024 tokens"});
  expect_failure_with(1, {"-p", "In the beginning God", "--perplexity", "-c", "2"}, {"--ctx 2"});
}

TEST_F(BadInput, OutputsThatCannotBeWritten) {
  for (const std::string option : {"--stats", "--logits", "--trace"}) {
    expect_failure_with(1, {"-p", "x", option, "/nonexistent/out"},
                        {"/nonexistent/out", "cannot write"});
    expect_failure_with(1, {"-p", "x", "-n", "0", option, "/dev/full", "-q"}, {"/dev/full"});
  }
}

// However few files may be open, what runs is right, and what does not says why.
TEST_F(BadInput, FewOpenFiles) {
  const std::string prompt = directory_.write("prompt.txt", "In the beginning");
  const Arguments run = {
      "-m",      good_model(),         "-f",     prompt, "-n",      "1",   "-q",
      "--trace", directory_ / "trace", "--page", "4096", "--arena", "60%", "--device",
      "host"};
  int refused = 0;
  for (int files = 4; files < 12; ++files) {
    SCOPED_TRACE(files);
    Arguments limited = {"-c", "ulimit -n " + std::to_string(files) + " && exec \"$0\" \"$@\"",
                         QWEN_PREFILL};
    limited.insert(limited.end(), run.begin(), run.end());
    const tests::ProcessResult result = tests::run_process("/bin/sh", limited);
    if (result.status == 0 || result.status == 127) continue;  // 127: not even loaded
    ++refused;
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
    EXPECT_THAT(result.err,
                testing::HasSubstr("Too many open files (raise their limit: ulimit -n)"));
  }
  EXPECT_GE(refused, 1);
}

TEST_F(BadInput, Devices) {
  if (qwen::gpu_count() == 0) {
    expect_failure_with(1, {"-p", "x", "--device", "cuda"}, {"no GPU was found", "--device host"});
  } else {
    expect_failure_with(1, {"-p", "x", "--device", "cuda", "--gpu", "99"}, {"GPU 99"});
  }
}

TEST_F(BadInput, CommandLines) {
  expect_failure(2, {}, {"--model"});
  expect_failure(2, {"-p", "x"}, {"--model"});
  expect_failure_with(2, {}, {"--prompt", "--tokens"});
  expect_failure_with(2, {"-p", "x", "-f", "y"}, {"more than one"});
  expect_failure_with(2, {"-p", "x", "--nonsense"}, {"--nonsense"});
  expect_failure_with(2, {"-p", "x", "stray"}, {"stray"});
  expect_failure_with(2, {"-p"}, {"--prompt"});
  expect_failure_with(2, {"-p", "x", "--device", "tpu"}, {"--device", "tpu"});
  expect_failure_with(2, {"-p", "x", "--policy", "fifo"}, {"--policy", "fifo"});
  expect_failure_with(2, {"-p", "x", "--perplexity", "--logits", "y"}, {"--logits"});
}

TEST_F(BadInput, Numbers) {
  const std::vector<Arguments> nonsense = {{"--predict", "abc"},
                                           {"--predict", "1.5"},
                                           {"--predict", "-3"},
                                           {"--parallel", "0"},
                                           {"--predict", "1e99"},
                                           {"--temp", "-1"},
                                           {"--temp", "nan"},
                                           {"--temp", "warm"},
                                           {"--seed", "x"},
                                           {"--vram", "12 XB"},
                                           {"--vram", "-1GiB"},
                                           {"--vram", "lots"},
                                           {"--vram", ""},
                                           {"--arena", "0%"},
                                           {"--arena", "101%"},
                                           {"--arena", "%"},
                                           {"--arena", "nan%"},
                                           {"--arena", "1e300"},
                                           {"--page", "0"},
                                           {"--page", "x"},
                                           {"--ctx", "0"},
                                           {"--ctx", "99999999999"},
                                           {"--ubatch", "0"},
                                           {"--lookahead", "-3"},
                                           {"--lookahead", "soon"},
                                           {"--gpu", "x"},
                                           {"--gpu", "-1"},
                                           {"--predict", "4294967296"},
                                           {"--seed", "-2"},
                                           {"--seed", "1.5"},
                                           {"--seed", ""},
                                           {"--top-k", "x"},
                                           {"--top-k", "1.5"},
                                           {"--top-p", "1.1"},
                                           {"--top-p", "-0.1"},
                                           {"--top-p", "nan"},
                                           {"--min-p", "2"},
                                           {"--min-p", "nan"},
                                           {"--repeat-penalty", "0"},
                                           {"--repeat-penalty", "-1"},
                                           {"--repeat-penalty", "nan"},
                                           {"--repeat-penalty", "inf"},
                                           {"--presence-penalty", "inf"},
                                           {"--frequency-penalty", "nan"},
                                           {"--repeat-last-n", "many"}};
  for (const Arguments& option : nonsense) {
    // With "=", since a value that begins with "-" would be taken for another option.
    expect_failure_with(2, {"-p", "x", option[0] + "=" + option[1]}, {option[0]});
  }
  expect_failure_with(1, {"-p", "x", "--page", "1000"}, {"pages of 1000 ", "give a multiple of "});
}

// Where -1 stands for something, other numbers below 0 are slips, and no other words for it.
TEST_F(BadInput, NumbersBelowMinusOneHaveNoMeaning) {
  const std::vector<std::pair<std::string, std::string>> meanings = {
      {"--predict", "until the model ends its text"},
      {"--repeat-last-n", "all tokens"},
      {"--top-k", "all tokens"}};
  for (const auto& [option, meaning] : meanings) {
    for (const std::string value : {"-2", "-7"}) {
      expect_failure_with(
          2, {"-p", "x", option + "=" + value},
          {option + ": " + value + " is less than 0, where only -1 has a meaning: " + meaning});
    }
  }
}

}  // namespace
}  // namespace tensor_pager::qwen
