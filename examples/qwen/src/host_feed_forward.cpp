// SPDX-License-Identifier: Apache-2.0
#include "qwen/host_feed_forward.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/dequantize.hpp"
#include "kernels/norm.hpp"
#include "kernels/products.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

using loaders::Op;
using loaders::WeightRole;

kernels::MatrixView matrix(std::vector<float>& values, std::size_t rows, std::size_t cols) {
  return {values.data(), rows, cols, cols};
}

// What a slice of a matrix gives.
kernels::MatrixView columns(const kernels::MatrixView& all, const loaders::WeightSlice& slice) {
  return {all.data + slice.first_row, all.rows, slice.rows, all.stride};
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
    : model_(model), store_(store), threads_(threads), vector_(model.config.longest_narrow_vector) {
  for (const loaders::LayerConfig& layer : model.config.layers) {
    widest_ = std::max<std::size_t>(widest_, layer.feed_forward_length);
  }
  reserve(1);
}

void HostFeedForward::reserve(std::size_t tokens) {
  if (gate_.size() >= tokens * widest_) return;
  normed_.resize(tokens * model_.config.embedding_length);
  gate_.resize(tokens * widest_);
  up_.resize(tokens * widest_);
}

bool HostFeedForward::run(const loaders::Step& step, const kernels::MatrixView& residual) {
  if (step.op != Op::ffn_gate_up && step.op != Op::ffn_down) {
    throw std::logic_error(
        fmt::format("a step of {} is not one for the processors", loaders::to_string(step.op)));
  }
  reserve(residual.rows);
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

bool HostFeedForward::gate_up(const loaders::Step& step, const kernels::MatrixView& residual) {
  const std::size_t width = model_.config.layers.at(step.layer).feed_forward_length;
  const kernels::MatrixView normed = matrix(normed_, residual.rows, residual.cols);
  const kernels::MatrixView g = matrix(gate_, residual.rows, width);
  const kernels::MatrixView u = matrix(up_, residual.rows, width);
  if (step.first_slice &&
      !kernels::cpu::rms_norm(residual, vector(&required(step, WeightRole::ffn_norm)),
                              model_.config.rms_epsilon, normed)) {
    return false;
  }
  const loaders::WeightSlice& gate = required(step, WeightRole::gate);
  const loaders::WeightSlice& up = required(step, WeightRole::up);
  std::vector<kernels::cpu::SharedProduct> products{
      {weights(gate), columns(g, gate), {.bias = vector(step.find(WeightRole::gate_bias))}}};
  // A bias that was converted is where the next one will be.
  const float* const first_bias = products.front().options.bias;
  if (first_bias != nullptr && first_bias == vector_.data()) {
    kernels::cpu::matmul(products, normed);
    products.clear();
  }
  products.push_back(
      {weights(up), columns(u, up), {.bias = vector(step.find(WeightRole::up_bias))}});
  kernels::cpu::matmul(products, normed);
  if (step.last_slice) kernels::cpu::swiglu(g, u, g);
  return true;
}

void HostFeedForward::down(const loaders::Step& step, const kernels::MatrixView& residual) {
  const loaders::WeightSlice& slice = required(step, WeightRole::down);
  const std::size_t width = model_.config.layers.at(step.layer).feed_forward_length;
  kernels::cpu::matmul(weights(slice), matrix(gate_, residual.rows, width),
                       columns(residual, slice),
                       {.bias = vector(step.find(WeightRole::down_bias)), .accumulate = true});
}

const std::byte* HostFeedForward::data(const loaders::WeightSlice& slice) const {
  const std::byte* const data = store_.address(slice.bytes);
  if (data != nullptr) return data;
  throw Error(
      fmt::format("the processors cannot read {} where it is stored: it has no address; "
                  "leave all to the device",
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
