// SPDX-License-Identifier: Apache-2.0
// Qwen models on a GPU: the logits are right, and paging does not change them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <span>
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
#include "qwen/generation_placement.hpp"
#include "qwen/saved_session.hpp"
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

// The processors' share of generation. Their kernels round inputs to 16 bits at most, so the answer
// is about as exact as that of the GPU alone, and always the same.
TEST_P(CudaGoldenLogits, AreReproducedWhereProcessorsComputeAPart) {
  const auto& [architecture, type, llama_cpp] = GetParam();
  const tests::TemporaryDirectory directory;
  const std::filesystem::path path = directory / "model.gguf";
  make_gguf::write_random_model(path, {.architecture = architecture, .type = type, .seed = 7});
  const Model model = open_model(path);
  constexpr std::size_t kPrompt = 40;
  const std::vector<float> all =
      read_floats(test_data("golden/" + architecture + "-" + type + ".logits.f32"));
  const std::vector<float> exact(
      all.begin() + static_cast<std::ptrdiff_t>(kPrompt * model.config.vocab_size), all.end());
  const auto error = [&](std::uint32_t layers) {
    return relative_error(generated_logits(model, golden_tokens(), kPrompt,
                                           {.on_gpu = true, .layers_on_cpu = layers}),
                          exact);
  };
  const double alone = error(0);
  for (const std::uint32_t layers : {1U, 2U, ~0U}) {
    const double placed = error(layers);
    std::printf("%s-%s, layers %x on the CPU: %.4f%% from the exact logits (none: %.4f%%)\n",
                architecture.c_str(), type.c_str(), layers, 100 * placed, 100 * alone);
    EXPECT_LT(placed, std::max(1e-3, 1.2 * alone));
  }
}

TEST_F(CudaPaging, PlacesOnProcessorsGiveTheSameBitsInTwentyRuns) {
  for (const std::uint32_t layers : {0b0101U, 0b1111U}) {
    const auto run = [&] {
      return generated_logits(
          *model_, tokens_, 80,
          {.vram = GiB(8), .arena = Percent{25}, .on_gpu = true, .layers_on_cpu = layers});
    };
    const std::vector<float> first = run();
    const double error = relative_error(
        first, std::vector<float>(
                   reference_.begin() + static_cast<std::ptrdiff_t>(80 * model_->config.vocab_size),
                   reference_.end()));
    std::printf("layers %x on the CPU: %.4f%% from the GPU's prefill\n", layers, 100 * error);
    EXPECT_LT(error, 2e-3);
    for (int i = 1; i < 20; ++i) ASSERT_TRUE(run() == first) << "run " << i;
  }
}

TEST_F(CudaPaging, PlacesOnProcessorsKeepTheBudgetAndWaitOncePerUnit) {
  Backend backend = cuda_backend(*model_, {});
  constexpr std::size_t kPrompt = 80;
  const MemoryRequest request = generation_request(kPrompt, tokens_.size(), {.vram = GiB(1)});
  MemoryPlan plan = plan_memory(*model_, request_for(backend, *model_, request));
  const loaders::Places places = places_of_layers(plan.graph, 0b0110U);
  Inference inference(*model_, std::move(plan), std::move(backend),
                      {.generation = {.places = places}});
  AllLogits logits(1, model_->config.vocab_size);
  inference.prefill(std::span(tokens_).first(kPrompt), logits);
  inference.decode(tokens_[kPrompt], logits);
  for (std::size_t i = kPrompt + 1; i < tokens_.size(); ++i) {
    const std::uint64_t before = inference.host_waits();
    inference.decode(tokens_[i], logits);
    EXPECT_EQ(inference.host_waits(), before + 3) << "two units, and the logits";
  }
  EXPECT_LE(inference.statistics().memory.peak, GiB(1));
}

// Three of them, of different lengths, and a fork: the bits of each alone. Where processors compute
// a part, their kernels are others.
TEST_F(CudaPaging, SequencesAnswerTogetherAsTheyDoAlone) {
  const std::vector<std::size_t> lengths{80, 33, 1};
  const auto next = [&](std::size_t sequence) { return tokens_[lengths[sequence]]; };
  const auto inference = [&](std::uint32_t sequences, std::uint32_t layers_on_cpu) {
    Backend backend = cuda_backend(*model_, {});
    MemoryRequest request =
        generation_request(40, tokens_.size(), {.vram = GiB(1), .arena = Percent{40}});
    request.sequences = sequences;
    MemoryPlan plan = plan_memory(*model_, request_for(backend, *model_, request));
    GenerationPlaces places{.places = places_of_layers(plan.graph, layers_on_cpu)};
    return Inference(*model_, std::move(plan), std::move(backend),
                     {.generation = std::move(places)});
  };
  std::vector<std::vector<float>> alone;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    Inference one = inference(1, 0);
    const NextToken token{one.begin(), next(i)};
    NoLogits nowhere;
    one.extend(token.sequence, std::span(tokens_).first(lengths[i]), nowhere);
    AllLogits logits(1, model_->config.vocab_size);
    one.advance({&token, 1}, logits);
    alone.push_back(logits.values);
  }
  std::vector<float> first;
  for (const std::uint32_t layers_on_cpu : {0U, 0U, 0b0110U}) {
    Inference together = inference(4, layers_on_cpu);
    std::vector<NextToken> batch;
    NoLogits nowhere;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      batch.push_back({together.begin(), next(i)});
      together.extend(batch[i].sequence, std::span(tokens_).first(lengths[i]), nowhere);
    }
    batch.push_back({together.fork(batch[0].sequence), next(0)});
    AllLogits logits(batch.size(), model_->config.vocab_size);
    together.advance(batch, logits);
    const auto row = [&](std::size_t i) {
      const auto begin = logits.values.begin() + static_cast<std::ptrdiff_t>(i * alone[0].size());
      return std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(alone[0].size()));
    };
    for (std::size_t i = 0; i < alone.size(); ++i) {
      const double error = relative_error(row(i), alone[i]);
      std::printf("sequence %zu, layers %u on processors: %.4f%%\n", i, layers_on_cpu, 100 * error);
      EXPECT_LT(error, 2e-3);
      EXPECT_TRUE(row(i) == alone[i] || layers_on_cpu != 0) << "sequence " << i;
    }
    EXPECT_TRUE(row(0) == row(3)) << "a fork";
    if (layers_on_cpu != 0) continue;
    if (first.empty()) first = logits.values;
    EXPECT_TRUE(logits.values == first);
    EXPECT_LE(together.statistics().memory.peak, GiB(1));
  }
}

