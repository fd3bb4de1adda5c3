// SPDX-License-Identifier: Apache-2.0
#include "loaders/graph.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <utility>

#include "layer_weights.hpp"
#include "pager/counted.hpp"

namespace tensor_pager::loaders {
namespace {

constexpr std::string_view kRopeFactors = "rope_freqs.weight";

constexpr std::array<std::string_view, 9> kOpNames = {
    "attention_input",    "attention_output", "ffn_gate_up", "ffn_down", "moe_router",
    "moe_shared_gate_up", "moe_shared_down",  "moe_experts", "output"};

constexpr auto kRoleNames = std::to_array<std::string_view>({"attn_norm",
                                                             "q",
                                                             "q_bias",
                                                             "k",
                                                             "k_bias",
                                                             "v",
                                                             "v_bias",
                                                             "q_norm",
                                                             "k_norm",
                                                             "attn_output",
                                                             "attn_output_bias",
                                                             "ffn_norm",
                                                             "gate",
                                                             "gate_bias",
                                                             "up",
                                                             "up_bias",
                                                             "gate_up",
                                                             "down",
                                                             "down_bias",
                                                             "router",
                                                             "shared_router",
                                                             "output_norm",
                                                             "output",
                                                             "output_bias"});
static_assert(kRoleNames.size() == static_cast<std::size_t>(WeightRole::output_bias) + 1);

// Cuts operations into steps.
class Slicer {
 public:
  Slicer(std::span<const TensorInfo> tensors, Bytes max_step_bytes, std::vector<Step>& steps)
      : tensors_(tensors), max_(max_step_bytes), steps_(steps) {}

  void add(const Operation& operation) {
    const std::size_t begin = steps_.size();
    open(operation);
    for (const Operand& operand : operation.first) add_whole(operand);
    if (operation.expert_count > 0) {
      add_experts(operation);
    } else {
      add_rows(operation);
    }
    for (const Operand& operand : operation.last) add_whole(operand);
    for (std::size_t i = begin; i < steps_.size(); ++i) {
      steps_[i].first_slice = i == begin;
      steps_[i].last_slice = i + 1 == steps_.size();
    }
  }

 private:
  void open(const Operation& operation) {
    steps_.push_back({.op = operation.op, .layer = operation.layer});
    used_ = {};
    empty_ = true;
  }

  // Closes the current step if it has something to do already and `bytes` more would be too much
  // for it.
  void make_room(const Operation& operation, Bytes bytes, Bytes target) {
    if (!empty_ && used_ + bytes > target) open(operation);
    used_ += bytes;
    empty_ = false;
  }

  // How full to make each step, so that all are about equally large: a few rows left over for a
  // step of their own would be a transfer with nothing to hide behind.
  Bytes target_bytes(Bytes total, Bytes largest_unit, Bytes fixed) const {
    if (largest_unit == Bytes{}) return max_;  // nothing to cut
    const Bytes capacity{max_ > fixed ? (max_ - fixed).count : 1};
    const Bytes usable = largest_unit * std::max<std::uint64_t>(capacity / largest_unit, 1);
    const std::uint64_t steps = (total + usable - Bytes{1}) / usable;
    return std::min(capacity, Bytes{total.count / steps} + largest_unit);
  }

  void add_rows(const Operation& operation) {
    Bytes total;
    Bytes largest;
    for (const RowGroup& group : operation.groups) {
      total += group_bytes(group, group.rows);
      largest = std::max(largest, group_bytes(group, std::min(group.rows, group.granularity)));
    }
    const Bytes fixed = whole_bytes(operation.first) + whole_bytes(operation.last);
    const Bytes target = target_bytes(total, largest, fixed);
    for (const RowGroup& group : operation.groups) {
      for (std::uint64_t row = 0; row < group.rows; row += group.granularity) {
        const std::uint64_t rows = std::min(group.granularity, group.rows - row);
        make_room(operation, group_bytes(group, rows), target);
        for (const Operand& operand : group.operands) extend(operand, row, rows);
      }
    }
  }

  void add_experts(const Operation& operation) {
    const std::uint64_t count = operation.expert_count;
    const Bytes total = whole_bytes(operation.experts);
    const Bytes each{total.count / count};
    const Bytes target = target_bytes(total, each, {});
    for (std::uint32_t expert = 0; expert < operation.expert_count; ++expert) {
      make_room(operation, each, target);
      ExpertWeights weights{expert, {}};
      double flops = 0;
      for (const Operand& operand : operation.experts) {
        const std::uint64_t rows = rows_of(operand) / count;
        weights.weights.push_back(slice(operand, expert * rows, rows));
        flops += matrix_flops(operand, rows);
      }
      steps_.back().experts.push_back(std::move(weights));
      steps_.back().flops_per_token = flops;
    }
  }

  void add_whole(const Operand& operand) {
    steps_.back().weights.push_back(slice(operand, 0, rows_of(operand)));
  }

