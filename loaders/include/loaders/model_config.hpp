// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/gguf.hpp"
#include "pager/export.hpp"

namespace tensor_pager::loaders {

/// Architectures whose forward pass is known.
enum class Architecture { qwen2, qwen3, qwen2moe, qwen3moe };

/// What distinguishes the architectures from one another, apart from sizes. The graph walker and an
/// executor both read this table, so they cannot disagree.
struct ArchitectureTraits {
  Architecture architecture;
  std::string_view name;  ///< as in general.architecture
  bool qkv_bias;          ///< attn_{q,k,v} have biases
  bool qk_norm;           ///< RMSNorm of every query and key head, before RoPE
  bool experts;           ///< routed experts instead of one feed-forward block
  bool shared_expert;     ///< beside them, an expert that every token uses
  bool renormalise;       ///< the chosen experts' weights are scaled to sum to 1
};

TENSOR_PAGER_EXPORT const ArchitectureTraits& traits(Architecture architecture);
inline std::string_view to_string(Architecture architecture) {
  return traits(architecture).name;
}

/// The error of whoever names an architecture: with the place of its name, and this problem.
using ArchitectureError = std::function<GgufError(const std::string& problem)>;
/// The architecture of that name; throws what `error` makes if its pass is not known.
TENSOR_PAGER_EXPORT const ArchitectureTraits& find_architecture(std::string_view name,
                                                                const ArchitectureError& error);
/// Throws what `error` makes for an architecture with experts, which can be planned but not run.
TENSOR_PAGER_EXPORT void require_dense(const ArchitectureTraits& architecture,
                                       const ArchitectureError& error);

enum class RopeScalingKind { none, linear, yarn };

/// How positions beyond the trained context are squeezed into it. Defaults are llama.cpp's.
struct RopeScaling {
  RopeScalingKind kind = RopeScalingKind::none;
  /// Positions are divided by this (linear), or interpolated up to it (YaRN).
  float factor = 1;
  /// Context length that the model was trained with before it was extended.
  std::uint32_t original_context_length = 0;
  /// Multiplies queries and keys, whatever the kind, beside what YaRN derives from `factor`.
  float attention_factor = 1;
  /// YaRN's share of unscaled frequencies where it keeps them: 1 is all, 0 makes it linear.
  float yarn_ext_factor = 1;
  float yarn_beta_fast = 32;
  float yarn_beta_slow = 1;
};

/// What somebody who runs a model says about its positions, in place of the file.
struct RopeOverrides {
  std::optional<RopeScalingKind> scaling{};
  std::optional<float> factor{};          ///< RopeScaling::factor
  std::optional<float> frequency_base{};  ///< ModelConfig::rope_freq_base
  std::optional<std::uint32_t> original_context_length{};

  bool any() const { return scaling || factor || frequency_base || original_context_length; }
};

/// Sizes that may differ from layer to layer.
struct LayerConfig {
  std::uint32_t head_count = 0;
  std::uint32_t head_count_kv = 0;
  /// Width of the dense feed-forward block; 0 in an architecture with experts whose file does not
  /// say.
  std::uint32_t feed_forward_length = 0;
};

/// Width and number of the experts; all 0 in a dense architecture.
struct ExpertConfig {
  std::uint32_t count = 0;
  std::uint32_t used_count = 0;
  std::uint32_t feed_forward_length = 0;
  std::uint32_t shared_feed_forward_length = 0;
};

/// Hyperparameters of a model, every one checked against its sane range.
struct ModelConfig {
  Architecture architecture = Architecture::qwen2;
  std::string name;  ///< general.name, or empty
  /// Layers of the forward pass. Next-token-prediction blocks at the end of the file are not among
  /// them.
  std::vector<LayerConfig> layers;
  std::uint32_t nextn_predict_layers = 0;
  /// Positions that the model can tell apart, with its scaling.
  std::uint32_t context_length = 0;
  std::uint32_t embedding_length = 0;
  std::uint32_t vocab_size = 0;
  std::uint32_t key_length = 0;    ///< head_dim of queries and keys
  std::uint32_t value_length = 0;  ///< head_dim of values
  std::uint32_t rope_dimension_count = 0;
  float rope_freq_base = 10000;
  RopeScaling rope_scaling;
  float rms_epsilon = 0;
  ExpertConfig experts;
  /// Elements of the longest norm or bias that is not stored as float32; 0 if all are.
  std::uint32_t longest_narrow_vector = 0;

  std::uint32_t block_count() const { return static_cast<std::uint32_t>(layers.size()); }
};

/// Reads the hyperparameters of a model. Throws GgufError, which names the key: for a file that is
/// no language model (an adapter, an importance matrix, an embedding model or a reranker), an
/// architecture that is not supported, a missing key, or a value that is out of range or
/// contradicts another.
TENSOR_PAGER_EXPORT ModelConfig read_model_config(const GgufModel& model);

/// Puts `overrides` in the place of what the file says. A factor without a kind is one of the
/// file's kind, or linear where it has none. The context grows to original_context_length * factor.
/// A kind of scaling without a factor, here and in the file, changes nothing.
TENSOR_PAGER_EXPORT void override_rope(ModelConfig& config, const RopeOverrides& overrides);

}  // namespace tensor_pager::loaders
