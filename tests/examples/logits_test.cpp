// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../temporary_directory.hpp"
#include "golden_models.hpp"
#include "model_run.hpp"
#include "pager/host_device.hpp"
#include "qwen/sampler.hpp"
#include "random_model.hpp"

namespace tensor_pager::qwen {
namespace {

class GoldenLogits : public testing::TestWithParam<GoldenModel> {};

TEST_P(GoldenLogits, AreReproduced) {
  const auto& [architecture, type, tolerance] = GetParam();
  const tests::TemporaryDirectory directory;
  const std::filesystem::path path = directory / "model.gguf";
  make_gguf::write_random_model(path, {.architecture = architecture, .type = type, .seed = 7});
  const Model model = open_model(path);
  const auto exact = read_floats(test_data("golden/" + architecture + "-" + type + ".logits.f32"));
  const double error = relative_error(prompt_logits(model, golden_tokens()), exact);
  RecordProperty("relative_error", testing::PrintToString(error));
  EXPECT_LT(error, tolerance);
  // What float32 arithmetic in another order may do, and inputs rounded to 16 bits where weights
  // are quantised. Far below what a mistake does.
  const bool floats = type == "f32" || type == "f16" || type == "bf16";
  EXPECT_LT(error, floats ? 1e-5 : 1e-4);
}

INSTANTIATE_TEST_SUITE_P(DenseModels, GoldenLogits, testing::ValuesIn(golden_models()),
                         [](const auto& golden) {
                           return golden.param.architecture + "_" + golden.param.type;
                         });

TEST(TrainedModel, LogitsAreThoseOfTransformers) {
  const Model model = open_model(test_data("models/tiny-qwen2-f16.gguf"));
  const auto tokens = read_tokens(test_data("models/tiny-qwen2.tokens.txt"));
  const auto expected = read_floats(test_data("models/tiny-qwen2.logits.f32"));
  EXPECT_LT(relative_error(prompt_logits(model, tokens), expected), 1e-3);
}

TEST(TrainedModel, ContinuesGreedilyAsTransformersDoes) {
  const Model model = open_model(test_data("models/tiny-qwen2-f16.gguf"));
  std::ifstream file(test_data("models/tiny-qwen2.ref.json"));
  const nlohmann::json reference = nlohmann::json::parse(file);
  const auto expected = reference["greedy_tokens"].get<std::vector<loaders::TokenId>>();
  const auto prompt = model.tokenizer->encode(reference["greedy_from"].get<std::string>());

  // The reference begins with the prompt.
  MemoryRequest request = memory_request(prompt.size(), {});
  request.context = static_cast<std::uint32_t>(expected.size());
  request.wanted = 1;
  Inference inference(model, plan_memory(model, request), host_backend(model));
  LastLogits logits(1, model.config.vocab_size);
  inference.prefill(prompt, logits);
  Sampler sampler({}, model.vocabulary);
  auto generated = prompt;
  generated.push_back(sampler.choose(logits.values()));
  while (generated.size() < expected.size()) {
    inference.decode(generated.back(), logits);
    generated.push_back(sampler.choose(logits.values()));
  }
  EXPECT_EQ(generated, expected);
}

}  // namespace
}  // namespace tensor_pager::qwen
