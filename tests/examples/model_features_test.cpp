// SPDX-License-Identifier: Apache-2.0
// What a file may have beyond the plainest Qwen: each is either part of the answer, which is held
// against a pass in float64 that shares no code, or an error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <numbers>
#include <string>
#include <vector>

#include "../edited_model.hpp"
#include "../temporary_directory.hpp"
#include "exact_pass.hpp"
#include "model_run.hpp"
#include "qwen/error.hpp"
#include "random_model.hpp"
#include "random_weights.hpp"

namespace tensor_pager::qwen {
namespace {

using loaders::TensorType;
using testing::AllOf;
using testing::HasSubstr;
using tests::EditedModel;

constexpr double kBase = 1e6;  // of make_gguf's models
constexpr std::size_t kTokens = 24;

std::vector<loaders::TokenId> some_tokens() {
  std::vector<loaders::TokenId> tokens;
  for (std::uint32_t i = 0; i < kTokens; ++i) tokens.push_back((i * 197 + 11) % 512);
  return tokens;
}

class ModelFeatures : public testing::TestWithParam<std::string> {
 protected:
  EditedModel random_model() const { return random_model(GetParam()); }
  EditedModel random_model(const std::string& architecture) const {
    const auto path = directory_ / "random.gguf";
    make_gguf::write_random_model(path, {.architecture = architecture, .type = "f32", .layers = 2});
    return EditedModel(path);
  }

