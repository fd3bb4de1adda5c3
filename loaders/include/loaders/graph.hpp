// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "loaders/gguf.hpp"
#include "loaders/model_config.hpp"
#include "pager/export.hpp"
#include "pager/plan.hpp"
#include "pager/types.hpp"

namespace tensor_pager::loaders {

/// What a step computes. x is the residual stream [tokens, embedding_length]. An operation whose
/// weights are large is cut into several consecutive steps (slices), each of which computes some
/// rows of the same result.
enum class Op {
  /// First slice: h = rms_norm(x) * attn_norm. Every slice: its rows of q, k, v = W h (+ bias).
  /// Last slice: RMSNorm of
  /// every head (q_norm, k_norm, if the architecture has them), RoPE, keys and values into the
  /// cache.
  attention_input,
  /// First slice: a = causal attention. Every slice: x[its rows] += W a (+ bias).
  attention_output,
  /// First slice: h = rms_norm(x) * ffn_norm. Every slice: its rows of f = silu(gate h) * (up h),
  /// each product (+ bias).
  ffn_gate_up,
  /// Every slice: x[its rows] += down f (+ bias).
  ffn_down,
  /// h = rms_norm(x) * ffn_norm, softmax(router h), and with it the experts that each token uses
  /// and their weights.
  /// h stays for the steps below.
  moe_router,
  /// The shared expert. Its first slice also computes sigmoid(shared_router . h), the weight of the
  /// shared expert.
  moe_shared_gate_up,
  /// Every slice: x[its rows] += weight * (down f).
  moe_shared_down,
  /// For each expert of the step that a token chose: x += weight * (down (silu(gate h) * (up h))).
  moe_experts,
  /// First slice: h = rms_norm(x) * output_norm for the positions whose logits are wanted. Every
  /// slice: its rows of W h (+ bias).
  output,
};

TENSOR_PAGER_EXPORT std::string_view to_string(Op op);

/// What a weight is to the operation that reads it.
enum class WeightRole {
  attn_norm,
  q,
  q_bias,
  k,
  k_bias,
  v,
  v_bias,
  q_norm,
  k_norm,
  attn_output,
  attn_output_bias,
  ffn_norm,
  gate,
  gate_bias,
  up,
  up_bias,
  gate_up,  ///< of one expert: the rows of gate, then the rows of up
  down,
  down_bias,
  router,         ///< ffn_gate_inp
  shared_router,  ///< ffn_gate_inp_shexp, a vector
  output_norm,
  output,
  output_bias,
};

TENSOR_PAGER_EXPORT std::string_view to_string(WeightRole role);

/// Consecutive rows of a tensor. The dimensions above the first are counted through: expert e of a
/// tensor {in, out, n} is rows [e * out, (e + 1) * out). A tensor with one dimension is `ne[0]`
/// rows of one element.
struct WeightSlice {
  WeightRole role{};
  std::uint32_t tensor = 0;  ///< index into GgufModel::tensors()
  std::uint64_t first_row = 0;
  std::uint64_t rows = 0;
  ByteRange bytes{};  ///< in the image
};

/// The weights of one routed expert.
struct ExpertWeights {
  std::uint32_t expert = 0;
  std::vector<WeightSlice> weights{};
};

/// A piece of a forward pass: an operation, or a slice of one, and the weights that it reads.
struct Step {
  Op op{};
  std::uint32_t layer = 0;  ///< ModelConfig::block_count() for Op::output
  bool first_slice = true;
  bool last_slice = true;
  /// Read whenever the step runs.
  std::vector<WeightSlice> weights{};
  /// Op::moe_experts only: what the router chooses from when the step runs.
  std::vector<ExpertWeights> experts{};
  /// Floating-point operations of the step's matrix products for one token; for Op::moe_experts, of
  /// one expert for one token. Attention itself, which depends on the position, is not counted.
  double flops_per_token = 0;

  /// The weight with that role, or nullptr. At most one has it.
  TENSOR_PAGER_EXPORT const WeightSlice* find(WeightRole role) const;
};

struct GraphOptions {
  /// A step reads at most this much, so that a page-sized arena can hold it while the next one is
  /// on its way. What cannot be cut (32 rows, for q, k and v one head, one routed expert) becomes a
  /// step of its own if it is larger.
  Bytes max_step_bytes = MiB(64);
};

/// A number that products with a whole matrix are multiplied by, before a bias is added: files of
/// NVFP4 have the tensor "NAME.scale" beside "NAME.weight", or from some converters
/// "NAME.weight.scale". Both are indices into GgufModel::tensors(). What the scale looks like is
/// not checked: whether it can be used is for the executor to say.
struct MatrixScale {
  std::uint32_t matrix = 0;
  std::uint32_t scale = 0;
};

/// The steps of a forward pass in order. Every weight is in exactly one step, except a tied output
/// matrix, which is the token embedding read a second time.
struct Graph {
  ModelConfig config;
  std::vector<Step> steps;
  /// Index of token_embd.weight. No step reads it: the rows of a prompt's tokens are gathered on
  /// the host.
  std::uint32_t token_embedding = 0;
  /// True if the output matrix is the token embedding.
  bool tied_output = false;
  /// Index of rope_freqs.weight, if there is one: float [rope_dimension_count / 2], by which the
  /// frequency of each rotated pair is divided. No step reads it: rotations are made on the host.
  std::optional<std::uint32_t> rope_factors;
  /// Of the matrices that have one. No step reads them: an executor knows them from the beginning.
  std::vector<MatrixScale> scales;
  /// Indices of tensors that the pass is known to do without: those of the blocks that predict
  /// tokens beyond the next one (ModelConfig::nextn_predict_layers), and scales of inputs that
  /// engines use which round activations.
  std::vector<std::uint32_t> unused;
};

/// Builds the graph of a model. Throws GgufError, which names the key or the tensor, for
/// hyperparameters that are wrong, a tensor that is missing, one whose shape is not the one
/// expected, and one that the architecture has no use for: without it the answer would be wrong.
/// Types of matrices are not looked at: whether there is a kernel for them is for the executor to
/// say.
TENSOR_PAGER_EXPORT Graph build_graph(const GgufModel& model, const GraphOptions& options = {});

/// What the step always reads, sorted, neighbours merged. Experts are not included.
TENSOR_PAGER_EXPORT std::vector<ByteRange> reads(const Step& step);
/// What one expert reads, sorted, neighbours merged.
TENSOR_PAGER_EXPORT std::vector<ByteRange> reads(const ExpertWeights& expert);

/// How a prompt is cut for a pass.
struct PassShape {
  std::uint32_t ubatches = 1;
  std::uint32_t ubatch_tokens = 512;
};

/// One entry of the order in which a pass runs its steps.
struct ScheduledStep {
  std::uint32_t step = 0;  ///< index into Graph::steps
  std::uint32_t ubatch = 0;
};

/// The order of a pass: layer-major. For each layer, each ubatch goes through all of the layer's
/// steps; then the output steps run once, for all wanted positions together (their ubatch is 0).
TENSOR_PAGER_EXPORT std::vector<ScheduledStep> schedule(const Graph& graph, std::uint32_t ubatches);

/// The pager's view of that order: step i of the plan is entry i of schedule(graph,
/// shape.ubatches). Experts become `choices`, as many of them at once as the tokens of an ubatch
/// can ask for.
TENSOR_PAGER_EXPORT AccessPlan access_plan(const Graph& graph, const PassShape& shape);

}  // namespace tensor_pager::loaders
