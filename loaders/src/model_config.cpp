// SPDX-License-Identifier: Apache-2.0
#include "loaders/model_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "pager/counted.hpp"

namespace tensor_pager::loaders {
namespace {

constexpr std::array kArchitectures = {
    ArchitectureTraits{.architecture = Architecture::qwen2,
                       .name = "qwen2",
                       .qkv_bias = true,
                       .qk_norm = false,
                       .experts = false,
                       .shared_expert = false,
                       .renormalise = false},
    ArchitectureTraits{.architecture = Architecture::qwen3,
                       .name = "qwen3",
                       .qkv_bias = false,
                       .qk_norm = true,
                       .experts = false,
                       .shared_expert = false,
                       .renormalise = false},
    ArchitectureTraits{.architecture = Architecture::qwen2moe,
                       .name = "qwen2moe",
                       .qkv_bias = true,
                       .qk_norm = false,
                       .experts = true,
                       .shared_expert = true,
                       .renormalise = false},
    ArchitectureTraits{.architecture = Architecture::qwen3moe,
                       .name = "qwen3moe",
                       .qkv_bias = false,
                       .qk_norm = true,
                       .experts = true,
                       .shared_expert = false,
                       .renormalise = true},
};

// Far above any model there is; they keep products of sizes far from overflow.
constexpr std::uint32_t kMaxLayers = 4096;
constexpr std::uint32_t kMaxWidth = 1 << 24;
constexpr std::uint32_t kMaxHeads = 1 << 16;
constexpr std::uint32_t kMaxContext = 1 << 30;
constexpr std::uint32_t kMaxExperts = 1 << 16;

struct Range {
  std::uint32_t min;
  std::uint32_t max;
};

// What a file is that says of itself that it is no model.
struct OtherFile {
  std::string_view type;  ///< general.type
  std::string_view what;
  std::string_view remedy;
};
constexpr std::array kOtherFiles = {
    OtherFile{"adapter", "an adapter (LoRA)", "give the model that it was made for"},
    OtherFile{"imatrix", "an importance matrix for quantising",
              "give a model that was quantised with it"},
    OtherFile{"mmproj", "a projector of images or sound", "give the language model beside it"},
    OtherFile{"vocab", "a vocabulary", "give a model that has it"},
};

void require_model(const Metadata& metadata) {
  constexpr std::string_view kKey = "general.type";
  const auto type = metadata.get_or<std::string>(kKey, "model");
  const auto found = std::ranges::find(kOtherFiles, type, &OtherFile::type);
  if (found != kOtherFiles.end()) {
    throw metadata.error(kKey,
                         fmt::format("this is {}, not a model; {}", found->what, found->remedy));
  }
}

const ArchitectureTraits& read_architecture(const Metadata& metadata) {
  constexpr std::string_view kKey = "general.architecture";
  return find_architecture(metadata.get<std::string>(kKey), [&](const std::string& problem) {
    return metadata.error(kKey, problem);
  });
}

// Metadata with the architecture's prefix before every key, and ranges.
class Keys {
 public:
  Keys(const Metadata& metadata, std::string_view architecture)
      : metadata_(metadata), prefix_(fmt::format("{}.", architecture)) {}

  std::uint32_t required(std::string_view key, Range range) const {
    return in_range(key, metadata_.get<std::uint32_t>(full(key)), range);
  }
  std::uint32_t optional(std::string_view key, Range range, std::uint32_t fallback) const {
    return contains(key) ? required(key, range) : fallback;
  }
  // A finite number above 0.
  float positive(std::string_view key) const {
    const auto value = metadata_.get<float>(full(key));
    if (std::isfinite(value) && value > 0) return value;
    throw error(key, fmt::format("{} is not a positive number; convert the model again", value));
  }
  float positive_or(std::string_view key, float fallback) const {
    return contains(key) ? positive(key) : fallback;
  }
  // One value for all layers, or an array with one value for each.
  std::vector<std::uint32_t> per_layer(std::string_view key, std::uint32_t layers,
                                       Range range) const {
    if (!metadata_.is_array(full(key))) return std::vector(layers, required(key, range));
    auto values = metadata_.get<std::vector<std::uint32_t>>(full(key));
    if (values.size() != layers) {
      throw error(key, fmt::format("has {} for {}; convert the model again",
                                   counted(values.size(), "value"), counted(layers, "layer")));
    }
    for (const std::uint32_t value : values) in_range(key, value, range);
    return values;
  }
  // A finite number that is not below 0.
  float not_negative(std::string_view key) const {
    const auto value = metadata_.get<float>(full(key));
    if (std::isfinite(value) && value >= 0) return value;
    throw error(
        key, fmt::format("{} is neither 0 nor a positive number; convert the model again", value));
  }
  template <class T>
  T get_or(std::string_view key, T fallback) const {
    return metadata_.get_or<T>(full(key), fallback);
  }
  std::string text(std::string_view key) const { return metadata_.get<std::string>(full(key)); }
  bool contains(std::string_view key) const { return metadata_.contains(full(key)); }
  GgufError error(std::string_view key, const std::string& problem) const {
    return metadata_.error(full(key), problem);
  }