  Model open(const EditedModel& model, const loaders::RopeOverrides& rope = {}) const {
    return open_model(model.write(directory_ / "model.gguf"), rope);
  }
  std::string error(const EditedModel& model) const {
    try {
      open(model);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "no error";
  }

  static std::vector<float> random_values(std::size_t count, float mean = 0, float spread = 0.3F) {
    make_gguf::RandomStream random(count);
    std::vector<float> values(count);
    for (float& value : values) value = mean + spread * random.normal();
    return values;
  }
  // For the matrix NAME.weight a bias NAME.bias.
  static void add_bias(EditedModel& model, const std::string& name) {
    const std::uint64_t rows = model.tensor(name + ".weight").ne.back();
    model.remove(name + ".bias").add(name + ".bias", {rows}, random_values(rows));
  }

  static double error_of(EditedModel& file, const Model& model, const ExactRope& rope,
                         const RunOptions& options = {}) {
    const loaders::ModelConfig& config = model.config;
    const ExactShape shape{.layers = config.layers.size(),
                           .heads = config.layers.front().head_count,
                           .kv_heads = config.layers.front().head_count_kv,
                           .head_dim = config.key_length};
    const auto exact = exact_logits(file, shape, rope, some_tokens());
    return relative_error(prompt_logits(model, some_tokens(), options),
                          {exact.begin(), exact.end()});
  }
  double error_of(EditedModel& file, const RunOptions& options = {}) const {
    const Model model = open(file);
    return error_of(file, model, plain_rope(model.config.rope_dimension_count, kBase), options);
  }

  tests::TemporaryDirectory directory_;
};

INSTANTIATE_TEST_SUITE_P(Dense, ModelFeatures, testing::Values("qwen2", "qwen3"),
                         [](const auto& instance) { return instance.param; });

const std::vector<std::string> kProjections = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                               "ffn_gate", "ffn_up", "ffn_down"};

TEST_P(ModelFeatures, PlainModelsAreExact) {
  EditedModel model = random_model();
  EXPECT_LT(error_of(model), 1e-5);
}

TEST_P(ModelFeatures, BiasesOfEveryProjectionAreAdded) {
  for (const std::string& name : kProjections) {
    EditedModel model = random_model();
    // In one layer alone, too: what a layer has is its own affair.
    add_bias(model, "blk.1." + name);
    EXPECT_LT(error_of(model), 1e-5) << name;
  }
  EditedModel model = random_model();
  add_bias(model, "output");
  EXPECT_LT(error_of(model), 1e-5);
}

// Steps of an arena of this size are slices, which take their part of each bias.
TEST_P(ModelFeatures, BiasesAreCutWithTheirMatrices) {
  EditedModel model = random_model();
  for (const std::string& name : kProjections) {
    for (const std::string layer : {"blk.0.", "blk.1."}) add_bias(model, layer + name);
  }
  add_bias(model, "output");
  EXPECT_LT(error_of(model), 1e-5);
  for (const std::uint32_t ubatch : {1U, 7U}) {
    EXPECT_LT(error_of(model, {.arena = Percent{12}, .page = KiB(4), .ubatch = ubatch}), 1e-5);
  }
}

TEST_P(ModelFeatures, BiasesMayBeHalves) {
  EditedModel model = random_model();
  for (const std::string name : {"blk.0.ffn_gate", "blk.0.ffn_up", "blk.1.ffn_down", "output"}) {
    add_bias(model, name);
    EditedModel::Tensor& bias = model.tensor(name + ".bias");
    bias.type = TensorType::bf16;  // the upper halves of float32
    std::vector<std::byte> upper;
    for (std::size_t i = 0; i < bias.data.size(); i += 4) {
      upper.insert(upper.end(), {bias.data[i + 2], bias.data[i + 3]});
    }
    bias.data = upper;
  }
  EXPECT_LT(error_of(model), 1e-5);
}

TEST_P(ModelFeatures, RopeFactorsDivideFrequencies) {
  EditedModel file = random_model();
  const std::size_t dims = open(file).config.rope_dimension_count;
  auto factors = random_values(dims / 2, 4, 0.8F);
  file.add("rope_freqs.weight", {dims / 2}, factors);
  ExactRope rope = plain_rope(dims, kBase);
  for (std::size_t i = 0; i < dims / 2; ++i) {
    rope.frequencies[i] /= static_cast<double>(factors[i]);
  }
  EXPECT_LT(error_of(file, open(file), rope), 1e-5);

  file.remove("rope_freqs.weight");
  factors[3] = 0;
  file.add("rope_freqs.weight", {dims / 2}, factors);
  EXPECT_THAT(error(file), AllOf(HasSubstr("rope_freqs.weight"), HasSubstr("element 3 is 0")));
  file.remove("rope_freqs.weight").add("rope_freqs.weight", {dims}, random_values(dims));
  EXPECT_THAT(error(file), AllOf(HasSubstr("rope_freqs.weight"), HasSubstr("has shape")));
}

// YaRN as its authors' code and transformers have it: what turns less than `slow` times within the
// trained context is interpolated, what turns more than `fast` times is kept.
struct Yarn {
  double factor = 4;
  double context = 64;
  double ext = 1;
  double fast = 32;
  double slow = 1;
};

ExactRope yarn_rope(std::size_t dims, const Yarn& yarn, double base = kBase) {
  ExactRope rope = plain_rope(dims, base);
  const double d = static_cast<double>(dims);
  const auto correction = [&](double turns) {
    return d * std::log(yarn.context / (turns * 2 * std::numbers::pi)) / (2 * std::log(base));
  };
  const double low = std::max(std::floor(correction(yarn.fast)), 0.0);
  const double high = std::min(std::ceil(correction(yarn.slow)), d - 1);
  for (std::size_t i = 0; i < rope.frequencies.size(); ++i) {
    const double ramp = (static_cast<double>(i) - low) / std::max(high - low, 0.001);
    const double kept = (1 - std::min(std::max(ramp, 0.0), 1.0)) * yarn.ext;
    rope.frequencies[i] *= kept + (1 - kept) / yarn.factor;
  }
  if (yarn.ext != 0) rope.magnitude = 0.1 * std::log(yarn.factor) + 1;
  return rope;
}

class RopeKeys : public ModelFeatures {
 protected:
  template <class T>
  void set(const std::string& key, const T& value) {
    file_.set(GetParam() + ".rope." + key, value);
  }
  void yarn(float context = 64) {
    set("scaling.type", "yarn");
    set("scaling.factor", 4.0F);
    set("scaling.original_context_length", static_cast<std::uint32_t>(context));
  }
  std::size_t dims() const { return open(file_).config.rope_dimension_count; }
  ExactRope linear(double factor) const {
    ExactRope rope = plain_rope(dims(), kBase);
    for (double& frequency : rope.frequencies) frequency /= factor;
    return rope;
  }
  double error_with(const ExactRope& rope) { return error_of(file_, open(file_), rope); }

