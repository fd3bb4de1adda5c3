// SPDX-License-Identifier: Apache-2.0
#include "loaders/model_config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "../temporary_directory.hpp"
#include "gguf_writer.hpp"

namespace tensor_pager::loaders {
namespace {

using make_gguf::GgufHeader;
using testing::HasSubstr;
using tests::TemporaryDirectory;

// A header whose keys can be replaced and left out; the only tensor is the embedding, {64, 100}.
class Keys {
 public:
  explicit Keys(const std::string& architecture = "qwen2") : prefix_(architecture + ".") {
    full("general.architecture", architecture);
    set("block_count", std::uint32_t{3});
    set("context_length", std::uint32_t{1000});
    set("embedding_length", std::uint32_t{64});
    set("feed_forward_length", std::uint32_t{96});
    set("attention.head_count", std::uint32_t{4});
    set("attention.head_count_kv", std::uint32_t{2});
    set("attention.layer_norm_rms_epsilon", 1e-6f);
  }

  template <class T>
  Keys& full(const std::string& key, const T& value) {
    keys_[key] = [key, value](GgufHeader& header) { header.add(key, value); };
    return *this;
  }
  template <class T>
  Keys& set(const std::string& key, const T& value) {
    return full(prefix_ + key, value);
  }
  template <class T>
  Keys& set_array(const std::string& key, const std::vector<T>& values) {
    const std::string name = prefix_ + key;
    keys_[name] = [name, values](GgufHeader& header) { header.add_array(name, values); };
    return *this;
  }
  Keys& erase(const std::string& key) {
    keys_.erase(prefix_ + key);
    return *this;
  }

  ModelConfig read() const {
    const TemporaryDirectory directory;
    GgufHeader header;
    for (const auto& [key, add] : keys_) add(header);
    header.declare({"token_embd.weight", {64, 100}, 0, 0});
    return read_model_config(GgufModel::open(
        directory.write("m.gguf", header.serialise() + std::string(64 * 100 * 4, '\0'))));
  }
  std::string error() const {
    try {
      read();
    } catch (const GgufError& error) {
      return error.what();
    }
    return "no error";
  }

