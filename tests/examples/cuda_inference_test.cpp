// SPDX-License-Identifier: Apache-2.0
// Qwen models on a GPU: the logits are right, and paging does not change them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "../edited_model.hpp"
#include "../temporary_directory.hpp"
#include "golden_models.hpp"
#include "loaders/graph.hpp"
#include "model_run.hpp"
#include "qwen/error.hpp"
#include "random_model.hpp"
#include "random_weights.hpp"

namespace tensor_pager::qwen {
namespace {

class CudaGoldenLogits : public testing::TestWithParam<GoldenModel> {
 protected:
  void SetUp() override {
    if (gpu_count() == 0) GTEST_SKIP() << "no GPU on this machine";
  }
};

TEST_P(CudaGoldenLogits, AreReproduced) {
  const auto& [architecture, type, llama_cpp] = GetParam();
  const tests::TemporaryDirectory directory;
  const std::filesystem::path path = directory / "model.gguf";
  make_gguf::write_random_model(path, {.architecture = architecture, .type = type, .seed = 7});
  const Model model = open_model(path);
  const auto exact = read_floats(test_data("golden/" + architecture + "-" + type + ".logits.f32"));
  const double error =
      relative_error(prompt_logits(model, golden_tokens(), {.on_gpu = true}), exact);
  std::printf("%s-%s: %.4f%% from the exact logits (llama.cpp %.2f%%)\n", architecture.c_str(),
              type.c_str(), 100 * error, 100 * llama_cpp);
  EXPECT_LT(error, std::max(0.005, llama_cpp));
}

INSTANTIATE_TEST_SUITE_P(DenseModels, CudaGoldenLogits, testing::ValuesIn(golden_models()),
                         [](const auto& golden) {
                           return golden.param.architecture + "_" + golden.param.type;
                         });

class CudaInference : public testing::Test {
 protected:
  void SetUp() override {
    if (gpu_count() == 0) GTEST_SKIP() << "no GPU on this machine";
  }
};

TEST_F(CudaInference, TrainedModelHasTheLogitsOfTransformers) {
  const Model model = open_model(test_data("models/tiny-qwen2-f16.gguf"));
  const auto tokens = read_tokens(test_data("models/tiny-qwen2.tokens.txt"));
  const auto expected = read_floats(test_data("models/tiny-qwen2.logits.f32"));
  const double error = relative_error(prompt_logits(model, tokens, {.on_gpu = true}), expected);
  std::printf("tiny-qwen2-f16: %.4f%% from transformers\n", 100 * error);
  EXPECT_LT(error, 3e-3);
}

// A model of tools/make_gguf, to be changed.
tests::EditedModel random_model(const tests::TemporaryDirectory& directory) {
  const std::filesystem::path path = directory / "random.gguf";
  make_gguf::write_random_model(path, {.architecture = "qwen3", .type = "f16", .seed = 7});
  return tests::EditedModel(path);
}

// The host's logits are exact (model_features_test). An ubatch of one token goes another way.
TEST_F(CudaInference, BiasesAndRopeFactorsAreThoseOfTheHost) {
  const tests::TemporaryDirectory directory;
  tests::EditedModel file = random_model(directory);
  make_gguf::RandomStream random(3);
  const auto add = [&](const std::string& name, std::uint64_t count, float mean) {
    std::vector<float> values(count);
    for (float& value : values) value = mean + 0.3F * random.normal();
    file.add(name, {count}, values);
  };
  for (const std::string name :
       {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}) {
    const std::string full = "blk.1." + name;
    add(full + ".bias", file.tensor(full + ".weight").ne.back(), 0);
  }
  add("output.bias", file.tensor("output.weight").ne.back(), 0);
  const Model plain = open_model(file.write(directory / "biases.gguf"));
  add("rope_freqs.weight", plain.config.rope_dimension_count / 2, 4);
  const Model model = open_model(file.write(directory / "factors.gguf"));
  const auto exact = prompt_logits(model, golden_tokens());
  EXPECT_GT(relative_error(prompt_logits(plain, golden_tokens()), exact), 0.05);
  for (const std::uint32_t ubatch : {1U, 21U, 64U}) {
    const double error = relative_error(
        prompt_logits(model, golden_tokens(), {.ubatch = ubatch, .on_gpu = true}), exact);
    std::printf("biases and factors, ubatches of %u: %.4f%% from the host\n", ubatch, 100 * error);
    EXPECT_LT(error, 5e-3);
  }
}

TEST_F(CudaInference, NamesTheLayerAfterWhichNothingIsANumber) {
  const tests::TemporaryDirectory directory;
  const std::vector<std::pair<std::string, std::string>> places = {
      {"token_embd.weight", "the token embedding"},
      {"blk.0.attn_norm.weight", "layer 0 (attention)"},
      {"blk.1.attn_v.weight", "layer 1 (attention)"},
      {"blk.1.ffn_down.weight", "layer 1 (feed-forward)"},
      {"output.weight", "the output matrix"}};
  for (const auto& [name, where] : places) {
    tests::EditedModel file = random_model(directory);
    std::ranges::fill(file.tensor(name).data, std::byte{0xff});
    const Model model = open_model(file.write(directory / "nan.gguf"));
    for (const std::uint32_t ubatch : {1U, 64U}) {
      try {
        prompt_logits(model, golden_tokens(), {.ubatch = ubatch, .on_gpu = true});
        ADD_FAILURE() << name << " is not a number, and nobody says so";
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("not numbers after " + where), std::string::npos)
            << error.what();
      }
    }
  }
}

// Mean over positions of the Kullback-Leibler divergence from `exact`, in nats.
double divergence(const std::vector<float>& exact, const std::vector<float>& other,
                  std::size_t vocabulary) {
  const auto log_sum = [&](const float* logits) {
    double sum = 0;
    for (std::size_t i = 0; i < vocabulary; ++i) sum += std::exp(static_cast<double>(logits[i]));
    return std::log(sum);
  };
  double total = 0;
  for (std::size_t first = 0; first < exact.size(); first += vocabulary) {
    const double p_sum = log_sum(&exact[first]);
    const double q_sum = log_sum(&other[first]);
    for (std::size_t i = first; i < first + vocabulary; ++i) {
      const double p = static_cast<double>(exact[i]) - p_sum;
      total += std::exp(p) * (p - (static_cast<double>(other[i]) - q_sum));
    }
  }
  return total / static_cast<double>(exact.size() / vocabulary);
}

TEST_F(CudaInference, DivergesFromTheExactLogitsNoMoreThanLlamaCppDoes) {
  // llama.cpp (llama-cpp-python 0.3.36, CPU) on this file and these tokens, from its own float32
  // pass over the weights dequantised to F32 by the gguf package.
  constexpr double kLlamaCpp = 6.84e-4;
  const Model model = open_model(test_data("models/tiny-qwen2-q4_k_m.gguf"));
  const auto tokens = read_tokens(test_data("models/tiny-qwen2.tokens.txt"));
  // The host's logits stand for the exact ones, from which they are at most 1e-4 (logits_test).
  const double ours =
      divergence(prompt_logits(model, tokens), prompt_logits(model, tokens, {.on_gpu = true}),
                 model.config.vocab_size);
  std::printf("tiny-qwen2-q4_k_m: divergence %.3g (llama.cpp %.3g)\n", ours, kLlamaCpp);
  EXPECT_LE(ours, kLlamaCpp);
}

// A model of real widths, large enough that frames of 2 MiB and more are paged.
class CudaPaging : public CudaInference {
 protected:
  void SetUp() override {
    CudaInference::SetUp();
    if (IsSkipped()) return;
    make_gguf::write_random_model(
        path_, {.architecture = "qwen2", .type = "q4_k_m", .preset = "7b", .layers = 4, .seed = 3});
    model_.emplace(open_model(path_));
    for (std::uint32_t i = 0; i < 96; ++i) {
      tokens_.push_back(static_cast<loaders::TokenId>(i * 2654435761U % model_->config.vocab_size));
    }
    reference_ = logits({.arena = Percent{100}});
  }