 private:
  std::string full(std::string_view key) const { return prefix_ + std::string(key); }
  std::uint32_t in_range(std::string_view key, std::uint32_t value, Range range) const {
    if (value >= range.min && value <= range.max) return value;
    throw error(key, fmt::format("{} is outside [{}, {}]; convert the model again", value,
                                 range.min, range.max));
  }

  const Metadata& metadata_;
  std::string prefix_;
};

std::vector<LayerConfig> read_layers(const Keys& keys, const ArchitectureTraits& architecture,
                                     std::uint32_t blocks) {
  const auto heads = keys.per_layer("attention.head_count", blocks, {1, kMaxHeads});
  const auto kv_heads = keys.contains("attention.head_count_kv")
                            ? keys.per_layer("attention.head_count_kv", blocks, {1, kMaxHeads})
                            : heads;
  std::vector<std::uint32_t> widths(blocks, 0);
  // Experts have their own width; some converters leave the dense one out, or write 0.
  if (!architecture.experts) {
    widths = keys.per_layer("feed_forward_length", blocks, {1, kMaxWidth});
  } else if (keys.contains("feed_forward_length")) {
    widths = keys.per_layer("feed_forward_length", blocks, {0, kMaxWidth});
  }
  std::vector<LayerConfig> layers;
  for (std::uint32_t i = 0; i < blocks; ++i) {
    if (heads[i] % kv_heads[i] != 0) {
      throw keys.error(
          "attention.head_count_kv",
          fmt::format(
              "{} key/value heads do not divide {} heads (layer {}); convert the model again",
              kv_heads[i], heads[i], i));
    }
    layers.push_back({heads[i], kv_heads[i], widths[i]});
  }
  return layers;
}

// Head lengths default to embedding_length / head_count, which must then be the same in every
// layer.
std::uint32_t read_head_length(const Keys& keys, std::string_view key, const ModelConfig& config) {
  if (keys.contains(key)) return keys.required(key, {1, kMaxWidth});
  const std::uint32_t heads = config.layers.front().head_count;
  const bool uniform = std::ranges::all_of(
      config.layers, [&](const LayerConfig& layer) { return layer.head_count == heads; });
  if (!uniform || config.embedding_length % heads != 0) {
    throw keys.error(
        key, fmt::format("is missing, and embedding_length {} is not a multiple of "
                         "one head count for all layers ({} in layer 0); convert the model again",
                         config.embedding_length, heads));
  }
  return config.embedding_length / heads;
}

// By how much positions are stretched: 1 where the file does not say, or says 0.
float read_rope_factor(const Keys& keys) {
  constexpr std::string_view kFactor = "rope.scaling.factor";
  // The key of files from before rope.scaling.*.
  constexpr std::string_view kOld = "rope.scale_linear";
  if (!keys.contains(kFactor) && !keys.contains(kOld)) return 1;
  const float factor = keys.not_negative(keys.contains(kFactor) ? kFactor : kOld);
  return factor == 0 ? 1 : factor;
}

// A factor without a kind is linear.
RopeScalingKind read_rope_kind(const Keys& keys) {
  constexpr std::string_view kType = "rope.scaling.type";
  const std::string type = keys.contains(kType) ? keys.text(kType) : "linear";
  if (type == "none") return RopeScalingKind::none;
  if (type == "linear") return RopeScalingKind::linear;
  if (type == "yarn") return RopeScalingKind::yarn;
  throw keys.error(kType, fmt::format("\"{}\" is not supported; none, linear and yarn are", type));
}

void require_known_yarn(const Keys& keys) {
  constexpr std::string_view kLogMultiplier = "rope.scaling.yarn_log_multiplier";
  // Converters do not agree on its unit, and no Qwen model has it.
  if (keys.get_or<float>(kLogMultiplier, 0) == 0) return;
  throw keys.error(kLogMultiplier, "is not supported; use a model without it");
}

RopeScaling read_rope_scaling(const Keys& keys, std::uint32_t context_length) {
  constexpr std::string_view kExtFactor = "rope.scaling.yarn_ext_factor";
  RopeScaling scaling;
  scaling.original_context_length =
      keys.optional("rope.scaling.original_context_length", {1, kMaxContext}, context_length);
  scaling.attention_factor = keys.positive_or("rope.scaling.attn_factor", 1) *
                             keys.positive_or("rope.scaling.yarn_attn_factor", 1);
  scaling.yarn_beta_fast = keys.positive_or("rope.scaling.yarn_beta_fast", 32);
  scaling.yarn_beta_slow = keys.positive_or("rope.scaling.yarn_beta_slow", 1);
  scaling.kind = read_rope_kind(keys);
  if (scaling.kind == RopeScalingKind::none) return scaling;
  if (scaling.kind == RopeScalingKind::yarn && !keys.contains("rope.scale_linear")) {
    keys.positive("rope.scaling.factor");  // YaRN without a factor is an accident
  }
  scaling.factor = read_rope_factor(keys);
  // Below 0 means that it is not set. Linear scaling with a part of YaRN is YaRN.
  const auto ext = keys.get_or<float>(kExtFactor, -1);
  if (!std::isfinite(ext)) keys.positive(kExtFactor);  // throws
  if (scaling.kind == RopeScalingKind::linear && ext > 0) scaling.kind = RopeScalingKind::yarn;
  if (ext >= 0) scaling.yarn_ext_factor = ext;
  if (scaling.kind == RopeScalingKind::yarn) require_known_yarn(keys);
  if (scaling.kind == RopeScalingKind::linear && scaling.factor == 1) {
    scaling.kind = RopeScalingKind::none;
  }
  return scaling;
}

// The model tells so many positions apart once they are stretched.
void stretch_context(ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  if (scaling.kind == RopeScalingKind::none) return;
  const double stretched =
      static_cast<double>(scaling.original_context_length) * static_cast<double>(scaling.factor);
  const auto most = static_cast<std::uint32_t>(std::min<double>(stretched, kMaxContext));
  config.context_length = std::max(config.context_length, most);
}

void read_rope(const Keys& keys, ModelConfig& config) {
  config.rope_dimension_count =
      keys.optional("rope.dimension_count", {2, config.key_length}, config.key_length);
  if (config.rope_dimension_count % 2 != 0) {
    throw keys.error("rope.dimension_count",
                     fmt::format("{} is odd, but RoPE turns pairs; convert the model again",
                                 config.rope_dimension_count));
  }
  config.rope_freq_base = keys.positive_or("rope.freq_base", 10000);
  if (config.rope_freq_base <= 1) {
    throw keys.error("rope.freq_base", fmt::format("{} is not more than 1; convert the model again",
                                                   config.rope_freq_base));
  }
  config.rope_scaling = read_rope_scaling(keys, config.context_length);
  // Without the key, context_length may be the stretched one already.
  if (keys.contains("rope.scaling.original_context_length")) stretch_context(config);
}

// Models that end in a vector or a score instead of a next token.
void require_next_tokens(const Keys& keys, const GgufModel& model) {
  constexpr std::string_view kCausal = "attention.causal";
  constexpr std::string_view kPooling = "pooling_type";
  constexpr std::string_view kLabels = "classifier.output_labels";
  constexpr std::uint32_t kRank = 4;
  const auto pooling = keys.get_or<std::uint32_t>(kPooling, 0);
  if (pooling == kRank || keys.contains(kLabels) || model.find("cls.output.weight") != nullptr) {
    throw keys.error(pooling == kRank ? kPooling : kLabels,
                     "this is a reranker or classifier: it scores texts and generates none; give a "
                     "language model");
  }
  const bool causal = keys.get_or(kCausal, true);
  if (pooling == 0 && causal) return;
  throw keys.error(causal ? kPooling : kCausal,
                   "this is an embedding model: it makes vectors of texts and generates none; give "
                   "a language model");
}

ExpertConfig read_experts(const Keys& keys, const GgufModel& model,
                          const ArchitectureTraits& architecture) {
  ExpertConfig experts;
  if (!architecture.experts) return experts;
  experts.count = keys.required("expert_count", {1, kMaxExperts});
  experts.used_count = keys.required("expert_used_count", {1, experts.count});
  // Early conversions have no such keys: the tensors know.
  const auto width = [&](std::string_view key, std::string_view tensor) {
    const TensorInfo* const down = model.find(tensor);
    if (keys.contains(key) || down == nullptr) return keys.required(key, {1, kMaxWidth});
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(down->ne[0], kMaxWidth));
  };
  experts.feed_forward_length = width("expert_feed_forward_length", "blk.0.ffn_down_exps.weight");
  if (!architecture.shared_expert) return experts;
  experts.shared_feed_forward_length =
      width("expert_shared_feed_forward_length", "blk.0.ffn_down_shexp.weight");
  return experts;
}

// The vocabulary is as large as the embedding table: files without a tokenizer need not have a key
// for it.
std::uint32_t read_vocab_size(const GgufModel& model) {
  constexpr std::string_view kName = "token_embd.weight";
  const TensorInfo* embedding = model.find(kName);
  if (embedding == nullptr) throw model.missing_tensor(kName);
  if (embedding->dimensions != 2 || embedding->ne[1] > kMaxWidth) {
    throw model.error(
        *embedding,
        fmt::format("has shape {}; expected {{embedding_length, tokens}}: convert the model again",
                    shape_to_string(*embedding)));
  }
  return static_cast<std::uint32_t>(embedding->ne[1]);
}

// Longer ones than a model can have are found by their shape.
std::uint32_t longest_narrow_vector(const GgufModel& model) {
  std::uint64_t longest = 0;
  for (const TensorInfo& tensor : model.tensors()) {
    const bool narrow = tensor.rows() == 1 && tensor.type != TensorType::f32;
    if (narrow) longest = std::max(longest, tensor.ne[0]);
  }
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(longest, kMaxWidth));
}

}  // namespace