  // Adds rows to the step's slice of the tensor, which they continue, or begins it.
  void extend(const Operand& operand, std::uint64_t row, std::uint64_t rows) {
    Step& step = steps_.back();
    step.flops_per_token += matrix_flops(operand, rows);
    const auto found = std::ranges::find(step.weights, operand.role, &WeightSlice::role);
    if (found == step.weights.end()) {
      step.weights.push_back(slice(operand, row, rows));
    } else {
      *found = slice(operand, found->first_row, found->rows + rows);
    }
  }

  const TensorInfo& info(const Operand& operand) const { return tensors_[operand.tensor]; }
  std::uint64_t rows_of(const Operand& operand) const {
    const TensorInfo& tensor = info(operand);
    return operand.is_vector ? tensor.ne[0] : tensor.rows();
  }
  Bytes row_bytes(const Operand& operand) const {
    const TensorInfo& tensor = info(operand);
    return {tensor.bytes.size.count / rows_of(operand)};
  }
  WeightSlice slice(const Operand& operand, std::uint64_t first_row, std::uint64_t rows) const {
    const Bytes row = row_bytes(operand);
    return {operand.role,
            operand.tensor,
            first_row,
            rows,
            {info(operand).bytes.offset + row * first_row, row * rows}};
  }
  double matrix_flops(const Operand& operand, std::uint64_t rows) const {
    const TensorInfo& tensor = info(operand);
    if (operand.is_vector) return 0;
    return 2.0 * static_cast<double>(tensor.ne[0]) * static_cast<double>(rows);
  }
  Bytes group_bytes(const RowGroup& group, std::uint64_t rows) const {
    Bytes sum;
    for (const Operand& operand : group.operands) sum += row_bytes(operand) * rows;
    return sum;
  }
  Bytes whole_bytes(const std::vector<Operand>& operands) const {
    Bytes sum;
    for (const Operand& operand : operands) sum += info(operand).bytes.size;
    return sum;
  }

  std::span<const TensorInfo> tensors_;
  Bytes max_;
  std::vector<Step>& steps_;
  Bytes used_;         // of the current step, fixed weights aside
  bool empty_ = true;  // nothing in the current step but fixed weights
};

std::vector<ByteRange> merged(const std::vector<WeightSlice>& weights) {
  std::vector<ByteRange> ranges;
  ranges.reserve(weights.size());
  for (const WeightSlice& weight : weights) ranges.push_back(weight.bytes);
  std::ranges::sort(ranges);
  std::vector<ByteRange> out;
  for (const ByteRange& range : ranges) {
    if (!out.empty() && out.back().end() >= range.offset) {
      out.back().size = std::max(out.back().end(), range.end()) - out.back().offset;
    } else {
      out.push_back(range);
    }
  }
  return out;
}

PlanStep plan_step(const Step& step, const ModelConfig& config, const PassShape& shape) {
  PlanStep out;
  out.name = step.op == Op::output ? std::string() : "layer " + std::to_string(step.layer) + " ";
  out.name += to_string(step.op);
  out.reads = reads(step);
  std::uint64_t ranges_of_one = 0;
  for (const ExpertWeights& expert : step.experts) {
    const std::vector<ByteRange> ranges = reads(expert);
    ranges_of_one = std::max<std::uint64_t>(ranges_of_one, ranges.size());
    out.choices.insert(out.choices.end(), ranges.begin(), ranges.end());
  }
  const std::uint64_t asked = std::uint64_t{shape.ubatch_tokens} * config.experts.used_count;
  const std::uint64_t experts = std::min<std::uint64_t>(step.experts.size(), asked);
  out.choose_at_most = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(experts * ranges_of_one, out.choices.size()));
  return out;
}

// Blocks at the end of the file that predict tokens beyond the next one: what is theirs is not part
// of a pass. What such a block has, and a layer has not, is looked for: a wrong
// nextn_predict_layers must not drop a layer.
class PredictionBlocks {
 public:
  PredictionBlocks(const GgufModel& model, const ModelConfig& config) {
    for (std::uint32_t i = 0; i < config.nextn_predict_layers; ++i) {
      const std::string prefix = "blk." + std::to_string(config.block_count() + i) + ".";
      if (model.find(prefix + "nextn.eh_proj.weight") != nullptr) prefixes_.push_back(prefix);
    }
  }

  bool have(std::string_view name) const {
    return std::ranges::any_of(prefixes_,
                               [&](const std::string& prefix) { return name.starts_with(prefix); });
  }

