// SPDX-License-Identifier: Apache-2.0
#include "qwen/kv_cache.hpp"

namespace tensor_pager::qwen {
namespace {

std::size_t width(const loaders::ModelConfig& config, const loaders::LayerConfig& layer) {
  return std::size_t{layer.head_count_kv} * config.key_length;
}

}  // namespace

KvCache::KvCache(const loaders::ModelConfig& config, const KvCacheSize& size,
                 kernels::WeightType type, Device& device)
    : size_(size), type_(type), buffer_(device.allocate(bytes(config, size, type))) {
  for (const loaders::LayerConfig& layer : config.layers) {
    const std::size_t columns = width(config, layer);
    layers_.push_back({elements_, elements_ + size.context * columns, columns});
    elements_ += 2 * columns * size.context;
  }
}

Bytes KvCache::bytes(const loaders::ModelConfig& config, const KvCacheSize& size,
                     kernels::WeightType type) {
  std::uint64_t elements = 0;
  for (const loaders::LayerConfig& layer : config.layers) {
    elements += std::uint64_t{2} * size.context * width(config, layer);
  }
  return {size.sequences * kernels::row_bytes(type, elements)};
}

kernels::KvCacheView KvCache::view(std::uint32_t place, std::uint32_t layer) const {
  const Layer& l = layers_.at(layer);
  const std::byte* const base = buffer_.data() + place * kernels::row_bytes(type_, elements_);
  return {type_, base + kernels::row_bytes(type_, l.keys),
          base + kernels::row_bytes(type_, l.values), l.width};
}

std::vector<std::span<std::byte>> KvCache::pieces(std::uint32_t place,
                                                  std::size_t positions) const {
  std::byte* const base = buffer_.data() + place * kernels::row_bytes(type_, elements_);
  std::vector<std::span<std::byte>> all;
  for (const Layer& layer : layers_) {
    const std::size_t size = kernels::row_bytes(type_, positions * layer.width);
    all.emplace_back(base + kernels::row_bytes(type_, layer.keys), size);
    all.emplace_back(base + kernels::row_bytes(type_, layer.values), size);
  }
  return all;
}

void KvCache::copy(std::uint32_t from, std::uint32_t to, std::size_t positions,
                   Operations& operations) const {
  if (positions == 0 || from == to) return;
  const auto targets = pieces(to, positions);
  for (std::size_t i = 0; const std::span<std::byte> piece : pieces(from, positions)) {
    operations.copy(piece.data(), targets[i++].data(), Bytes{piece.size()});
  }
}

}  // namespace tensor_pager::qwen
