// SPDX-License-Identifier: Apache-2.0
#include "random_model.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>

#include "../temporary_directory.hpp"
#include "loaders/gguf.hpp"
#include "loaders/graph.hpp"
#include "loaders/tokenizer.hpp"
#include "output/replacement_file.hpp"
#include "random_weights.hpp"

namespace tensor_pager::make_gguf {
namespace {

using testing::HasSubstr;
using tests::TemporaryDirectory;

// FNV-1a of a file: the golden logits belong to these very bytes.
std::uint64_t hash_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::uint64_t hash = 0xcbf29ce484222325;
  for (std::istreambuf_iterator<char> i(in), end; i != end; ++i) {
    hash = (hash ^ static_cast<unsigned char>(*i)) * 0x100000001b3;
  }
  return hash;
}

struct Golden {
  const char* architecture;
  const char* type;
  std::uint64_t hash;
};

// Hashes of what the generator wrote that the golden logits were computed with (seed 7).
constexpr Golden kGolden[] = {
    {"qwen2", "f32", 0x80646309ab6c0403},       {"qwen2", "f16", 0x2c3f0de76e7c33e0},
    {"qwen2", "bf16", 0x9355e8d6957a008c},      {"qwen2", "q4_0", 0x7e11f5abecb2af6d},
    {"qwen2", "q4_1", 0xe73f05fc2e5fbe11},      {"qwen2", "q5_0", 0x373b4982f1ff0b2c},
    {"qwen2", "q5_1", 0xb41bcdfc8cfaf37c},      {"qwen2", "q8_0", 0x1ccba86d6bce50e5},
    {"qwen2", "q2_k", 0xfbe2450ac47a4955},      {"qwen2", "q3_k", 0xcdb7033bbae15b4b},
    {"qwen2", "q4_k", 0x97804e4c0ec41b19},      {"qwen2", "q5_k", 0x5b1a16e5e341ec5f},
    {"qwen2", "q6_k", 0xdd5f80fa2145ab5f},      {"qwen2", "iq4_nl", 0x295f45686223b386},
    {"qwen2", "iq4_xs", 0x93d7e4f7421a41ba},    {"qwen2", "q4_k_m", 0xa83cb5f240313365},
    {"qwen2", "q5_k_m", 0x4568fdd2c014fcce},    {"qwen3", "f32", 0x7776a24332f0b302},
    {"qwen3", "q4_k_m", 0xf683a9ab5ce87523},    {"qwen2moe", "q4_k_m", 0x37dcdab251312629},
    {"qwen3moe", "q4_k_m", 0x6a93b8e9f92b90ac}, {"qwen2", "iq2_xxs", 0x3daa47cfceb14c0e},
    {"qwen2", "iq2_xs", 0x99641ee6578aaf30},    {"qwen2", "iq2_s", 0xff099fe73084ef41},
    {"qwen2", "iq3_xxs", 0x47c6630f2c94c9c0},   {"qwen2", "iq3_s", 0xeffa282cb2752ce1},
    {"qwen2", "iq1_s", 0x1ae5618dc671aded},     {"qwen2", "iq1_m", 0x7ea1bac2bad8a01d},
    {"qwen2", "tq1_0", 0x6f107a54fedeb55f},     {"qwen2", "tq2_0", 0xb1b5d9c452c9caf3},
    {"qwen2", "mxfp4", 0x76243c7942fe0a71},     {"qwen2", "nvfp4", 0xe00e4f6435ed6f5b},
    {"qwen3", "iq2_m", 0xfe9d9bae9e46f60b},     {"qwen3", "iq3_m", 0xe1a3e902a406a49b},
};

TEST(RandomModelTest, BytesAreThoseOfTheGoldenModels) {
  const TemporaryDirectory directory;
  for (const Golden& golden : kGolden) {
    const RandomModelOptions options{
        .architecture = golden.architecture, .type = golden.type, .seed = 7};
    const WrittenModel written = write_random_model(directory / "m.gguf", options);
    EXPECT_EQ(hash_of(written.files.front()), golden.hash)
        << golden.architecture << "-" << golden.type;
  }
}

TEST(RandomModelTest, EveryArchitectureAndTypeCanBeReadBack) {
  const TemporaryDirectory directory;
  for (const std::string architecture : {"qwen2", "qwen3", "qwen2moe", "qwen3moe"}) {
    for (const std::string& type : type_names()) {
      const RandomModelOptions options{.architecture = architecture, .type = type, .layers = 1};
      const WrittenModel written = write_random_model(directory / "m.gguf", options);
      const auto model = loaders::GgufModel::open(written.files.front());
      EXPECT_EQ(model.tensors().size(), written.tensors);
      EXPECT_EQ(model.image_bytes(), written.bytes);
      EXPECT_NO_THROW(loaders::build_graph(model)) << architecture << " " << type;
    }
  }
}

TEST(RandomModelTest, LargePresetsHaveRealShapes) {
  RandomModelOptions options{.architecture = "qwen2", .type = "q4_k_m", .preset = "7b"};
  Bytes total;
  for (const RandomTensor& tensor : random_model_tensors(options)) {
    Bytes bytes = loaders::bytes_of(tensor.type, tensor.ne[0]);
    for (std::size_t i = 1; i < tensor.ne.size(); ++i) bytes = bytes * tensor.ne[i];
    total += bytes;
  }
  EXPECT_NEAR(static_cast<double>(total.count) / static_cast<double>(GiB(1).count), 4.36, 0.1);
}

// Parameters without biases and norms as their authors give them, and no output matrix.
TEST(RandomModelTest, SmallPresetsAreQwen25s) {
  const std::map<std::string, double> millions = {{"0.5b", 494}, {"1.5b", 1544}, {"3b", 3086}};
  for (const auto& [preset, expected] : millions) {
    double parameters = 0;
    for (const RandomTensor& tensor :
         random_model_tensors({.architecture = "qwen2", .type = "q4_k_m", .preset = preset})) {
      double elements = 1;
      for (const std::uint64_t n : tensor.ne) elements *= static_cast<double>(n);
      parameters += elements;
      EXPECT_NE(tensor.name, "output.weight");
    }
    EXPECT_NEAR(parameters / 1e6, expected, 1) << preset;
  }
}

TEST(RandomModelTest, RowsThatAreNoWholeBlocksGetAnotherType) {
  std::map<std::string, loaders::TensorType> types;
  for (const RandomTensor& tensor :
       random_model_tensors({.architecture = "qwen2", .type = "q4_k_m", .preset = "0.5b"})) {
    types[tensor.name] = tensor.type;
  }
  EXPECT_EQ(types["token_embd.weight"], loaders::TensorType::q8_0);  // instead of Q6_K
  EXPECT_EQ(types["blk.0.attn_q.weight"], loaders::TensorType::q5_0);
  EXPECT_EQ(types["blk.0.ffn_down.weight"], loaders::TensorType::q6_k);  // 4864 is 19 blocks
}

TEST(RandomModelTest, EveryTypeHasAnotherForSuchRows) {
  for (const std::string& type : type_names()) {
    for (const RandomTensor& tensor :
         random_model_tensors({.architecture = "qwen2", .type = type, .preset = "0.5b"})) {
      EXPECT_EQ(tensor.ne[0] % loaders::traits(tensor.type).block_elements, 0U)
          << type << ": " << tensor.name;
    }
  }
}

TEST(RandomModelTest, VocabulariesTakeText) {
  const TemporaryDirectory directory;
  const std::string trained = std::string(TEST_DATA_DIR) + "/models/tiny-qwen2-q4_k_m.gguf";
  const std::string text = "In the beginning \xc3\xa9\n\t\x7f";
  const auto tokenizer_of = [&](const std::string& vocabulary) {
    const auto path = directory / "m.gguf";
    write_random_model(path, {.type = "q4_0", .layers = 1, .vocabulary = vocabulary});
    const auto model = loaders::GgufModel::open(path);
    const auto read = loaders::read_vocabulary(model.metadata());
    EXPECT_EQ(read->tokens.size(), loaders::read_model_config(model).vocab_size);
    return loaders::Tokenizer(*read);
  };
  const loaders::Tokenizer bytes = tokenizer_of("bytes");
  EXPECT_EQ(bytes.encode(text).size(), text.size());
  EXPECT_EQ(bytes.decode(bytes.encode(text)), text);
  const auto original = loaders::read_vocabulary(loaders::GgufModel::open(trained).metadata());
  EXPECT_EQ(tokenizer_of(trained).encode(text), loaders::Tokenizer(*original).encode(text));

  const auto none = directory / "none.gguf";
  write_random_model(none, {.type = "q4_0", .layers = 1});
  EXPECT_THROW(random_model_tensors({.vocabulary = none}), RandomModelError);
}

TEST(RandomModelTest, ContradictionsAreNamed) {
  const auto error_of = [](const RandomModelOptions& options) -> std::string {
    try {
      random_model_tensors(options);
    } catch (const RandomModelError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(error_of({.architecture = "gpt2"}), HasSubstr("qwen3moe"));
  EXPECT_THAT(error_of({.type = "q9"}), HasSubstr("unknown type \"q9\""));
  EXPECT_THAT(error_of({.preset = "1t"}), HasSubstr("30b-a3b"));
  EXPECT_THAT(error_of({.architecture = "qwen3moe", .preset = "7b"}), HasSubstr("no experts"));
  EXPECT_THAT(error_of({.architecture = "qwen2", .preset = "30b-a3b"}), HasSubstr("qwen3moe"));
  EXPECT_THAT(error_of({.pieces = 0}), HasSubstr("split"));
}

TEST(RandomModelTest, AFullDeviceIsAnErrorAndLeavesNothing) {
  EXPECT_THROW(write_random_model("/dev/full", {}), output::OutputError);
  const TemporaryDirectory directory;
  EXPECT_THROW(write_random_model(directory / "no/such/directory/m.gguf", {}), output::OutputError);
}

TEST(RandomModelTest, WhatWasThereStaysUntilAllPiecesAreWritten) {
  const TemporaryDirectory directory;
  const auto first = directory.write("m-00001-of-00002.gguf", "a model of before");
  const auto stop = [](Bytes done, Bytes total) {
    if (done == total) throw std::runtime_error("stopped");
  };
  EXPECT_THROW(write_random_model(directory / "m.gguf", {.layers = 1, .pieces = 2}, stop),
               std::runtime_error);
  EXPECT_EQ(std::filesystem::file_size(first), 17U);
  const std::filesystem::directory_iterator files(directory / ".");
  EXPECT_EQ(std::distance(begin(files), end(files)), 1) << "something was left behind";
}

TEST(RandomModelTest, ProgressEndsAtTheTotal) {
  const TemporaryDirectory directory;
  Bytes last;
  Bytes all;
  write_random_model(directory / "m.gguf", {.layers = 1}, [&](Bytes done, Bytes total) {
    EXPECT_GT(done, last);
    last = done;
    all = total;
  });
  EXPECT_EQ(last, all);
}

TEST(RandomWeightsTest, NormalNumbersAreNormal) {
  RandomStream random(3);
  constexpr int kCount = 100000;
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < kCount; ++i) {
    const double x = random.normal();
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / kCount, 0, 0.02);
  EXPECT_NEAR(squares / kCount, 1, 0.02);
}

}  // namespace
}  // namespace tensor_pager::make_gguf
