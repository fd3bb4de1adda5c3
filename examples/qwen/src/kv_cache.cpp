// SPDX-License-Identifier: Apache-2.0
#include "qwen/kv_cache.hpp"

namespace tensor_pager::qwen {
namespace {

std::size_t width(const loaders::ModelConfig& config, const loaders::LayerConfig& layer) {
  return std::size_t{layer.head_count_kv} * config.key_length;
}

}  // namespace

KvCache::KvCache(const loaders::ModelConfig& config, std::uint32_t context,
                 kernels::WeightType type, Device& device)
    : context_(context), type_(type), buffer_(device.allocate(size(config, context, type))) {
  std::size_t offset = 0;
  for (const loaders::LayerConfig& layer : config.layers) {
    const std::size_t columns = width(config, layer);
    layers_.push_back({offset, offset + context * columns, columns});
    offset += 2 * columns * context;
  }
}

Bytes KvCache::size(const loaders::ModelConfig& config, std::uint32_t context,
                    kernels::WeightType type) {
  std::uint64_t elements = 0;
  for (const loaders::LayerConfig& layer : config.layers) {
    elements += std::uint64_t{2} * context * width(config, layer);
  }
  return {kernels::row_bytes(type, elements)};
}

kernels::KvCacheView KvCache::view(std::uint32_t layer) const {
  const Layer& l = layers_.at(layer);
  const std::byte* const base = buffer_.data();
  return {type_, base + kernels::row_bytes(type_, l.keys),
          base + kernels::row_bytes(type_, l.values), l.width};
}

}  // namespace tensor_pager::qwen
