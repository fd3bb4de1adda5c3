#include "qwen/activations.hpp"

#include <algorithm>

namespace tensor_pager::qwen {
namespace {

// Buffers begin at multiples of 64 bytes: a cache line, and a vector register.
constexpr std::size_t kAlignment = 16;

// Logits are taken in pieces of about this many floats, so that a long prompt needs no more memory
// for them than a short one, and products are still large.
constexpr std::size_t kLogitsFloats = std::size_t{4} << 20;

std::size_t aligned(std::size_t floats) {
  return (floats + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

ActivationLayout::ActivationLayout(const loaders::ModelConfig& config, const PassSize& size) {
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
  residual = aligned(size.tokens * embedding);
  normed = aligned(size.ubatch * embedding);
  projected = 2 * aligned(size.ubatch * kv_heads * config.key_length);
  scratch = aligned(std::max({2 * aligned(size.ubatch * attention),
                              2 * aligned(size.ubatch * feed_forward), logit_rows * vocabulary}));
  vector = aligned(std::max(embedding, attention));
}

Activations::Activations(const loaders::ModelConfig& config, const PassSize& size, Device& device)
    : size_(size),
      width_(config.embedding_length),
      layout_(config, size),
      buffer_(device.allocate(layout_.bytes())) {}

kernels::MatrixView Activations::residual(std::size_t first, std::size_t count) const {
  return {buffer_.as<float>() + first * width_, count, width_, width_};
}

kernels::MatrixView Activations::normed(std::size_t tokens) const {
  return {buffer_.as<float>() + layout_.residual, tokens, width_, width_};
}

kernels::MatrixView Activations::keys(std::size_t tokens, std::size_t width) const {
  return {buffer_.as<float>() + layout_.residual + layout_.normed, tokens, width, width};
}

kernels::MatrixView Activations::values(std::size_t tokens, std::size_t width) const {
  kernels::MatrixView view = keys(tokens, width);
  view.data += layout_.projected / 2;
  return view;
}

kernels::MatrixView Activations::first(std::size_t tokens, std::size_t width) const {
  return {buffer_.as<float>() + layout_.residual + layout_.normed + layout_.projected, tokens,
          width, width};
}

kernels::MatrixView Activations::second(std::size_t tokens, std::size_t first_width,
                                        std::size_t width) const {
  kernels::MatrixView view = first(tokens, width);
  view.data += aligned(tokens * first_width);
  return view;
}

float* Activations::vector() const {
  return buffer_.as<float>() + layout_.residual + layout_.normed + layout_.projected +
         layout_.scratch;
}

}  // namespace tensor_pager::qwen
