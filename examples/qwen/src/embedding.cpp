#include "qwen/embedding.hpp"

#include <fmt/format.h>

#include "kernels/dequantize.hpp"
#include "qwen/error.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::qwen {

EmbeddingTable::EmbeddingTable(const loaders::GgufModel& gguf, std::uint32_t tensor,
                               const BackingStore& store)
    : tensor_(gguf.tensors().at(tensor)),
      store_(store),
      type_(weight_type(gguf, tensor_)),
      row_(tensor_.row_bytes().count) {}

kernels::ConstMatrixView EmbeddingTable::gather(std::span<const loaders::TokenId> tokens) {
  const std::size_t width = tensor_.ne[0];
  rows_.resize(tokens.size() * width);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= tensor_.rows()) {
      throw Error(fmt::format("token {} at position {} is outside the vocabulary of {} tokens",
                              tokens[i], i, tensor_.rows()));
    }
    store_.read(tensor_.bytes.offset + tensor_.row_bytes() * tokens[i], row_);
    kernels::cpu::dequantize(type_, row_.data(), rows_.data() + i * width, width);
  }
  return {rows_.data(), tokens.size(), width, width};
}

}  // namespace tensor_pager::qwen