TEST_F(CudaPaging, GoesOnFromASavedSession) {
  constexpr std::size_t kPrompt = 70;
  const tests::TemporaryDirectory directory;
  const auto inference = [&] {
    Backend backend = cuda_backend(*model_, {});
    const MemoryRequest request =
        generation_request(kPrompt, tokens_.size(), {.vram = GiB(1), .arena = Percent{40}});
    MemoryPlan plan = plan_memory(*model_, request_for(backend, *model_, request));
    return Inference(*model_, std::move(plan), std::move(backend), {});
  };
  const auto go_on = [&](Inference& from, SequenceId sequence) {
    AllLogits logits(1, model_->config.vocab_size);
    from.extend(sequence, std::span(tokens_).subspan(kPrompt, 10), logits);
    return logits.values;
  };
  std::vector<float> expected;
  {
    Inference first = inference();
    const SequenceId sequence = first.begin();
    NoLogits nowhere;
    first.extend(sequence, std::span(tokens_).first(kPrompt), nowhere);
    output::ReplacementFile file(directory / "session");
    save_session(first, sequence, file);
    file.commit();
    expected = go_on(first, sequence);
  }
  Inference second = inference();
  const SequenceId sequence = second.begin();
  SavedSession(directory / "session").load(second, sequence);
  EXPECT_TRUE(go_on(second, sequence) == expected);
}

// More than the kernels for few tokens take go through those of prompts.
TEST_F(CudaPaging, ManySequencesAnswerAsOneDoes) {
  constexpr std::uint32_t kMany = 9;
  constexpr std::size_t kPrompt = 50;
  const auto next_logits = [&](std::uint32_t sequences) {
    Backend backend = cuda_backend(*model_, {});
    MemoryRequest request =
        generation_request(kPrompt, tokens_.size(), {.vram = GiB(1), .arena = Percent{40}});
    request.sequences = sequences;
    MemoryPlan plan = plan_memory(*model_, request_for(backend, *model_, request));
    Inference inference(*model_, std::move(plan), std::move(backend), {});
    NoLogits nowhere;
    std::vector<NextToken> batch{{inference.begin(), tokens_[kPrompt]}};
    inference.extend(batch[0].sequence, std::span(tokens_).first(kPrompt), nowhere);
    while (batch.size() < sequences) {
      batch.push_back({inference.fork(batch[0].sequence), tokens_[kPrompt]});
    }
    AllLogits logits(batch.size(), model_->config.vocab_size);
    inference.advance(batch, logits);
    EXPECT_LE(inference.statistics().memory.peak, GiB(1));
    return logits.values;
  };
  const std::vector<float> alone = next_logits(1);
  const std::vector<float> many = next_logits(kMany);
  for (std::size_t i = 0; i < kMany; ++i) {
    const auto begin = many.begin() + static_cast<std::ptrdiff_t>(i * alone.size());
    const std::vector<float> row(begin, begin + static_cast<std::ptrdiff_t>(alone.size()));
    EXPECT_LT(relative_error(row, alone), 2e-3) << "sequence " << i;
  }
}

TEST_F(CudaPaging, IsPlacedByWhatThisMachineWasMeasuredToDo) {
  const MachineRates device = measure_cuda_rates(0);
  for (const PlaceWish& wish :
       std::vector<PlaceWish>{Fastest{}, Percent{60}, Percent{100}, OnDevice{}}) {
    Backend backend = cuda_backend(*model_, {});
    const MemoryRequest request =
        generation_request(80, tokens_.size(), {.vram = GiB(8), .arena = Percent{20}});
    MemoryPlan plan = plan_memory(*model_, request_for(backend, *model_, request));
    const PlacementMeasurements measured = measure_placement(
        *model_, plan.graph, *backend.store, {.device = device, .gpu = 0}, std::nullopt);
    ChosenPlaces chosen =
        choose_places(*model_, plan, measured.rates, wish, measured.threads.threads);
    std::printf("%s\n", measured.threads.what.c_str());
    for (const std::string& line : chosen.lines()) std::printf("%s\n", line.c_str());
    if (std::holds_alternative<Percent>(wish)) {
      EXPECT_GT(chosen.predicted.on_cpu, Bytes{0});
    }
    Inference inference(*model_, std::move(plan), std::move(backend),
                        {.generation = std::move(chosen.places)});
    const std::vector<float> logits = generated_logits(inference, *model_, tokens_, 80);
    EXPECT_LT(
        relative_error(logits, std::vector<float>(
                                   reference_.end() - static_cast<std::ptrdiff_t>(logits.size()),
                                   reference_.end())),
        2e-3);
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
