#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/matrix_view.hpp"
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

  /// The tokens' rows as float32, [tokens, embedding_length]; valid until the next call.
  /// Throws Error for a token outside the table, StoreError if a row cannot be read.
  kernels::ConstMatrixView gather(std::span<const loaders::TokenId> tokens);

 private:
  const loaders::TensorInfo& tensor_;
  const BackingStore& store_;
  kernels::WeightType type_;
  std::vector<std::byte> row_;
  std::vector<float> rows_;
};

}  // namespace tensor_pager::qwen