const ArchitectureTraits& traits(Architecture architecture) {
  return *std::ranges::find(kArchitectures, architecture, &ArchitectureTraits::architecture);
}

const ArchitectureTraits& find_architecture(std::string_view name, const ArchitectureError& error) {
  const auto found = std::ranges::find(kArchitectures, name, &ArchitectureTraits::name);
  if (found != kArchitectures.end()) return *found;
  std::string supported;  // those with experts can be planned, but nothing runs them yet
  for (const ArchitectureTraits& known : kArchitectures) {
    if (known.experts) continue;
    supported += fmt::format("{}{}", supported.empty() ? "" : ", ", known.name);
  }
  throw error(fmt::format("architecture \"{}\" is not supported; give a model of one that is: {}",
                          name, supported));
}

void require_dense(const ArchitectureTraits& architecture, const ArchitectureError& error) {
  if (!architecture.experts) return;
  throw error(
      fmt::format("{} models have experts, which are not run yet; use a qwen2 or qwen3 "
                  "model",
                  architecture.name));
}

ModelConfig read_model_config(const GgufModel& model) {
  const Metadata& metadata = model.metadata();
  require_model(metadata);
  const ArchitectureTraits& architecture = read_architecture(metadata);
  const Keys keys(metadata, architecture.name);
  require_next_tokens(keys, model);

  ModelConfig config;
  config.architecture = architecture.architecture;
  config.name = metadata.get_or<std::string>("general.name", "");
  config.context_length = keys.required("context_length", {1, kMaxContext});
  config.embedding_length = keys.required("embedding_length", {1, kMaxWidth});
  config.vocab_size = read_vocab_size(model);
  const std::uint32_t blocks = keys.required("block_count", {1, kMaxLayers});
  config.layers = read_layers(keys, architecture, blocks);
  config.nextn_predict_layers = keys.optional("nextn_predict_layers", {0, blocks - 1}, 0);
  config.layers.resize(blocks - config.nextn_predict_layers);
  config.key_length = read_head_length(keys, "attention.key_length", config);
  config.value_length = read_head_length(keys, "attention.value_length", config);
  config.rms_epsilon = keys.positive("attention.layer_norm_rms_epsilon");
  read_rope(keys, config);
  config.experts = read_experts(keys, model, architecture);
  config.longest_narrow_vector = longest_narrow_vector(model);
  return config;
}

void override_rope(ModelConfig& config, const RopeOverrides& overrides) {
  if (!overrides.any()) return;
  RopeScaling& scaling = config.rope_scaling;
  const RopeScalingKind kind = overrides.factor && scaling.kind == RopeScalingKind::none
                                   ? RopeScalingKind::linear
                                   : scaling.kind;
  scaling.kind = overrides.scaling.value_or(kind);
  scaling.factor = overrides.factor.value_or(scaling.factor);
  scaling.original_context_length =
      overrides.original_context_length.value_or(scaling.original_context_length);
  config.rope_freq_base = overrides.frequency_base.value_or(config.rope_freq_base);
  const bool stretched = overrides.scaling || overrides.factor || overrides.original_context_length;
  if (stretched) stretch_context(config);
}

}  // namespace tensor_pager::loaders
