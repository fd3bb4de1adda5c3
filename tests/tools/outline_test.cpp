// SPDX-License-Identifier: Apache-2.0
// Models that are not there: what is known of them is what their files would say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../examples/child_process.hpp"
#include "../temporary_directory.hpp"
#include "hf_config.hpp"
#include "model_outline.hpp"
#include "pager/errors.hpp"
#include "random_model.hpp"

namespace tensor_pager::make_gguf {
namespace {

using testing::HasSubstr;
using Arguments = std::vector<std::string>;
using Json = nlohmann::json;

const std::string kConfigs = TEST_DATA_DIR "/configs/";

tests::ProcessResult simulate(Arguments model, const Arguments& more) {
  model.insert(model.end(), {"-q", "--machine", "h200"});
  model.insert(model.end(), more.begin(), more.end());
  return tests::run_process(PAGER_SIM, model);
}

class OutlineTest : public testing::Test {
 protected:
  std::string config(const std::string& text) const {
    std::ofstream(directory_ / "config.json") << text;
    return directory_ / "config.json";
  }
  static Json published(const std::string& name) {
    std::ifstream in(kConfigs + name + ".json");
    return Json::parse(in);
  }

  tests::TemporaryDirectory directory_;
};

TEST_F(OutlineTest, IsWhatOpeningTheFileSays) {
  for (const RandomModelOptions& options :
       {RandomModelOptions{.type = "q4_k_m"}, RandomModelOptions{.architecture = "qwen3"},
        RandomModelOptions{.type = "nvfp4", .tied = true},
        RandomModelOptions{.type = "q4_k_m", .layers = 9},
        RandomModelOptions{.type = "q5_k_m", .preset = "0.5b", .layers = 1}}) {
    write_random_model(directory_ / "m.gguf", options);
    const auto file = loaders::GgufModel::open(directory_ / "m.gguf");
    const auto outline = model_outline(make_design(options), "outline");
    EXPECT_EQ(outline.image_bytes(), file.image_bytes());
    EXPECT_EQ(outline.metadata().size(), file.metadata().size());
    ASSERT_EQ(outline.tensors().size(), file.tensors().size());
    for (std::size_t i = 0; i < file.tensors().size(); ++i) {
      const loaders::TensorInfo& a = outline.tensors()[i];
      const loaders::TensorInfo& b = file.tensors()[i];
      EXPECT_EQ(a.name, b.name);
      EXPECT_EQ(a.ne, b.ne) << a.name;
      EXPECT_EQ(a.type, b.type) << a.name;
      EXPECT_EQ(a.bytes, b.bytes) << a.name;
    }
  }
}

TEST_F(OutlineTest, PredictionsAreThoseOfTheFile) {
  const std::string file = directory_ / "m.gguf";
  const std::vector<Arguments> cases = {
      {"-p", "64,300", "-n", "8", "--device", "host", "--arena", "20%,60%,100%", "-o", "json"},
      {"-p", "0", "-n", "8", "-np", "3", "--device", "host", "--place", "gpu,auto,50%"},
      {"-p", "700", "-n", "4", "--vram", "12MiB,1GiB", "--device", "host", "--warm"},
      {"-p", "2048", "-n", "32", "--arena", "100%", "--link-rate", "1,12"}};
  for (const std::string type : {"q4_k_m", "f16", "q6_k"}) {
    write_random_model(file, {.type = type});
    for (const Arguments& more : cases) {
      const auto there = simulate({"-m", file}, more);
      const auto outline = simulate({"--preset", "tiny", "--type", type}, more);
      EXPECT_EQ(there.status, 0) << there.err;
      EXPECT_EQ(outline.status, 0) << outline.err;
      EXPECT_EQ(outline.out, there.out) << type;
    }
  }
}

// Shapes of real models, with layers that a test can write.
TEST_F(OutlineTest, AConfigurationSaysWhatItsFileWould) {
  const std::string file = directory_ / "m.gguf";
  write_random_model(file, {.type = "q4_k_m", .preset = "0.5b", .layers = 2});
  Json few = published("qwen2.5-0.5b");
  few["num_hidden_layers"] = 2;
  const Arguments more = {"-p",   "256", "-n",   "8",       "--device",
                          "host", "-o",  "json", "--arena", "30%,100%"};
  Json there = Json::parse(simulate({"-m", file}, more).out);
  Json outline = Json::parse(simulate({"--hf-config", config(few.dump())}, more).out);
  ASSERT_EQ(outline.size(), 4U);
  // Names differ, and by their length where the first tensor begins.
  for (std::size_t i = 0; i < outline.size(); ++i) {
    for (const char* const exact : {"weights_bytes", "page_bytes", "arena_bytes", "memory_bytes"}) {
      EXPECT_EQ(outline[i][exact], there[i][exact]) << exact << " of row " << i;
    }
    const double seconds = there[i]["seconds"];
    EXPECT_NEAR(outline[i]["seconds"].get<double>(), seconds, 1e-4 * seconds);
  }
}

// Parameters as their authors count them.
TEST_F(OutlineTest, PublishedConfigurationsHaveThePublishedParameters) {
  const std::map<std::string, std::uint64_t> published = {{"qwen2.5-0.5b", 494'032'768},
                                                          {"qwen2.5-7b", 7'615'616'512},
                                                          {"qwen3-0.6b", 596'049'920},
                                                          {"qwen3-8b", 8'190'735'360}};
  for (const auto& [name, expected] : published) {
    std::uint64_t parameters = 0;
    for (const RandomTensor& tensor :
         tensors_of(read_hf_config(kConfigs + name + ".json", "f16"))) {
      std::uint64_t elements = 1;
      for (const std::uint64_t n : tensor.ne) elements *= n;
      parameters += elements;
    }
    EXPECT_EQ(parameters, expected) << name;
  }
}

// Files that llama.cpp made of these models have 6 MB beside their weights: the vocabulary.
TEST_F(OutlineTest, TypeMixesAreThoseOfRealFiles) {
  struct File {
    std::string config;
    std::string type;
    std::uint64_t bytes;
  };
  for (const File& file :
       {File{"qwen2.5-7b", "q4_k_m", 4'683'073'184}, File{"qwen3-8b", "q4_k_m", 5'027'783'488},
        File{"qwen3-0.6b", "q8_0", 639'446'688}}) {
    const auto model =
        model_outline(read_hf_config(kConfigs + file.config + ".json", file.type), "outline");
    EXPECT_NEAR(static_cast<double>(model.weights_bytes().count),
                static_cast<double>(file.bytes) - 5.95e6, 2e4)
        << file.config;
  }
}

TEST_F(OutlineTest, OtherConfigurationsAreRefusedInOneLine) {
  const auto error_of = [&](const std::string& path) {
    const auto run = simulate({"--hf-config", path}, {});
    EXPECT_EQ(run.status, 1) << run.out;
    EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
    return run.err;
  };
  const auto with = [&](const std::string& key, const Json& value) {
    Json changed = published("qwen2.5-7b");
    changed[key] = value;
    return error_of(config(changed.dump()));
  };
  EXPECT_THAT(error_of(directory_ / "none.json"),
              HasSubstr("none.json: cannot open: No such file"));
  EXPECT_THAT(error_of(directory_ / "."), HasSubstr("cannot open: Is a directory"));
  EXPECT_THAT(error_of("/dev/zero"), HasSubstr("not a regular file"));
  EXPECT_THAT(error_of(config("")), HasSubstr("is no JSON object"));
  EXPECT_THAT(error_of(config("[1]")), HasSubstr("is no JSON object"));
  EXPECT_THAT(error_of(config(std::string(1 << 21, ' '))),
              HasSubstr("has more than 1048576 bytes"));
  EXPECT_THAT(error_of(config("{}")), HasSubstr("model_type: is missing"));
  EXPECT_THAT(error_of(config(R"({"model_type": "qwen3"})")),
              HasSubstr("num_hidden_layers: is missing"));
  EXPECT_THAT(with("hidden_size", nullptr), HasSubstr("hidden_size: is missing"));
  EXPECT_THAT(with("hidden_size", "3584"), HasSubstr("hidden_size: must be a whole number"));
  EXPECT_THAT(with("vocab_size", -1), HasSubstr("vocab_size: must be a whole number"));
  EXPECT_THAT(with("num_hidden_layers", 1e9), HasSubstr("must be a whole number from 1 to 4096"));
  EXPECT_THAT(with("hidden_size", 3585), HasSubstr("28 heads do not divide hidden_size 3585"));
  EXPECT_THAT(with("num_key_value_heads", 3), HasSubstr("do not divide num_attention_heads"));
  EXPECT_THAT(with("rope_theta", 0), HasSubstr("rope_theta: must be a positive number"));
  EXPECT_THAT(with("tie_word_embeddings", 1), HasSubstr("must be true or false"));
  EXPECT_THAT(with("hidden_size", 28 * 40000), HasSubstr("must be a whole number from 1 to"));
  Json huge = published("qwen2.5-7b");
  huge["num_hidden_layers"] = 4096;
  huge["intermediate_size"] = 1 << 20;
  EXPECT_THAT(error_of(config(huge.dump())), HasSubstr("of weights, more than any model has"));
  EXPECT_THAT(with("hidden_size", 28 * 127), HasSubstr("a row of 3556 elements does not fit"));
}

// As a file of that architecture is.
TEST_F(OutlineTest, OtherArchitecturesAreRefusedAsTheirFilesAre) {
  const auto error_of = [&](const std::string& type) {
    return simulate({"--hf-config", config(R"({"model_type": ")" + type + "\"}")}, {}).err;
  };
  EXPECT_THAT(error_of("llama"),
              HasSubstr("config.json: model_type: architecture \"llama\" is not supported; give a "
                        "model of one that is: qwen2, qwen3"));
  EXPECT_THAT(error_of("qwen3_moe"),
              HasSubstr("config.json: model_type: qwen3moe models have experts"));
}

TEST_F(OutlineTest, ExactlyOneModelIsGiven) {
  const auto usage = [&](const Arguments& model) {
    const auto run = simulate(model, {});
    EXPECT_EQ(run.status, 2) << run.out;
    return run.err;
  };
  EXPECT_THAT(usage({}), HasSubstr("no model is given by any of -m, --hf-config and --preset"));
  EXPECT_THAT(usage({"-m", "m.gguf", "--preset", "7b"}), HasSubstr("a model is given by several"));
  EXPECT_THAT(usage({"-m", "m.gguf", "--type", "q8_0"}), HasSubstr("leave --type out"));
  EXPECT_THAT(usage({"--preset", "30b-a3b"}), HasSubstr("--preset"));
  EXPECT_THAT(usage({"--preset", "7b", "--type", "q9"}), HasSubstr("--type"));
}

// Processors are measured on made-up weights.
TEST_F(OutlineTest, ThisMachineIsMeasuredWithoutTheModel) {
  const auto run = tests::run_process(PAGER_SIM, {"--preset", "0.5b", "--device", "host", "-p",
                                                  "16", "-n", "4", "-q", "-o", "json"});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(Json::parse(run.out).size(), 10U);
}

// Whatever way pager_bench wrote it.
TEST_F(OutlineTest, ACalibrationDescribesTheMachine) {
  const std::string file = directory_ / "machine.json";
  for (const std::string format : {"json", "jsonl"}) {
    const auto calibrated =
        tests::run_process(PAGER_BENCH, {"--calibrate", "--device", "host", "-o", format});
    ASSERT_EQ(calibrated.status, 0) << calibrated.err;
    std::ofstream(file) << calibrated.out;
    const auto run = tests::run_process(
        PAGER_SIM, {"--preset", "1.5b", "--device", "host", "--machine", file, "-p", "128", "-n",
                    "8", "--arena", "25%,100%", "-q", "-o", "json"});
    ASSERT_EQ(run.status, 0) << run.err;
    const Json rows = Json::parse(run.out);
    ASSERT_EQ(rows.size(), 4U);
    const Json machine = Json::parse(calibrated.out);
    EXPECT_EQ(rows[0]["link_gb_per_s"], machine["calibrated_link_gb_per_s"]);
    EXPECT_EQ(rows[0]["tflops"], machine["calibrated_tflops"]);
    // Copies take processors from the steps, so that they cost more than their own time hides.
    EXPECT_LT(rows[0]["tokens_per_s"], rows[1]["tokens_per_s"]);
    EXPECT_GT(rows[2]["device_s"], rows[3]["device_s"]);
  }
}

TEST_F(OutlineTest, MadeUpWeightsAreTheSameInPieces) {
  const auto model = model_outline(make_design({.type = "q4_k_m"}), "outline");
  const auto store = random_weights_of(model);
  EXPECT_EQ(store->size(), model.image_bytes());
  std::vector<std::byte> whole(model.image_bytes().count);
  store->read({0}, whole);
  std::vector<std::byte> pieces(whole.size());
  for (std::size_t at = 0; at < pieces.size(); at += 1001) {
    store->read({at},
                std::span(pieces).subspan(at, std::min<std::size_t>(1001, pieces.size() - at)));
  }
  EXPECT_EQ(pieces, whole);
  std::vector<std::byte> one(1);
  EXPECT_THROW(store->read(model.image_bytes(), one), StoreError);
}

}  // namespace
}  // namespace tensor_pager::make_gguf
