// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/attention.hpp"
#include "loaders/model_config.hpp"
#include "pager/device.hpp"

namespace tensor_pager::qwen {

/// Keys and values of every layer and position, f32 or f16, in device memory: per layer keys
/// [context, kv_heads * head_dim], then values of the same shape.
class KvCache {
 public:
  KvCache(const loaders::ModelConfig& config, std::uint32_t context, kernels::WeightType type,
          Device& device);

  /// Device memory that a cache takes.
  static Bytes size(const loaders::ModelConfig& config, std::uint32_t context,
                    kernels::WeightType type);

  std::uint32_t context() const { return context_; }
  kernels::KvCacheView view(std::uint32_t layer) const;

 private:
  struct Layer {
    std::size_t keys = 0;  // offsets in elements
    std::size_t values = 0;
    std::size_t width = 0;
  };

  std::uint32_t context_;
  kernels::WeightType type_;
  std::vector<Layer> layers_;
  DeviceBuffer buffer_;
};

}  // namespace tensor_pager::qwen