  EditedModel file_ = random_model();
};

INSTANTIATE_TEST_SUITE_P(Dense, RopeKeys, testing::Values("qwen2", "qwen3"),
                         [](const auto& instance) { return instance.param; });

TEST_P(RopeKeys, AFactorWithoutATypeIsLinear) {
  set("scaling.factor", 4.0F);
  EXPECT_LT(error_with(linear(4)), 1e-5);
  set("scaling.factor", 0.0F);  // how some converters write none
  EXPECT_LT(error_with(linear(1)), 1e-5);
}

TEST_P(RopeKeys, TypeNoneIgnoresTheFactor) {
  set("scaling.type", "none");
  set("scaling.factor", 4.0F);
  EXPECT_LT(error_with(linear(1)), 1e-5);
}

TEST_P(RopeKeys, Yarn) {
  yarn();
  EXPECT_LT(error_with(yarn_rope(dims(), {})), 1e-5);
}

TEST_P(RopeKeys, YarnExtFactorBlends) {
  yarn();
  for (const float ext : {0.5F, 0.0F}) {
    set("scaling.yarn_ext_factor", ext);
    EXPECT_LT(error_with(yarn_rope(dims(), {.ext = static_cast<double>(ext)})), 1e-5) << ext;
  }
  set("scaling.yarn_ext_factor", -1.0F);  // not set
  EXPECT_LT(error_with(yarn_rope(dims(), {})), 1e-5);
}

TEST_P(RopeKeys, YarnBetas) {
  yarn(2048);
  set("scaling.yarn_beta_fast", 8.0F);
  set("scaling.yarn_beta_slow", 2.0F);
  EXPECT_LT(error_with(yarn_rope(dims(), {.context = 2048, .fast = 8, .slow = 2})), 1e-5);
}

TEST_P(RopeKeys, AttentionFactorsMultiplyWhateverTheType) {
  set("scaling.attn_factor", 1.25F);
  ExactRope rope = linear(1);
  rope.magnitude = 1.25;
  EXPECT_LT(error_with(rope), 1e-5);
  yarn();
  set("scaling.yarn_attn_factor", 0.5F);
  rope = yarn_rope(dims(), {});
  rope.magnitude *= 1.25 * 0.5;
  EXPECT_LT(error_with(rope), 1e-5);
}

TEST_P(RopeKeys, WhatNobodyDefinedIsRefused) {
  yarn();
  set("scaling.yarn_log_multiplier", 0.0F);
  EXPECT_EQ(error(file_), "no error");
  set("scaling.yarn_log_multiplier", 0.1F);
  EXPECT_THAT(error(file_), AllOf(HasSubstr("yarn_log_multiplier"), HasSubstr("not supported")));
}

TEST_P(RopeKeys, AUserSaysWhatTheFileDoesNot) {
  const Model model = open(file_, {.scaling = loaders::RopeScalingKind::yarn,
                                   .factor = 4.0F,
                                   .frequency_base = 1e4F,
                                   .original_context_length = 64});
  EXPECT_LT(error_of(file_, model, yarn_rope(dims(), {}, 1e4)), 1e-5);
  EXPECT_LT(error_of(file_, open(file_, {.factor = 4.0F}), linear(4)), 1e-5);
  yarn();
  EXPECT_LT(error_of(file_, open(file_, {.factor = 2.0F}), yarn_rope(dims(), {.factor = 2})), 1e-5);
  const Model none = open(file_, {.scaling = loaders::RopeScalingKind::none});
  EXPECT_LT(error_of(file_, none, linear(1)), 1e-5);
}

TEST_P(RopeKeys, StretchTheContext) {
  file_.set(GetParam() + ".context_length", std::uint32_t{1000});
  EXPECT_EQ(open(file_).config.context_length, 1000U);
  EXPECT_EQ(open(file_, {.factor = 4.0F}).config.context_length, 4000U);
  EXPECT_EQ(open(file_, {.frequency_base = 1e5F}).config.context_length, 1000U);
  EXPECT_EQ(open(file_, {.factor = 4.0F, .original_context_length = 500}).config.context_length,
            2000U);
  // Without the original one, the file's is the stretched one.
  set("scaling.factor", 4.0F);
  EXPECT_EQ(open(file_).config.context_length, 1000U);
  set("scaling.original_context_length", std::uint32_t{800});
  EXPECT_EQ(open(file_).config.context_length, 3200U);
}

TEST_P(ModelFeatures, TensorsWithoutAUseAreErrors) {
  const std::string bare = GetParam();
  const std::vector<std::string> strays = {
      "blk.0.attn_norm.scale",    "blk.1.ffn_norm.scale", "blk.0.attn_q.weight.lora_a",
      "blk.2.attn_norm.weight",   "blk.7.attn_q.weight",  "output_norm.bias",
      "rope_factors_long.weight", "blk.0.attn_sinks",     "anything"};
  for (const std::string& name : strays) {
    EditedModel model = random_model();
    model.add(name, {32}, random_values(32));
    EXPECT_THAT(error(model), AllOf(HasSubstr(name), HasSubstr("has no use for it"),
                                    testing::Not(HasSubstr("such tensors"))));
  }
  EditedModel model = random_model();
  for (const std::string& name : strays) model.add(name, {32}, random_values(32));
  EXPECT_THAT(error(model), AllOf(HasSubstr("blk.0.attn_norm.scale"),
                                  HasSubstr("the first of 9 such tensors"), HasSubstr(bare)));
}

TEST_P(ModelFeatures, ABlockCountSmallerThanTheFileIsAnError) {
  EditedModel model = random_model();
  model.set(GetParam() + ".block_count", std::uint32_t{1});
  EXPECT_THAT(error(model), AllOf(HasSubstr("blk.1."), HasSubstr("1 layer has no use")));
}

// The last block predicts further tokens, and is no layer; a layer is not taken for one.
TEST_P(ModelFeatures, PredictionBlocksAreLeftOut) {
  EditedModel model = random_model();
  const double plain = error_of(model);
  model.set(GetParam() + ".block_count", std::uint32_t{3});
  model.set(GetParam() + ".nextn_predict_layers", std::uint32_t{1});
  model.add("blk.2.nextn.eh_proj.weight", {8, 4}, random_values(32));
  model.add("blk.2.attn_q.weight", {8, 4}, random_values(32));
  EXPECT_LT(error_of(model), 1e-5);
  EXPECT_EQ(error_of(model), plain);

  model.remove("blk.2.nextn.eh_proj.weight");
  EXPECT_THAT(error(model), HasSubstr("blk.2.attn_q.weight"));
  EditedModel cut = random_model();
  cut.set(GetParam() + ".nextn_predict_layers", std::uint32_t{1});
  EXPECT_THAT(error(cut), HasSubstr("blk.1."));
}

TEST_P(ModelFeatures, FilesThatAreNoLanguageModelsAreNamed) {
  const std::vector<std::pair<std::string, std::function<void(EditedModel&, std::string)>>> files =
      {{"LoRA", [](auto& m, auto) { m.set("general.type", "adapter"); }},
       {"importance matrix",
        [](auto& m, auto) { m.set("general.type", "imatrix").erase("general.architecture"); }},
       {"projector", [](auto& m, auto) { m.set("general.type", "mmproj"); }},
       {"embedding model", [](auto& m, auto a) { m.set(a + ".attention.causal", false); }},
       {"embedding model", [](auto& m, auto a) { m.set(a + ".pooling_type", std::uint32_t{3}); }},
       {"reranker", [](auto& m, auto a) { m.set(a + ".pooling_type", std::uint32_t{4}); }},
       {"reranker",
        [](auto& m, auto a) {
          m.template set_array<std::string_view>(a + ".classifier.output_labels", {"yes", "no"});
        }},
       {"reranker", [](auto& m, auto) {
          m.add("cls.output.weight", {256, 1}, random_values(256));
        }}};
  for (const auto& [what, change] : files) {
    EditedModel model = random_model();
    change(model, GetParam());
    EXPECT_THAT(error(model), HasSubstr(what));
  }
  EditedModel model = random_model();
  model.set("general.type", "model");
  model.set(GetParam() + ".attention.causal", true);
  model.set(GetParam() + ".pooling_type", std::uint32_t{0});
  EXPECT_EQ(error(model), "no error");
}

// Values that are not numbers.
class NotNumbers : public ModelFeatures {
 protected:
  static void poison(EditedModel& model, const std::string& name, std::size_t element = 0,
                     float value = std::nanf("")) {
    std::memcpy(model.tensor(name).data.data() + 4 * element, &value, sizeof(value));
  }
  std::string run_error(const EditedModel& file, const RunOptions& options = {}) const {
    const Model model = open(file);
    try {
      prompt_logits(model, some_tokens(), options);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
};

INSTANTIATE_TEST_SUITE_P(Dense, NotNumbers, testing::Values("qwen2", "qwen3"),
                         [](const auto& instance) { return instance.param; });

TEST_P(NotNumbers, AreFoundWhereTheyAre) {
  const std::vector<std::pair<std::string, std::string>> places = {
      {"blk.0.attn_norm.weight", "layer 0 (attention)"},
      {"blk.0.attn_q.weight", "layer 0 (attention)"},
      {"blk.0.attn_k.weight", "layer 0 (attention)"},
      {"blk.0.attn_v.weight", "layer 0 (attention)"},
      {"blk.0.attn_output.weight", "layer 0 (attention)"},
      {"blk.1.ffn_norm.weight", "layer 1 (feed-forward)"},
      {"blk.1.ffn_gate.weight", "layer 1 (feed-forward)"},
      {"blk.1.ffn_up.weight", "layer 1 (feed-forward)"},
      {"blk.1.ffn_down.weight", "layer 1 (feed-forward)"},
      {"output_norm.weight", "the output matrix"},
      {"output.weight", "the output matrix"}};
  for (const auto& [name, where] : places) {
    for (const float value : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
      EditedModel model = random_model();
      poison(model, name, 0, value);
      EXPECT_THAT(run_error(model), HasSubstr("logits are not numbers after " + where)) << name;
    }
  }
  EditedModel model = random_model();
  poison(model, "token_embd.weight", some_tokens()[5] * 256 + 7);
  EXPECT_THAT(run_error(model), HasSubstr("after the token embedding"));
  EXPECT_THAT(run_error(model, {.ubatch = 3}), HasSubstr("after the token embedding"));
}

// A row of the embedding that the prompt does not have is nobody's business.
TEST_P(NotNumbers, ThatNobodyReadsAreNoErrors) {
  EditedModel model = random_model();
  const auto tokens = some_tokens();
  std::size_t other = 0;
  while (std::ranges::find(tokens, other) != tokens.end()) ++other;
  poison(model, "token_embd.weight", other * 256);
  EXPECT_EQ(run_error(model), "no error");
}

// The file is overwritten while it is paged in: the run ends, and the next one is none the worse.
TEST_P(NotNumbers, AreFoundWhenWeightsAreOverwrittenMeanwhile) {
  const EditedModel good = random_model();
  EditedModel bad = good;
  for (float& value :
       std::span(reinterpret_cast<float*>(bad.tensor("blk.1.ffn_down.weight").data.data()),
                 bad.tensor("blk.1.ffn_down.weight").data.size() / 4)) {
    value = std::nanf("");
  }
  const Model model = open(good);
  Backend backend = host_backend(model);
  const MemoryRequest request =
      request_for(backend, model, memory_request(kTokens, {.arena = Percent{20}, .page = KiB(4)}));
  Inference inference(model, plan_memory(model, request), std::move(backend));
  AllLogits before(kTokens, model.config.vocab_size);
  inference.prefill(some_tokens(), before);
  AllLogits logits(kTokens, model.config.vocab_size);
  const auto overwrite = [&](const EditedModel& with) { with.write(directory_ / "model.gguf"); };
  const PassProgress at_first = [&](std::size_t done, std::size_t) {
    if (done == 1) overwrite(bad);
  };
  EXPECT_THROW(inference.prefill(some_tokens(), logits, at_first), Error);
  EXPECT_THROW(inference.prefill(some_tokens(), logits), Error);
  overwrite(good);
  inference.evict_all();
  inference.prefill(some_tokens(), logits);
  EXPECT_EQ(logits.values, before.values);
}

// Rows of the embedding beyond the vocabulary are padding, whatever is in them.
class PaddedVocabulary : public testing::Test {
 protected:
  static constexpr std::uint64_t kPadding = 40;

  // The tiny model with rows that would always win, or are not numbers.
  std::filesystem::path padded(float value) {
    EditedModel model(test_data("models/tiny-qwen2-f16.gguf"));
    for (const std::string name : {"token_embd.weight", "output.weight"}) {
      EditedModel::Tensor* const matrix = model.find(name);
      if (matrix == nullptr) continue;
      matrix->data.resize(matrix->data.size() / matrix->ne[1] * (matrix->ne[1] + kPadding));
      matrix->ne[1] += kPadding;
    }
    std::vector<float> bias(model.tensor("token_embd.weight").ne[1], 0.0F);
    std::fill(bias.end() - kPadding, bias.end(), value);
    model.add("output.bias", {bias.size()}, bias);
    return model.write(directory_ / "padded.gguf");
  }

  tests::TemporaryDirectory directory_;
};

TEST_F(PaddedVocabulary, IsNotAnAnswer) {
  for (const float value : {1e6F, std::numeric_limits<float>::infinity()}) {
    const Model model = open_model(padded(value));
    EXPECT_EQ(model.config.vocab_size, 2048 + kPadding);
    EXPECT_EQ(model.vocabulary, 2048U);
    const auto tokens = read_tokens(test_data("models/tiny-qwen2.tokens.txt"));
    MemoryRequest request = memory_request(tokens.size(), {});
    request.wanted = 1;
    Inference inference(model, plan_memory(model, request), host_backend(model));
    LastLogits logits(1, model.vocabulary);
    inference.prefill(tokens, logits);
    EXPECT_LT(*std::ranges::max_element(logits.values()), 1e3F);
    const auto plain = prompt_logits(open_model(test_data("models/tiny-qwen2-f16.gguf")), tokens);
    EXPECT_TRUE(std::ranges::equal(logits.values(), std::span(plain).last(2048)));
  }
}

TEST_F(PaddedVocabulary, MustNotBeSmallerThanTheTokenizers) {
  EditedModel model(test_data("models/tiny-qwen2-f16.gguf"));
  for (const std::string name : {"token_embd.weight", "output.weight"}) {
    EditedModel::Tensor* const matrix = model.find(name);
    if (matrix == nullptr) continue;
    matrix->data.resize(matrix->data.size() / matrix->ne[1] * 2000);
    matrix->ne[1] = 2000;
  }
  try {
    open_model(model.write(directory_ / "small.gguf"));
    FAIL();
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("has 2000 rows for the 2048 tokens"));
  }
}

}  // namespace
}  // namespace tensor_pager::qwen
