// SPDX-License-Identifier: Apache-2.0
#include "qwen/embedding.hpp"

#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include "qwen/error.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::qwen {

EmbeddingTable::EmbeddingTable(const loaders::GgufModel& gguf, std::uint32_t tensor,
                               const BackingStore& store)
    : tensor_(gguf.tensors().at(tensor)), store_(store), type_(weight_type(gguf, tensor_)) {}

void EmbeddingTable::require_tokens(std::span<const loaders::TokenId> tokens) const {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < tensor_.rows()) continue;
    throw Error(fmt::format(
        "token {} at position {} is outside the vocabulary of {} tokens; give smaller ids",
        tokens[i], i, tensor_.rows()));
  }
}

void EmbeddingTable::gather(std::span<const loaders::TokenId> tokens,
                            std::span<std::byte> rows) const {
  const Bytes row = row_bytes();
  tbb::parallel_for(std::size_t{0}, tokens.size(), [&](std::size_t i) {
    store_.read(tensor_.bytes.offset + row * tokens[i], rows.subspan(i * row.count, row.count));
  });
}

}  // namespace tensor_pager::qwen
