// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/weight_type.hpp"
#include "loaders/gguf.hpp"
#include "loaders/tokenizer.hpp"
#include "pager/backing_store.hpp"

namespace tensor_pager::qwen {

/// The token embedding, read row by row on the host: a prompt needs its rows, not the table.
class EmbeddingTable {
 public:
  /// `tensor` is the index of token_embd.weight. Model and store outlive the table.
  EmbeddingTable(const loaders::GgufModel& gguf, std::uint32_t tensor, const BackingStore& store);

  kernels::WeightType type() const { return type_; }
  Bytes row_bytes() const { return tensor_.row_bytes(); }

  /// Throws Error for the first of the tokens that is outside the table.
  void require_tokens(std::span<const loaders::TokenId> tokens) const;
  /// The tokens' rows as they lie in the file, one after another, read in parallel. Throws
  /// StoreError if a row cannot be read.
  void gather(std::span<const loaders::TokenId> tokens, std::span<std::byte> rows) const;

 private:
  const loaders::TensorInfo& tensor_;
  const BackingStore& store_;
  kernels::WeightType type_;
};

}  // namespace tensor_pager::qwen
