// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "loaders/gguf.hpp"
#include "loaders/graph.hpp"

namespace tensor_pager::tests {

/// Sizes of a layer's parts; matrices are square enough for arithmetic to be two operations an
/// element and token.
struct MadeUpLayer {
  Bytes attention;
  Bytes gate_up;
  Bytes down;
  loaders::TensorType type = loaders::TensorType::q8_0;
  loaders::TensorType down_type = loaders::TensorType::q8_0;
};

/// A graph without a file: its tensors lie one after another from offset 0.
struct MadeUpModel {
  std::vector<loaders::TensorInfo> tensors;
  loaders::Graph graph;

  Bytes bytes() const { return end_; }

  void add_layer(const MadeUpLayer& layer, std::uint32_t slices = 1) {
    using loaders::Op;
    using loaders::WeightRole;
    const std::uint32_t index = layers_++;
    add(Op::attention_input, index, WeightRole::q, Bytes{layer.attention.count / 2}, layer.type, 1);
    add(Op::attention_output, index, WeightRole::attn_output, Bytes{layer.attention.count / 2},
        layer.type, 1);
    add(Op::ffn_gate_up, index, WeightRole::gate_up, layer.gate_up, layer.type, slices);
    add(Op::ffn_down, index, WeightRole::down, layer.down, layer.down_type, slices);
    graph.config.layers.resize(layers_);
  }
  void add_output(Bytes bytes, std::uint32_t slices = 1) {
    add(loaders::Op::output, layers_, loaders::WeightRole::output, bytes, loaders::TensorType::q6_k,
        slices);
  }

 private:
  void add(loaders::Op op, std::uint32_t layer, loaders::WeightRole role, Bytes bytes,
           loaders::TensorType type, std::uint32_t slices) {
    const loaders::TensorTypeTraits& kind = loaders::traits(type);
    const std::uint64_t rows = std::max<std::uint64_t>(bytes.count / kind.block_bytes, slices);
    loaders::TensorInfo tensor;
    tensor.ne = {kind.block_elements, rows, 1, 1};
    tensor.dimensions = 2;
    tensor.type = type;
    tensor.bytes = {end_, Bytes{rows * kind.block_bytes}};
    end_ += tensor.bytes.size;
    const auto index = static_cast<std::uint32_t>(tensors.size());
    tensors.push_back(tensor);
    for (std::uint32_t i = 0; i < slices; ++i) {
      const std::uint64_t first = rows * i / slices;
      const std::uint64_t count = rows * (i + 1) / slices - first;
      loaders::Step step{.op = op, .layer = layer};
      step.first_slice = i == 0;
      step.last_slice = i + 1 == slices;
      step.weights.push_back({role,
                              index,
                              first,
                              count,
                              {tensor.bytes.offset + Bytes{first * kind.block_bytes},
                               Bytes{count * kind.block_bytes}}});
      step.flops_per_token =
          2.0 * static_cast<double>(kind.block_elements) * static_cast<double>(count);
      graph.steps.push_back(step);
    }
  }

  std::uint32_t layers_ = 0;
  Bytes end_;
};

/// Shapes of Qwen2.5-32B in Q4_K_M: 64 layers, the second half of whose down matrices (the first
/// and last eighth, and every third between) is Q6_K; steps of at most 128 MiB.
inline MadeUpModel made_up_32b(std::uint32_t layers = 64) {
  using loaders::TensorType;
  MadeUpModel model;
  model.graph.config.embedding_length = 5120;
  const std::uint64_t matrix = std::uint64_t{5120} * 27648;
  for (std::uint32_t i = 0; i < layers; ++i) {
    const bool better = i < layers / 8 || i >= layers - layers / 8 || i % 3 == 2;
    const TensorType down = better ? TensorType::q6_k : TensorType::q4_k;
    model.add_layer({.attention = loaders::bytes_of(TensorType::q4_k, 62'914'560),
                     .gate_up = loaders::bytes_of(TensorType::q4_k, 2 * matrix),
                     .down = loaders::bytes_of(down, matrix),
                     .type = TensorType::q4_k,
                     .down_type = down},
                    2);
  }
  model.add_output(loaders::bytes_of(TensorType::q6_k, std::uint64_t{152064} * 5120), 5);
  return model;
}

}  // namespace tensor_pager::tests