  std::vector<float> logits(RunOptions options) const {
    options.on_gpu = true;
    options.vram = GiB(8);
    return prompt_logits(*model_, tokens_, options);
  }

  tests::TemporaryDirectory directory_;
  std::filesystem::path path_ = directory_ / "model.gguf";
  std::optional<Model> model_;
  std::vector<loaders::TokenId> tokens_;
  std::vector<float> reference_;
};

TEST_F(CudaPaging, NeverChangesAnAnswer) {
  for (const Bytes page : {MiB(2), MiB(16)}) {
    Backend backend = cuda_backend(*model_, {});
    MemoryRequest request = request_for(
        backend, *model_,
        memory_request(tokens_.size(), {.vram = GiB(8), .arena = Bytes{0}, .page = page}));
    Bytes minimum;
    try {
      plan_memory(*model_, request);
    } catch (const MemoryError& error) {
      minimum = error.minimum();
    }
    const std::vector<std::variant<Bytes, Percent>> arenas = {Percent{100}, Percent{50},
                                                              Percent{10}, minimum};
    for (const auto& arena : arenas) {
      if (std::holds_alternative<Percent>(arena) && std::get<Percent>(arena).value < 50 &&
          page == MiB(16))
        continue;
      for (const std::uint32_t window : {0U, 3U, kWholePass}) {
        EXPECT_TRUE(logits({.arena = arena, .page = page, .policy = {.window = window}}) ==
                    reference_)
            << "pages of " << to_string(page) << ", window " << window;
      }
    }
  }
}

TEST_F(CudaPaging, NeverChangesAnAnswerOverTwentyRuns) {
  for (int run = 0; run < 20; ++run) {
    ASSERT_TRUE(logits({.arena = Percent{25}}) == reference_) << "run " << run;
  }
}

TEST_F(CudaPaging, ArenaThatChangesMeanwhileNeverChangesAnAnswer) {
  EXPECT_EQ(
      runs_disturbed_by_arena(
          *model_, tokens_, {.vram = GiB(8), .arena = Percent{50}, .page = MiB(2), .on_gpu = true},
          100, GiB(1)),
      0);
}

// The host queues work and goes on: it waits for the GPU only when it takes logits, at the end.
TEST_F(CudaPaging, HostDoesNotWaitForTheGpuWithinAPass) {
  Backend backend = cuda_backend(*model_, {});
  const auto tokens = static_cast<std::uint32_t>(tokens_.size());
  MemoryRequest request = memory_request(tokens, {.vram = GiB(8), .arena = Percent{25}});
  request.wanted = 1;
  const MemoryPlan plan = plan_memory(*model_, request_for(backend, *model_, request));
  Inference inference(*model_, plan, std::move(backend));
  AllLogits logits(1, model_->config.vocab_size);
  for (int pass = 0; pass < 3; ++pass) {
    std::uint64_t at_first_step = 0;
    inference.prefill(tokens_, logits, [&](std::size_t done, std::size_t total) {
      if (done == 1) at_first_step = inference.host_waits();
      if (done == total - 1) {
        EXPECT_EQ(inference.host_waits(), at_first_step) << "pass " << pass;
      }
    });
    EXPECT_EQ(inference.host_waits(), at_first_step + 1) << "pass " << pass;
  }
}

TEST_F(CudaPaging, UbatchesDoNotChangeAnAnswer) {
  for (const std::uint32_t ubatch : {32U, 48U}) {
    EXPECT_TRUE(logits({.arena = Percent{50}, .ubatch = ubatch}) == reference_)
        << "ubatch " << ubatch;
  }
}

}  // namespace
}  // namespace tensor_pager::qwen
