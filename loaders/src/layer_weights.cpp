// SPDX-License-Identifier: Apache-2.0
#include "layer_weights.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

namespace tensor_pager::loaders {
namespace {

// Slices of ordinary matrices begin at multiples of this many rows, so that kernels can work on
// whole tiles of them.
constexpr std::uint64_t kRowGranularity = 32;

constexpr std::string_view kOutputBias = "output.bias";

// Builds the operations of one layer.
class LayerDescription {
 public:
  LayerDescription(TensorTable& tensors, const ModelConfig& config, std::uint32_t layer)
      : tensors_(tensors),
        config_(config),
        architecture_(traits(config.architecture)),
        sizes_(config.layers.at(layer)),
        layer_(layer) {}

  std::vector<Operation> build() {
    add(attention_input());
    add(attention_output());
    if (!architecture_.experts) {
      add(gate_up(Op::ffn_gate_up, "", sizes_.feed_forward_length));
      operations_.back().first = {ffn_norm()};
      add(down(Op::ffn_down, "", sizes_.feed_forward_length));
      return std::move(operations_);
    }
    add(router());
    if (architecture_.shared_expert) {
      const std::uint32_t width = config_.experts.shared_feed_forward_length;
      add(gate_up(Op::moe_shared_gate_up, "_shexp", width));
      operations_.back().first = {
          vector(WeightRole::shared_router, "ffn_gate_inp_shexp.weight", config_.embedding_length)};
      add(down(Op::moe_shared_down, "_shexp", width));
    }
    add(experts());
    return std::move(operations_);
  }

 private:
  void add(Operation operation) {
    operation.layer = layer_;
    operations_.push_back(std::move(operation));
  }
  std::string full(std::string_view name) const { return fmt::format("blk.{}.{}", layer_, name); }
  Operand matrix(WeightRole role, std::string_view name, std::initializer_list<std::uint64_t> ne) {
    return tensors_.matrix(role, full(name), ne);
  }
  Operand vector(WeightRole role, std::string_view name, std::uint64_t length) {
    return tensors_.vector(role, full(name), length);
  }
  Operand ffn_norm() {
    return vector(WeightRole::ffn_norm, "ffn_norm.weight", config_.embedding_length);
  }

  // One of q, k, v, which is cut between heads only.
  RowGroup projection(WeightRole weight, WeightRole bias, std::string_view name,
                      std::uint64_t heads, std::uint64_t head_length) {
    RowGroup group{.operands = {}, .rows = heads * head_length, .granularity = head_length};
    add_product(group, weight, bias, name, config_.embedding_length);
    if (architecture_.qkv_bias && group.operands.size() == 1) {
      vector(bias, fmt::format("{}.bias", name), group.rows);  // throws: missing
    }
    return group;
  }

  // The matrix `name` with as many rows as the group has, and its bias, if the file has one.
  void add_product(RowGroup& group, WeightRole weight, WeightRole bias, std::string_view name,
                   std::uint64_t in) {
    group.operands.push_back(matrix(weight, fmt::format("{}.weight", name), {in, group.rows}));
    const std::string bias_name = fmt::format("{}.bias", name);
    if (tensors_.contains(full(bias_name))) {
      group.operands.push_back(vector(bias, bias_name, group.rows));
    }
  }

  Operation attention_input() {
    using enum WeightRole;
    Operation out{.op = Op::attention_input};
    out.first = {vector(attn_norm, "attn_norm.weight", config_.embedding_length)};
    out.groups = {projection(q, q_bias, "attn_q", sizes_.head_count, config_.key_length),
                  projection(k, k_bias, "attn_k", sizes_.head_count_kv, config_.key_length),
                  projection(v, v_bias, "attn_v", sizes_.head_count_kv, config_.value_length)};
    if (architecture_.qk_norm) {
      out.last = {vector(q_norm, "attn_q_norm.weight", config_.key_length),
                  vector(k_norm, "attn_k_norm.weight", config_.key_length)};
    }
    return out;
  }

  Operation attention_output() {
    const std::uint64_t in = std::uint64_t{sizes_.head_count} * config_.value_length;
    RowGroup group{.rows = config_.embedding_length, .granularity = kRowGranularity};
    add_product(group, WeightRole::attn_output, WeightRole::attn_output_bias, "attn_output", in);
    return {.op = Op::attention_output, .groups = {std::move(group)}};
  }

  Operation gate_up(Op op, std::string_view suffix, std::uint64_t width) {
    using enum WeightRole;
    const std::uint64_t in = config_.embedding_length;
    RowGroup group{.rows = width, .granularity = kRowGranularity};
    add_product(group, gate, gate_bias, fmt::format("ffn_gate{}", suffix), in);
    add_product(group, up, up_bias, fmt::format("ffn_up{}", suffix), in);
    return {.op = op, .groups = {std::move(group)}};
  }

