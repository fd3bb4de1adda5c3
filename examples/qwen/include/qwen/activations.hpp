// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "kernels/matrix_view.hpp"
#include "loaders/graph.hpp"
#include "pager/device.hpp"
#include "qwen/activation_view.hpp"

namespace tensor_pager::qwen {

/// The size of a pass.
struct PassSize {
  std::uint32_t tokens = 1;
  std::uint32_t ubatch = 1;  ///< tokens that go through a layer together
  std::uint32_t wanted = 1;  ///< positions whose logits are wanted

  bool operator==(const PassSize&) const = default;
};

/// Memory of activations [rows, cols]: Operations::activation_bytes. Nothing means float32.
using ActivationBytes = std::function<Bytes(std::size_t rows, std::size_t cols)>;

/// How the buffers of a pass share one piece of device memory, in bytes. Only the residual stream
/// is as long as the prompt; what lives within a step is as long as an ubatch.
struct ActivationLayout {
  /// Lays out the buffers for `size`. It depends on widths only, not on how matrices are sliced.
  ActivationLayout(const loaders::ModelConfig& config, const PassSize& size,
                   const ActivationBytes& activation_bytes = {});

  Bytes bytes() const { return residual + normed + projected + scratch + vector; }

  Bytes residual;   ///< [tokens, embedding_length]
  Bytes normed;     ///< activations [ubatch, embedding_length]
  Bytes projected;  ///< keys, then values, each [ubatch, kv_heads * head_dim]
  /// Shared by what is never alive together: rows of the embedding table; q [ubatch, heads *
  /// head_dim] and attention, as activations; gate and up, activations [ubatch,
  /// feed_forward_length] each; logits [a few positions, vocabulary].
  Bytes scratch;
  Bytes vector;  ///< a norm's weights or a bias that is not stored as float32
};

/// The buffers of a pass. Widths differ from layer to layer, so the caller gives them.
class Activations {
 public:
  Activations(const loaders::ModelConfig& config, const PassSize& size,
              const ActivationBytes& activation_bytes, Device& device);

  const PassSize& size() const { return size_; }
  const DeviceBuffer& memory() const { return buffer_; }

  kernels::MatrixView residual(std::size_t first, std::size_t count) const;
  ActivationView normed(std::size_t tokens) const;
  /// Keys and values of an ubatch, on their way to the cache.
  kernels::MatrixView keys(std::size_t tokens, std::size_t width) const;
  kernels::MatrixView values(std::size_t tokens, std::size_t width) const;
  kernels::MatrixView queries(std::size_t tokens, std::size_t width) const;
  /// What attention makes of the queries.
  ActivationView attended(std::size_t tokens, std::size_t width) const;
  ActivationView gate(std::size_t tokens, std::size_t width) const;
  ActivationView up(std::size_t tokens, std::size_t width) const;
  kernels::MatrixView logits(std::size_t positions, std::size_t vocabulary) const;
  /// How many positions of `width` logits there is room for.
  std::size_t logit_rows(std::size_t width) const;
  float* vector() const;
  /// All of the scratch memory, at least one row of float32.
  std::span<std::byte> scratch() const;

 private:
  PassSize size_;
  std::size_t width_;
  ActivationBytes activation_bytes_;
  ActivationLayout layout_;
  DeviceBuffer buffer_;
};

}  // namespace tensor_pager::qwen
