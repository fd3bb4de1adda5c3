// SPDX-License-Identifier: Apache-2.0
#include "qwen/host_feed_forward.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "kernels/activation.hpp"
#include "kernels/dequantize.hpp"
#include "kernels/norm.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

using loaders::Op;
using loaders::WeightRole;

kernels::MatrixView row(std::span<float> values) {
  return {values.data(), 1, values.size(), values.size()};
}

// Rows [first, first + count) of what a matrix gives.
kernels::MatrixView part(std::span<float> values, const loaders::WeightSlice& slice) {
  return row(values.subspan(slice.first_row, slice.rows));
}

const loaders::WeightSlice& required(const loaders::Step& step, WeightRole role) {
  const loaders::WeightSlice* const slice = step.find(role);
  if (slice != nullptr) return *slice;
  throw std::logic_error(
      fmt::format("a step of {} has no {}", loaders::to_string(step.op), loaders::to_string(role)));
}

}  // namespace

HostFeedForward::HostFeedForward(const Model& model, const BackingStore& store,
                                 HostThreads& threads)
    : model_(model),
      store_(store),
      threads_(threads),
      normed_(model.config.embedding_length),
      vector_(model.config.longest_narrow_vector) {
  std::size_t widest = 0;
  for (const loaders::LayerConfig& layer : model.config.layers) {
    widest = std::max<std::size_t>(widest, layer.feed_forward_length);
  }
  gate_.resize(widest);
  up_.resize(widest);
}

bool HostFeedForward::run(const loaders::Step& step, std::span<float> residual) {
  if (step.op != Op::ffn_gate_up && step.op != Op::ffn_down) {
    throw std::logic_error(
        fmt::format("a step of {} is not one for the processors", loaders::to_string(step.op)));
  }
  bool numbers = true;
  threads_.run([&] {
    if (step.op == Op::ffn_gate_up) {
      numbers = gate_up(step, residual);
    } else {
      down(step, residual);
    }
  });
  return numbers;
}

bool HostFeedForward::gate_up(const loaders::Step& step, std::span<float> residual) {
  if (step.first_slice &&
      !kernels::cpu::rms_norm(row(residual), vector(&required(step, WeightRole::ffn_norm)),
                              model_.config.rms_epsilon, row(normed_))) {
    return false;
  }
  const loaders::WeightSlice& gate = required(step, WeightRole::gate);
  const loaders::WeightSlice& up = required(step, WeightRole::up);
  kernels::cpu::matmul(weights(gate), row(normed_), part(gate_, gate),
                       {.bias = vector(step.find(WeightRole::gate_bias))});
  kernels::cpu::matmul(weights(up), row(normed_), part(up_, up),
                       {.bias = vector(step.find(WeightRole::up_bias))});
  if (step.last_slice) {
    const std::size_t width = model_.config.layers.at(step.layer).feed_forward_length;
    const kernels::MatrixView g = row(std::span(gate_).first(width));
    kernels::cpu::swiglu(g, row(std::span(up_).first(width)), g);
  }
  return true;
}

void HostFeedForward::down(const loaders::Step& step, std::span<float> residual) {
  const loaders::WeightSlice& slice = required(step, WeightRole::down);
  const std::size_t width = model_.config.layers.at(step.layer).feed_forward_length;
  kernels::cpu::matmul(weights(slice), row(std::span(gate_).first(width)), part(residual, slice),
                       {.bias = vector(step.find(WeightRole::down_bias)), .accumulate = true});
}

const std::byte* HostFeedForward::data(const loaders::WeightSlice& slice) const {
  const std::byte* const data = store_.address(slice.bytes);
  if (data != nullptr) return data;
  throw Error(
      fmt::format("the processors cannot read {} where it is stored: it has no address; use "
                  "--place gpu",
                  model_.gguf.tensors()[slice.tensor].name));
}

kernels::Weights HostFeedForward::weights(const loaders::WeightSlice& slice) const {
  const loaders::TensorInfo& tensor = model_.gguf.tensors()[slice.tensor];
  return {weight_type(model_.gguf, tensor), data(slice), slice.rows, tensor.ne[0],
          model_.factors.of(slice.tensor)};
}

// As float32; null for none.
const float* HostFeedForward::vector(const loaders::WeightSlice* slice) {
  if (slice == nullptr) return nullptr;
  const kernels::WeightType type = weight_type(model_.gguf, model_.gguf.tensors()[slice->tensor]);
  const std::byte* const stored = data(*slice);
  if (type == kernels::WeightType::f32) return reinterpret_cast<const float*>(stored);
  kernels::cpu::dequantize(type, stored, vector_.data(), slice->rows);
  return vector_.data();
}

}  // namespace tensor_pager::qwen
