#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../loaders/temporary_directory.hpp"
#include "model_run.hpp"
#include "pager/host_device.hpp"
#include "qwen/sampler.hpp"
#include "random_model.hpp"

namespace tensor_pager::qwen {
namespace {

// A random-weight model of tools/make_gguf and the distance of llama.cpp's logits from the exact
// ones, which no file may exceed. (llama.cpp rounds activations to 8 bits; this executor does not.)
struct GoldenModel {
  std::string architecture;
  std::string type;
  double tolerance;
};

class GoldenLogits : public testing::TestWithParam<GoldenModel> {};

// Token i of the golden prompt.
std::vector<loaders::TokenId> golden_tokens() {
  std::vector<loaders::TokenId> tokens;
  for (std::uint64_t i = 0; i < 64; ++i) {
    tokens.push_back(static_cast<loaders::TokenId>((i * 2654435761U + 12345U) % 512U));
  }
  return tokens;
}

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
  // What float32 arithmetic in another order may do. Far below what a mistake does.
  EXPECT_LT(error, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(
    DenseModels, GoldenLogits,
    testing::Values(GoldenModel{"qwen2", "f32", 1e-3}, GoldenModel{"qwen2", "f16", 0.0004},
                    GoldenModel{"qwen2", "bf16", 0.0034}, GoldenModel{"qwen2", "q4_0", 0.0022},
                    GoldenModel{"qwen2", "q4_1", 0.0116}, GoldenModel{"qwen2", "q5_0", 0.0114},
                    GoldenModel{"qwen2", "q5_1", 0.0119}, GoldenModel{"qwen2", "q8_0", 0.0115},
                    GoldenModel{"qwen2", "q2_k", 0.0156}, GoldenModel{"qwen2", "q3_k", 0.0194},
                    GoldenModel{"qwen2", "q4_k", 0.0136}, GoldenModel{"qwen2", "q5_k", 0.0114},
                    GoldenModel{"qwen2", "q6_k", 0.0189}, GoldenModel{"qwen2", "iq4_nl", 0.0036},
                    GoldenModel{"qwen2", "iq4_xs", 0.0191}, GoldenModel{"qwen2", "q4_k_m", 0.0174},
                    GoldenModel{"qwen2", "q5_k_m", 0.015}, GoldenModel{"qwen3", "f32", 1e-3},
                    GoldenModel{"qwen3", "q4_k_m", 0.0182}),
    [](const auto& golden) { return golden.param.architecture + "_" + golden.param.type; });

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
  Inference inference(model, plan_memory(model, request), make_host_device());
  LastLogits logits(1, model.config.vocab_size);
  inference.prefill(prompt, logits);
  Sampler sampler({});
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
