#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/matrix_view.hpp"
#include "loaders/graph.hpp"
#include "pager/device.hpp"

namespace tensor_pager::qwen {

/// The size of a pass.
struct PassSize {
  std::uint32_t tokens = 1;
  std::uint32_t ubatch = 1;  ///< tokens that go through a layer together
  std::uint32_t wanted = 1;  ///< positions whose logits are wanted
};

/// How the buffers of a pass share one piece of device memory, in floats. Only the residual stream
/// is as long as the prompt; what lives within a step is as long as an ubatch.
struct ActivationLayout {
  /// Lays out the buffers for `size`. It depends on widths only, not on how matrices are sliced.
  ActivationLayout(const loaders::ModelConfig& config, const PassSize& size);

  Bytes bytes() const {
    return {(residual + normed + projected + scratch + vector) * sizeof(float)};
  }

  std::size_t residual = 0;   ///< [tokens, embedding_length]
  std::size_t normed = 0;     ///< [ubatch, embedding_length]
  std::size_t projected = 0;  ///< keys, then values, each [ubatch, kv_heads * head_dim]
  /// Shared by what is never alive together: q and attention [ubatch, heads * head_dim] each; gate
  /// and up [ubatch, feed_forward_length] each; logits [a few positions, vocabulary].
  std::size_t scratch = 0;
  std::size_t vector = 0;  ///< a norm's weights or a bias that is not stored as float32
};

/// The buffers of a pass. Widths differ from layer to layer, so the caller gives them.
class Activations {
 public:
  Activations(const loaders::ModelConfig& config, const PassSize& size, Device& device);

  const PassSize& size() const { return size_; }

  kernels::MatrixView residual(std::size_t first, std::size_t count) const;
  kernels::MatrixView normed(std::size_t tokens) const;
  /// Keys and values of an ubatch, on their way to the cache.
  kernels::MatrixView keys(std::size_t tokens, std::size_t width) const;
  kernels::MatrixView values(std::size_t tokens, std::size_t width) const;
  /// A matrix [tokens, width] at the beginning of the scratch memory.
  kernels::MatrixView first(std::size_t tokens, std::size_t width) const;
  /// A matrix [tokens, width] behind one of `first_width` columns.
  kernels::MatrixView second(std::size_t tokens, std::size_t first_width, std::size_t width) const;
  /// How many rows of `width` logits the scratch memory holds.
  std::size_t logit_rows(std::size_t width) const { return layout_.scratch / width; }
  float* vector() const;

 private:
  PassSize size_;
  std::size_t width_;
  ActivationLayout layout_;
  DeviceBuffer buffer_;
};

}  // namespace tensor_pager::qwen
