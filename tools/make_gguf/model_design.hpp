// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gguf_writer.hpp"
#include "loaders/tensor_type.hpp"
#include "loaders/tokenizer.hpp"
#include "random_model.hpp"

namespace tensor_pager::make_gguf {

/// What a file of an architecture has beside its sizes.
struct ArchitectureSpec {
  std::string_view name;
  bool bias;
  bool qk_norm;
  bool experts;
  bool shared_expert;
  float rope_freq_base;
  bool rope_dimension_count;  ///< the key is written
};

/// Which tensors are stored as what.
struct TypeSpec {
  std::string_view name;
  loaders::TensorType base;
  /// Of attn_v and ffn_down in some layers, and of the output matrix, as llama-quantize's "M"
  /// mixtures have it.
  loaders::TensorType important;
};

/// Of a preset, or of a model's own configuration.
struct ModelSizes {
  std::string_view name;
  std::uint32_t layers = 0;
  std::uint32_t embedding = 0;
  std::uint32_t feed_forward = 0;
  std::uint32_t heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_length = 0;
  std::uint32_t vocabulary = 0;
  std::uint32_t experts = 0;
  std::uint32_t experts_used = 0;
  std::uint32_t expert_feed_forward = 0;
  bool tied = false;
};

/// Everything that decides what is in a model's file, but the weights themselves.
struct ModelDesign {
  ArchitectureSpec architecture;
  TypeSpec type;
  ModelSizes sizes;    ///< as changed by options and architecture
  std::string name{};  ///< general.name
  std::uint32_t shared_feed_forward = 0;
  bool tied = false;
  std::uint32_t context = 32768;
  float rope_freq_base = 0;
  float rms_epsilon = 1e-6F;
  std::optional<loaders::Vocabulary> vocabulary{};

  bool is_tiny() const { return sizes.name == "tiny"; }
};

/// Data of tensors, and what precedes it, begin at multiples of it.
inline constexpr Bytes kAlignment{32};

/// Both throw RandomModelError, which lists those there are, for a name that is none.
const ArchitectureSpec& find_architecture(std::string_view name);
const TypeSpec& find_type(std::string_view name);

/// Throws RandomModelError for options that contradict one another.
ModelDesign make_design(const RandomModelOptions& options);

/// In the order of the file. Throws RandomModelError for rows that are no whole blocks.
std::vector<RandomTensor> tensors_of(const ModelDesign& design);

void add_metadata(GgufHeader& header, const ModelDesign& design);

/// Bytes that a tensor takes in the file.
Bytes padded_bytes(const RandomTensor& tensor);

/// Declares tensors that lie one after another from the beginning of the data section, and returns
/// how many bytes they take there.
Bytes declare(GgufHeader& header, std::span<const RandomTensor> tensors);

}  // namespace tensor_pager::make_gguf
