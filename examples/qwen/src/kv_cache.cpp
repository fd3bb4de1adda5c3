#include "qwen/kv_cache.hpp"

namespace tensor_pager::qwen {
namespace {

std::size_t width(const loaders::ModelConfig& config, const loaders::LayerConfig& layer) {
  return std::size_t{layer.head_count_kv} * config.key_length;
}

}  // namespace

KvCache::KvCache(const loaders::ModelConfig& config, std::uint32_t context, Device& device)
    : context_(context), buffer_(device.allocate(size(config, context))) {
  std::size_t offset = 0;
  for (const loaders::LayerConfig& layer : config.layers) {
    const std::size_t columns = width(config, layer);
    layers_.push_back({offset, offset + context * columns, columns});
    offset += 2 * context * columns;
  }
}

Bytes KvCache::size(const loaders::ModelConfig& config, std::uint32_t context) {
  std::uint64_t floats = 0;
  for (const loaders::LayerConfig& layer : config.layers) {
    floats += std::uint64_t{2} * context * width(config, layer);
  }
  return {floats * sizeof(float)};
}

kernels::MatrixView KvCache::keys(std::uint32_t layer, std::size_t first, std::size_t count) const {
  const Layer& l = layers_.at(layer);
  return {buffer_.as<float>() + l.keys + first * l.width, count, l.width, l.width};
}

kernels::MatrixView KvCache::values(std::uint32_t layer, std::size_t first,
                                    std::size_t count) const {
  const Layer& l = layers_.at(layer);
  return {buffer_.as<float>() + l.values + first * l.width, count, l.width, l.width};
}

kernels::KvCacheView KvCache::view(std::uint32_t layer) const {
  const Layer& l = layers_.at(layer);
  const float* base = buffer_.as<float>();
  return kernels::KvCacheView::of(base + l.keys, base + l.values, l.width);
}

}  // namespace tensor_pager::qwen
