// SPDX-License-Identifier: Apache-2.0
#include "qwen/activations.hpp"

#include <algorithm>

namespace tensor_pager::qwen {
namespace {

// Buffers begin at multiples of what kernels ask of their addresses.
constexpr Bytes kAlignment{256};

// Logits are taken in pieces of about this many floats, so that a long prompt needs no more memory
// for them than a short one, and products are still large.
constexpr std::size_t kLogitsFloats = std::size_t{4} << 20;

Bytes floats(std::size_t count) {
  return round_up(Bytes{count * sizeof(float)}, kAlignment);
}

ActivationBytes or_float32(const ActivationBytes& bytes) {
  if (bytes) return bytes;
  return [](std::size_t rows, std::size_t cols) { return floats(rows * cols); };
}

float* floats_at(std::byte* data) {
  return reinterpret_cast<float*>(data);
}

}  // namespace

ActivationLayout::ActivationLayout(const loaders::ModelConfig& config, const PassSize& size,
                                   const ActivationBytes& activation_bytes) {
  const auto activations = [bytes = or_float32(activation_bytes)](std::size_t rows,
                                                                  std::size_t cols) {
    return round_up(bytes(rows, cols), kAlignment);
  };
  std::size_t heads = 0;
  std::size_t kv_heads = 0;
  std::size_t feed_forward = 0;
  for (const loaders::LayerConfig& layer : config.layers) {
    heads = std::max<std::size_t>(heads, layer.head_count);
    kv_heads = std::max<std::size_t>(kv_heads, layer.head_count_kv);
    feed_forward = std::max<std::size_t>(feed_forward, layer.feed_forward_length);
  }
  const std::size_t embedding = config.embedding_length;
  const std::size_t attention = heads * config.key_length;
  const std::size_t vocabulary = config.vocab_size;
  const std::size_t logit_rows = std::min<std::size_t>(
      {size.wanted, size.ubatch, std::max<std::size_t>(kLogitsFloats / vocabulary, 1)});
  residual = floats(size.tokens * embedding);
  normed = activations(size.ubatch, embedding);
  projected = floats(size.ubatch * kv_heads * config.key_length) * 2;
  scratch = std::max({floats(size.ubatch * attention) + activations(size.ubatch, attention),
                      activations(size.ubatch, feed_forward) * 2, floats(logit_rows * vocabulary),
                      floats(embedding)});
  vector = floats(config.longest_narrow_vector);
}

Activations::Activations(const loaders::ModelConfig& config, const PassSize& size,
                         const ActivationBytes& activation_bytes, Device& device)
    : size_(size),
      width_(config.embedding_length),
      activation_bytes_(or_float32(activation_bytes)),
      layout_(config, size, activation_bytes_),
      buffer_(device.allocate(layout_.bytes())) {}

kernels::MatrixView Activations::residual(std::size_t first, std::size_t count) const {
  return {floats_at(buffer_.data()) + first * width_, count, width_, width_};
}

ActivationView Activations::normed(std::size_t tokens) const {
  return {buffer_.data() + layout_.residual.count, tokens, width_};
}

kernels::MatrixView Activations::keys(std::size_t tokens, std::size_t width) const {
  return {floats_at(buffer_.data() + (layout_.residual + layout_.normed).count), tokens, width,
          width};
}

kernels::MatrixView Activations::values(std::size_t tokens, std::size_t width) const {
  kernels::MatrixView view = keys(tokens, width);
  view.data += layout_.projected.count / 2 / sizeof(float);
  return view;
}

std::span<std::byte> Activations::scratch() const {
  const Bytes before = layout_.residual + layout_.normed + layout_.projected;
  return {buffer_.data() + before.count, layout_.scratch.count};
}

kernels::MatrixView Activations::queries(std::size_t tokens, std::size_t width) const {
  return {floats_at(scratch().data()), tokens, width, width};
}

ActivationView Activations::attended(std::size_t tokens, std::size_t width) const {
  return {scratch().data() + floats(tokens * width).count, tokens, width};
}

ActivationView Activations::gate(std::size_t tokens, std::size_t width) const {
  return {scratch().data(), tokens, width};
}

ActivationView Activations::up(std::size_t tokens, std::size_t width) const {
  return {scratch().data() + round_up(activation_bytes_(tokens, width), kAlignment).count, tokens,
          width};
}

kernels::MatrixView Activations::logits(std::size_t positions, std::size_t vocabulary) const {
  return {floats_at(scratch().data()), positions, vocabulary, vocabulary};
}

std::size_t Activations::logit_rows(std::size_t width) const {
  return std::min<std::size_t>(layout_.scratch.count / sizeof(float) / width, size_.ubatch);
}

float* Activations::vector() const {
  return floats_at(scratch().data() + layout_.scratch.count);
}

}  // namespace tensor_pager::qwen