 private:
  std::vector<std::string> prefixes_;
};

// The matrix "NAME.weight" beside which the tensor is "NAME" and the suffix, or from some
// converters "NAME.weight" and the suffix; nullptr if there is none.
const TensorInfo* matrix_beside(const GgufModel& model, std::string_view name,
                                std::string_view suffix) {
  constexpr std::string_view kWeight = ".weight";
  if (!name.ends_with(suffix)) return nullptr;
  std::string weight(name.substr(0, name.size() - suffix.size()));
  if (!weight.ends_with(kWeight)) weight += kWeight;
  const TensorInfo* matrix = model.find(weight);
  return matrix != nullptr && matrix->rows() > 1 ? matrix : nullptr;
}

// Scales of matrices that the pass uses are used, although no step reads them. A second one of the
// same matrix is not.
void take_scales(const GgufModel& model, Graph& graph) {
  const auto index_of = [&](const TensorInfo& tensor) {
    return static_cast<std::uint32_t>(&tensor - model.tensors().data());
  };
  const std::vector<std::uint32_t> unused = graph.unused;  // ascending
  std::erase_if(graph.unused, [&](std::uint32_t scale) {
    const TensorInfo* tensor = matrix_beside(model, model.tensors()[scale].name, ".scale");
    if (tensor == nullptr) return false;
    const std::uint32_t matrix = index_of(*tensor);
    if (std::ranges::binary_search(unused, matrix)) return false;
    if (std::ranges::count(graph.scales, matrix, &MatrixScale::matrix) > 0) return false;
    graph.scales.push_back({.matrix = matrix, .scale = scale});
    return true;
  });
}

// A tensor that is dropped changes the answer, and nothing would say so. Scales of inputs are for
// engines that round activations, too.
void refuse_unused(const GgufModel& model, const Graph& graph) {
  const PredictionBlocks prediction(model, graph.config);
  const TensorInfo* first = nullptr;
  std::size_t count = 0;
  for (const std::uint32_t i : graph.unused) {
    const TensorInfo& tensor = model.tensors()[i];
    if (prediction.have(tensor.name)) continue;
    if (matrix_beside(model, tensor.name, ".input_scale") != nullptr) continue;
    if (first == nullptr) first = &tensor;
    ++count;
  }
  if (first == nullptr) return;
  throw model.error(
      *first, fmt::format("a {} model of {} has no use for it{}, and its answers would be wrong "
                          "without; give a model that was converted without additions",
                          to_string(graph.config.architecture),
                          counted(graph.config.block_count(), "layer"),
                          count == 1 ? "" : fmt::format(", the first of {} such tensors", count)));
}

}  // namespace

std::string_view to_string(Op op) {
  return kOpNames.at(static_cast<std::size_t>(op));
}

std::string_view to_string(WeightRole role) {
  return kRoleNames.at(static_cast<std::size_t>(role));
}

const WeightSlice* Step::find(WeightRole role) const {
  const auto found = std::ranges::find(weights, role, &WeightSlice::role);
  return found == weights.end() ? nullptr : &*found;
}

Graph build_graph(const GgufModel& model, const GraphOptions& options) {
  Graph graph;
  graph.config = read_model_config(model);
  TensorTable tensors(model);
  const Operand embedding =
      tensors.matrix(WeightRole::output, "token_embd.weight",
                     {graph.config.embedding_length, graph.config.vocab_size});
  graph.token_embedding = embedding.tensor;
  graph.tied_output = !tensors.contains("output.weight");
  if (tensors.contains(kRopeFactors)) {
    graph.rope_factors =
        tensors.vector(WeightRole{}, kRopeFactors, graph.config.rope_dimension_count / 2).tensor;
  }

  Slicer slicer(model.tensors(), options.max_step_bytes, graph.steps);
  for (std::uint32_t layer = 0; layer < graph.config.block_count(); ++layer) {
    for (const Operation& operation : describe_layer(tensors, graph.config, layer)) {
      slicer.add(operation);
    }
  }
  slicer.add(describe_output(tensors, graph.config, graph.tied_output));
  graph.unused = tensors.unused();
  take_scales(model, graph);
  refuse_unused(model, graph);
  return graph;
}

std::vector<ByteRange> reads(const Step& step) {
  return merged(step.weights);
}
std::vector<ByteRange> reads(const ExpertWeights& expert) {
  return merged(expert.weights);
}

std::vector<ScheduledStep> schedule(const Graph& graph, std::uint32_t ubatches) {
  std::vector<ScheduledStep> order;
  const auto count = static_cast<std::uint32_t>(graph.steps.size());
  for (std::uint32_t begin = 0; begin < count;) {
    std::uint32_t end = begin;
    while (end < count && graph.steps[end].layer == graph.steps[begin].layer) ++end;
    const std::uint32_t times = graph.steps[begin].op == Op::output ? 1 : ubatches;
    for (std::uint32_t ubatch = 0; ubatch < times; ++ubatch) {
      for (std::uint32_t step = begin; step < end; ++step) order.push_back({step, ubatch});
    }
    begin = end;
  }
  return order;
}

AccessPlan access_plan(const Graph& graph, const PassShape& shape) {
  std::vector<PlanStep> steps;
  for (const Step& step : graph.steps) steps.push_back(plan_step(step, graph.config, shape));
  AccessPlan plan;
  for (const ScheduledStep& entry : schedule(graph, shape.ubatches)) {
    plan.steps.push_back(steps[entry.step]);
    if (shape.ubatches > 1) plan.steps.back().name += ", ubatch " + std::to_string(entry.ubatch);
  }
  return plan;
}

}  // namespace tensor_pager::loaders