  Operation down(Op op, std::string_view suffix, std::uint64_t width) {
    using enum WeightRole;
    RowGroup group{.rows = config_.embedding_length, .granularity = kRowGranularity};
    add_product(group, WeightRole::down, down_bias, fmt::format("ffn_down{}", suffix), width);
    return {.op = op, .groups = {std::move(group)}};
  }

  Operation router() {
    const std::uint64_t in = config_.embedding_length;
    const std::uint64_t count = config_.experts.count;
    Operation operation{.op = Op::moe_router};
    operation.first = {ffn_norm()};
    // Never cut: all of the router's logits are needed to choose, and it is small.
    operation.groups = {
        {{matrix(WeightRole::router, "ffn_gate_inp.weight", {in, count})}, count, count}};
    return operation;
  }

  Operation experts() {
    using enum WeightRole;
    const std::uint64_t in = config_.embedding_length;
    const std::uint64_t width = config_.experts.feed_forward_length;
    const std::uint64_t count = config_.experts.count;
    Operation operation{.op = Op::moe_experts};
    operation.expert_count = config_.experts.count;
    if (tensors_.contains(full("ffn_gate_up_exps.weight"))) {
      operation.experts = {
          matrix(WeightRole::gate_up, "ffn_gate_up_exps.weight", {in, 2 * width, count})};
    } else {
      operation.experts = {matrix(gate, "ffn_gate_exps.weight", {in, width, count}),
                           matrix(up, "ffn_up_exps.weight", {in, width, count})};
    }
    operation.experts.push_back(
        matrix(WeightRole::down, "ffn_down_exps.weight", {width, in, count}));
    return operation;
  }

  TensorTable& tensors_;
  const ModelConfig& config_;
  const ArchitectureTraits& architecture_;
  const LayerConfig& sizes_;
  std::uint32_t layer_;
  std::vector<Operation> operations_;
};

}  // namespace

const TensorInfo& TensorTable::require(std::string_view name,
                                       std::initializer_list<std::uint64_t> ne) {
  const TensorInfo* tensor = model_.find(name);
  if (tensor == nullptr) throw model_.missing_tensor(name);
  TensorInfo expected;
  std::ranges::copy(ne, expected.ne.begin());
  expected.dimensions = static_cast<std::uint32_t>(ne.size());
  // Trailing dimensions of 1 say nothing, so they do not count.
  if (tensor->ne != expected.ne) {
    throw model_.error(
        *tensor, fmt::format("has shape {}, but the metadata asks for {}; convert the model again",
                             shape_to_string(*tensor), shape_to_string(expected)));
  }
  used_[index_of(*tensor)] = true;
  return *tensor;
}

Operand TensorTable::matrix(WeightRole role, std::string_view name,
                            std::initializer_list<std::uint64_t> ne) {
  return {role, index_of(require(name, ne)), false};
}

Operand TensorTable::vector(WeightRole role, std::string_view name, std::uint64_t length) {
  const TensorInfo& tensor = require(name, {length});
  if (traits(tensor.type).block_elements != 1) {
    throw model_.error(tensor, fmt::format("is a vector of type {}; vectors must not be quantised "
                                           "(F32, F16, BF16): convert the model again",
                                           to_string(tensor.type)));
  }
  return {role, index_of(tensor), true};
}

std::vector<std::uint32_t> TensorTable::unused() const {
  std::vector<std::uint32_t> out;
  for (std::uint32_t i = 0; i < used_.size(); ++i) {
    if (!used_[i]) out.push_back(i);
  }
  return out;
}

std::vector<Operation> describe_layer(TensorTable& tensors, const ModelConfig& config,
                                      std::uint32_t layer) {
  return LayerDescription(tensors, config, layer).build();
}

Operation describe_output(TensorTable& tensors, const ModelConfig& config, bool tied) {
  const std::string_view name = tied ? "token_embd.weight" : "output.weight";
  Operation out{.op = Op::output, .layer = config.block_count()};
  out.first = {
      tensors.vector(WeightRole::output_norm, "output_norm.weight", config.embedding_length)};
  RowGroup group{.rows = config.vocab_size, .granularity = kRowGranularity};
  group.operands.push_back(
      tensors.matrix(WeightRole::output, name, {config.embedding_length, config.vocab_size}));
  if (tensors.contains(kOutputBias)) {
    group.operands.push_back(
        tensors.vector(WeightRole::output_bias, kOutputBias, config.vocab_size));
  }
  out.groups = {std::move(group)};
  return out;
}

}  // namespace tensor_pager::loaders
