// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/attention.hpp"
#include "loaders/model_config.hpp"
#include "pager/device.hpp"
#include "qwen/operations.hpp"

namespace tensor_pager::qwen {

/// How many positions a cache has.
struct KvCacheSize {
  std::uint32_t sequences = 1;
  std::uint32_t context = 0;  ///< of each sequence
};

/// Keys and values of every sequence, layer and position, f32 or f16, in device memory: per
/// sequence and layer keys [context, kv_heads * head_dim], then values of the same shape.
class KvCache {
 public:
  KvCache(const loaders::ModelConfig& config, const KvCacheSize& size, kernels::WeightType type,
          Device& device);

  /// Device memory that a cache takes.
  static Bytes bytes(const loaders::ModelConfig& config, const KvCacheSize& size,
                     kernels::WeightType type);

  const KvCacheSize& size() const { return size_; }
  /// Of the sequence in that place.
  kernels::KvCacheView view(std::uint32_t place, std::uint32_t layer) const;
  /// Memory of the device that holds the first `positions` positions of a sequence: keys and values
  /// of each layer in turn.
  std::vector<std::span<std::byte>> pieces(std::uint32_t place, std::size_t positions) const;
  /// Queued: the first `positions` positions of one sequence become those of another.
  void copy(std::uint32_t from, std::uint32_t to, std::size_t positions,
            Operations& operations) const;

 private:
  struct Layer {
    std::size_t keys = 0;  // offsets in elements, from the sequence's first
    std::size_t values = 0;
    std::size_t width = 0;
  };

  KvCacheSize size_;
  kernels::WeightType type_;
  std::vector<Layer> layers_;
  std::size_t elements_ = 0;  // of a sequence
  DeviceBuffer buffer_;
};

}  // namespace tensor_pager::qwen