 private:
  std::string prefix_;
  std::map<std::string, std::function<void(GgufHeader&)>> keys_;
};

Keys with_experts() {
  return Keys("qwen2moe")
      .set("expert_count", std::uint32_t{8})
      .set("expert_used_count", std::uint32_t{2})
      .set("expert_feed_forward_length", std::uint32_t{32})
      .set("expert_shared_feed_forward_length", std::uint32_t{48});
}

TEST(ModelConfigTest, DefaultsFollowFromTheRequiredKeys) {
  const ModelConfig config = Keys().read();
  EXPECT_EQ(config.architecture, Architecture::qwen2);
  EXPECT_EQ(config.block_count(), 3u);
  EXPECT_EQ(config.embedding_length, 64u);
  EXPECT_EQ(config.vocab_size, 100u);
  EXPECT_EQ(config.key_length, 16u);
  EXPECT_EQ(config.value_length, 16u);
  EXPECT_EQ(config.rope_dimension_count, 16u);
  EXPECT_EQ(config.rope_freq_base, 10000);
  EXPECT_EQ(config.rope_scaling.kind, RopeScalingKind::none);
  EXPECT_EQ(config.rms_epsilon, 1e-6f);
  EXPECT_EQ(config.experts.count, 0u);
  EXPECT_EQ(config.layers[2].head_count_kv, 2u);
  EXPECT_EQ(Keys().erase("attention.head_count_kv").read().layers[0].head_count_kv, 4u);
}

TEST(ModelConfigTest, KeysOverrideDefaults) {
  const ModelConfig config = Keys("qwen3")
                                 .set("attention.key_length", std::uint32_t{32})
                                 .set("attention.value_length", std::uint32_t{24})
                                 .set("rope.dimension_count", std::uint32_t{8})
                                 .set("rope.freq_base", 1e6f)
                                 .full("general.name", "a name")
                                 .read();
  EXPECT_EQ(config.key_length, 32u);
  EXPECT_EQ(config.value_length, 24u);
  EXPECT_EQ(config.rope_dimension_count, 8u);
  EXPECT_EQ(config.rope_freq_base, 1e6f);
  EXPECT_EQ(config.name, "a name");
}

TEST(ModelConfigTest, SizesMayDifferFromLayerToLayer) {
  const ModelConfig config = Keys()
                                 .set_array<std::int32_t>("attention.head_count", {4, 8, 2})
                                 .set_array<std::int32_t>("attention.head_count_kv", {2, 8, 1})
                                 .set_array<std::uint32_t>("feed_forward_length", {96, 64, 32})
                                 .set("attention.key_length", std::uint32_t{16})
                                 .set("attention.value_length", std::uint32_t{16})
                                 .read();
  EXPECT_EQ(config.layers[1].head_count, 8u);
  EXPECT_EQ(config.layers[2].head_count_kv, 1u);
  EXPECT_EQ(config.layers[2].feed_forward_length, 32u);
}

TEST(ModelConfigTest, RopeScaling) {
  const ModelConfig yarn = Keys()
                               .set("rope.scaling.type", "yarn")
                               .set("rope.scaling.factor", 4.0f)
                               .set("rope.scaling.original_context_length", std::uint32_t{250})
                               .set("rope.scaling.yarn_beta_fast", 16.0f)
                               .read();
  EXPECT_EQ(yarn.rope_scaling.kind, RopeScalingKind::yarn);
  EXPECT_EQ(yarn.rope_scaling.factor, 4);
  EXPECT_EQ(yarn.rope_scaling.original_context_length, 250u);
  EXPECT_EQ(yarn.rope_scaling.yarn_beta_fast, 16);
  EXPECT_EQ(yarn.rope_scaling.yarn_beta_slow, 1);
  const ModelConfig linear =
      Keys().set("rope.scaling.type", "linear").set("rope.scaling.factor", 2.0f).read();
  EXPECT_EQ(linear.rope_scaling.kind, RopeScalingKind::linear);
  EXPECT_EQ(linear.rope_scaling.original_context_length, 1000u);
  EXPECT_EQ(Keys().set("rope.scale_linear", 2.0f).read().rope_scaling.kind,
            RopeScalingKind::linear);
  EXPECT_EQ(Keys().set("rope.scaling.type", "none").read().rope_scaling.kind,
            RopeScalingKind::none);
}

TEST(ModelConfigTest, AFactorWithoutATypeIsLinear) {
  const ModelConfig config = Keys().set("rope.scaling.factor", 4.0f).read();
  EXPECT_EQ(config.rope_scaling.kind, RopeScalingKind::linear);
  EXPECT_EQ(config.rope_scaling.factor, 4);
  EXPECT_EQ(config.context_length, 1000u);
  EXPECT_EQ(Keys().set("rope.scaling.factor", 1.0f).read().rope_scaling.kind,
            RopeScalingKind::none);
}

TEST(ModelConfigTest, OverridesTakeThePlaceOfTheFile) {
  ModelConfig config = Keys().read();
  override_rope(config, {});
  EXPECT_EQ(config.rope_scaling.kind, RopeScalingKind::none);
  override_rope(config, {.scaling = RopeScalingKind::yarn, .factor = 4.0f});
  EXPECT_EQ(config.rope_scaling.kind, RopeScalingKind::yarn);
  EXPECT_EQ(config.rope_scaling.original_context_length, 1000u);
  EXPECT_EQ(config.context_length, 4000u);
}

TEST(ModelConfigTest, PredictionBlocksAreNotLayers) {
  const ModelConfig config = Keys().set("nextn_predict_layers", std::uint32_t{1}).read();
  EXPECT_EQ(config.block_count(), 2u);
  EXPECT_EQ(config.nextn_predict_layers, 1u);
}

TEST(ModelConfigTest, Experts) {
  const ModelConfig config = with_experts().read();
  EXPECT_EQ(config.experts.count, 8u);
  EXPECT_EQ(config.experts.used_count, 2u);
  EXPECT_EQ(config.experts.feed_forward_length, 32u);
  EXPECT_EQ(config.experts.shared_feed_forward_length, 48u);
}

TEST(ModelConfigTest, AnUnknownArchitectureIsNamedWithThoseThatAreKnown) {
  const std::string error = Keys("llama").error();
  for (const char* part : {"general.architecture", "\"llama\"", "qwen2, qwen3"}) {
    EXPECT_THAT(error, HasSubstr(part));
  }
}

struct BadKey {
  std::string key;
  std::function<void(Keys&)> change;
  std::string reason;
};

TEST(ModelConfigTest, EveryValueIsCheckedAndItsKeyNamed) {
  using U = std::uint32_t;
  const auto set = [](const std::string& key, auto value) {
    return [key, value](Keys& keys) { keys.set(key, value); };
  };
  const auto erase = [](const std::string& key) { return [key](Keys& keys) { keys.erase(key); }; };
  const std::vector<BadKey> bad = {
      {"block_count", set("block_count", U{0}), "outside"},
      {"block_count", set("block_count", U{1000000}), "outside"},
      {"block_count", set("block_count", "three"), "expected integer, found string"},
      {"block_count", erase("block_count"), "missing"},
      {"context_length", set("context_length", U{0}), "outside"},
      {"embedding_length", set("embedding_length", std::int32_t{-64}), "-64"},
      {"feed_forward_length", set("feed_forward_length", U{0}), "outside"},
      {"feed_forward_length", erase("feed_forward_length"), "missing"},
      {"attention.head_count", set("attention.head_count", U{0}), "outside"},
      {"attention.head_count_kv", set("attention.head_count_kv", U{0}), "outside"},
      {"attention.head_count_kv", set("attention.head_count_kv", U{3}), "do not divide"},
      {"attention.key_length", set("attention.head_count", U{6}), "not a multiple"},
      {"attention.layer_norm_rms_epsilon", set("attention.layer_norm_rms_epsilon", -1.0f),
       "not a positive"},
      {"attention.layer_norm_rms_epsilon", erase("attention.layer_norm_rms_epsilon"), "missing"},
      {"rope.freq_base", set("rope.freq_base", 0.0f), "not a positive"},
      {"rope.dimension_count", set("rope.dimension_count", U{18}), "outside"},
      {"rope.dimension_count", set("rope.dimension_count", U{7}), "odd"},
      {"rope.scaling.type", set("rope.scaling.type", "longrope"), "not supported"},
      {"rope.scaling.factor", set("rope.scaling.type", "yarn"), "missing"},
      {"rope.scaling.factor", set("rope.scaling.factor", -2.0f), "neither 0 nor"},
      {"rope.freq_base", set("rope.freq_base", 1.0f), "not more than 1"},
      {"attention.causal", set("attention.causal", false), "an embedding model"},
      {"pooling_type", set("pooling_type", U{1}), "an embedding model"},
      {"pooling_type", set("pooling_type", U{4}), "a reranker"},
      {"nextn_predict_layers", set("nextn_predict_layers", U{3}), "outside"},
      {"feed_forward_length",
       [](Keys& keys) {
         keys.set_array<std::uint32_t>("feed_forward_length", {1, 2});
       },
       "2 values for 3 layers"},
  };
  for (const BadKey& entry : bad) {
    Keys keys;
    entry.change(keys);
    EXPECT_THAT(keys.error(), HasSubstr("qwen2." + entry.key));
    EXPECT_THAT(keys.error(), HasSubstr(entry.reason)) << entry.key;
  }
}

TEST(ModelConfigTest, ExpertsAreChecked) {
  EXPECT_THAT(with_experts().set("expert_used_count", std::uint32_t{9}).error(),
              HasSubstr("expert_used_count"));
  EXPECT_THAT(with_experts().erase("expert_count").error(), HasSubstr("expert_count"));
  EXPECT_THAT(with_experts().erase("expert_feed_forward_length").error(),
              HasSubstr("expert_feed_forward_length"));
  EXPECT_THAT(with_experts().erase("expert_shared_feed_forward_length").error(),
              HasSubstr("expert_shared_feed_forward_length"));
}

}  // namespace
}  // namespace tensor_pager::loaders
