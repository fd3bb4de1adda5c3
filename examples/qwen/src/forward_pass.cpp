// SPDX-License-Identifier: Apache-2.0
#include "qwen/forward_pass.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <set>
#include <stdexcept>
#include <utility>

#include "qwen/embedding.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

using loaders::Op;
using loaders::WeightRole;

kernels::RopeFrequencies frequencies(const Model& model) {
  const loaders::ModelConfig& config = model.config;
  const loaders::RopeScaling& scaling = config.rope_scaling;
  kernels::RopeParameters parameters;
  parameters.rotary_dims = config.rope_dimension_count;
  parameters.frequency_base = config.rope_freq_base;
  switch (scaling.kind) {
    case loaders::RopeScalingKind::none:
      parameters.scaling = kernels::RopeScaling::none;
      break;
    case loaders::RopeScalingKind::linear:
      parameters.scaling = kernels::RopeScaling::linear;
      break;
    case loaders::RopeScalingKind::yarn:
      parameters.scaling = kernels::RopeScaling::yarn;
      break;
  }
  parameters.factor = scaling.factor;
  parameters.original_context = scaling.original_context_length;
  parameters.beta_fast = scaling.yarn_beta_fast;
  parameters.beta_slow = scaling.yarn_beta_slow;
  parameters.extrapolation_factor = scaling.yarn_ext_factor;
  parameters.attention_factor = scaling.attention_factor;
  parameters.factors = model.rope_factors;
  return kernels::rope_frequencies(parameters);
}

std::uint32_t ubatches(const PassSize& size) {
  return (size.tokens + size.ubatch - 1) / size.ubatch;
}

std::size_t tokens_of(std::span<const Stretch> stretches) {
  std::size_t tokens = 0;
  for (const Stretch& stretch : stretches) tokens += stretch.count;
  return tokens;
}

std::vector<std::size_t> positions_of(std::span<const Stretch> stretches) {
  std::vector<std::size_t> positions;
  positions.reserve(tokens_of(stretches));
  for (const Stretch& stretch : stretches) {
    for (std::size_t i = 0; i < stretch.count; ++i) positions.push_back(stretch.past + i);
  }
  return positions;
}

kernels::MatrixView columns(const kernels::MatrixView& matrix, const loaders::WeightSlice& slice) {
  return {matrix.data + slice.first_row, matrix.rows, slice.rows, matrix.stride};
}

// Where the residual stream is looked at, in the order of the pass: before the attention and before
// the feed-forward block of every layer, and before the output.
std::uint32_t before_attention(const loaders::Step& step) {
  return 2 * step.layer;
}
std::uint32_t before_feed_forward(const loaders::Step& step) {
  return 2 * step.layer + 1;
}

// Products of one input that are asked for together.
template <class Projection>
class Together {
 public:
  Together(Operations& operations, const ActivationView& x) : operations_(operations), x_(x) {}
  void add(const Projection& projection) { pending_.push_back(projection); }
  void run() {
    operations_.matmul(std::span<const Projection>(pending_), x_);
    pending_.clear();
  }

 private:
  Operations& operations_;
  ActivationView x_;
  std::vector<Projection> pending_;
};

Error not_numbers(const std::string& after) {
  return Error(
      fmt::format("logits are not numbers after {}: weights are damaged, or were overwritten while "
                  "the model ran; get the file again",
                  after));
}

std::string before_stage(std::uint32_t stage) {
  if (stage == 0) return "the token embedding";
  return fmt::format("layer {} ({})", (stage - 1) / 2,
                     stage % 2 == 1 ? "attention" : "feed-forward");
}

// Without a branch for each, so that compilers take several at once.
bool all_finite(const float* values, std::size_t count) {
  constexpr std::size_t kTogether = 16;
  constexpr std::uint32_t kExponent = 0x7f800000;
  std::array<std::uint32_t, kTogether> hits{};
  const auto is_hit = [&](float value) -> std::uint32_t {
    return (std::bit_cast<std::uint32_t>(value) & kExponent) == kExponent ? 1 : 0;
  };
  std::size_t i = 0;
  for (; i + kTogether <= count; i += kTogether) {
    for (std::size_t k = 0; k < kTogether; ++k) hits[k] |= is_hit(values[i + k]);
  }
  for (; i < count; ++i) hits[0] |= is_hit(values[i]);
  return std::ranges::all_of(hits, [](std::uint32_t hit) { return hit == 0; });
}

Bytes bytes_of(const loaders::Step& step) {
  Bytes bytes{};
  for (const loaders::WeightSlice& slice : step.weights) bytes += slice.bytes.size;
  return bytes;
}

}  // namespace

/// Leases of steps whose work was queued, which end together.
class KeptLeases {
 public:
  explicit KeptLeases(Bytes most) : most_(most) {}
  ~KeptLeases() { release(); }
  KeptLeases(const KeptLeases&) = delete;
  KeptLeases& operator=(const KeptLeases&) = delete;

  bool empty() const { return leases_.empty(); }
  void keep(Lease lease, Bytes size) {
    leases_.push_back(std::move(lease));
    kept_ += size;
    if (kept_ > most_) release();
  }
  void release() noexcept {
    Lease::release(leases_);
    leases_.clear();
    kept_ = {};
  }

 private:
  const Bytes most_;
  Bytes kept_{};
  std::vector<Lease> leases_;
};

ForwardPass::ForwardPass(const PassResources& resources, const Activations& activations,
                         const std::string& name, std::optional<PassPlaces> places)
    : resources_(resources), activations_(activations), frequencies_(frequencies(resources.model)) {
  const PassSize& size = activations.size();
  const std::size_t steps = resources.graph.steps.size();
  if (places && (ubatches(size) != 1 || places->places.size() != steps || !places->host)) {
    throw std::invalid_argument("places are those of a pass of one ubatch, one for each step");
  }
  if (places) host_ = places->host;
  const loaders::Places where = places ? places->places : loaders::Places(steps);
  schedule_ = loaders::schedule(resources.graph, ubatches(size), where);
  AccessPlan plan = loaders::access_plan(
      resources.graph, {.ubatches = ubatches(size), .ubatch_tokens = size.ubatch}, where);
  if (places && places->prefetch_depth > 0) plan.prefetch_depth = places->prefetch_depth;
  plan.name = name;
  plan.work = size.tokens;
  plan.unit = "tokens";
  resources_.pager.set_plan(plan);
}

void ForwardPass::rehearse() {
  if (!resources_.operations.begin_rehearsal()) return;
  const Stretch all{.count = activations_.size().tokens};
  cut({&all, 1});
  resources_.operations.prepare_positions(frequencies_, positions_of({&all, 1}));
  stand_in_ = activations_.memory().data();
  std::set<std::vector<std::uint64_t>> seen;
  for (const loaders::Step& step : resources_.graph.steps) {
    std::vector<std::uint64_t> kind{static_cast<std::uint64_t>(step.op), step.first_slice,
                                    step.last_slice};
    bool readable = true;
    for (const loaders::WeightSlice& slice : step.weights) {
      const loaders::TensorInfo& tensor = resources_.model.gguf.tensors()[slice.tensor];
      kind.insert(kind.end(), {static_cast<std::uint64_t>(slice.role), tensor.ne[0], slice.rows,
                               static_cast<std::uint64_t>(tensor.type)});
      readable = readable && slice.bytes.size <= activations_.memory().size();
    }
    if (readable && seen.insert(std::move(kind)).second) run_on_nothing(step);
  }
  stand_in_ = nullptr;
  resources_.operations.end_rehearsal();
}

// With the first ubatch, and the last if it is a shorter one.
void ForwardPass::run_on_nothing(const loaders::Step& step) {
  NoLogits nowhere;
  const Ubatch& first = ubatches_.front();
  const Ubatch& last = ubatches_.back();
  run_step(step, first, nowhere);
  if (last.count != first.count) run_step(step, last, nowhere);
}

void ForwardPass::run(std::span<const loaders::TokenId> tokens, std::span<const Stretch> stretches,
                      LogitsSink& sink, const PassProgress& progress) {
  if (tokens.size() != activations_.size().tokens || tokens.size() != tokens_of(stretches)) {
    throw std::invalid_argument("a forward pass was given another number of tokens than planned");
  }
  cut(stretches);
  resources_.operations.begin_watch();
  // The embedding last: it ends with a kernel. Where a copy from the host is the last thing in the
  // stream before it waits for pages, it was held up until all queued copies of pages had ended.
  resources_.operations.prepare_positions(frequencies_, positions_of(stretches));
  gather_embeddings(tokens);
  KeptLeases kept(most_kept_);
  for (std::size_t i = 0; i < schedule_.size(); ++i) {
    const loaders::PlacedStep& placed = schedule_[i];
    const loaders::Step& step = resources_.graph.steps[placed.step];
    if (placed.place == loaders::Place::cpu) {
      run_on_host(step);
    } else {
      Lease lease = acquire(placed, kept);
      run_step(step, ubatches_[placed.ubatch], sink);
      kept.keep(std::move(lease), bytes_of(step));
    }
    require_numbers();
    if (progress) progress(i + 1, schedule_.size());
  }
  kept.release();
  // The host has waited for the logits: what they were made of is here, or has failed.
  resources_.pager.check(resources_.operations.stream());
}

// Whoever made the arena smaller meanwhile may have left no room beside what is kept.
Lease ForwardPass::acquire(const loaders::PlacedStep& placed, KeptLeases& kept) {
  const auto ask = [&] {
    return resources_.pager.acquire(*placed.plan_step, {}, resources_.operations.stream());
  };
  if (kept.empty()) return ask();
  try {
    return ask();
  } catch (const BudgetError&) {
    kept.release();
    return ask();
  }
}

// Rows go to the device as they lie in the file, in pieces, so that one is read while another is
// copied.
void ForwardPass::gather_embeddings(std::span<const loaders::TokenId> tokens) {
  constexpr std::size_t kPiece = 1024;
  const EmbeddingTable table(resources_.model.gguf, resources_.graph.token_embedding,
                             resources_.store);
  table.require_tokens(tokens);
  const std::span<std::byte> raw = activations_.scratch();
  const std::size_t piece =
      std::clamp<std::size_t>(raw.size() / table.row_bytes().count, 1, kPiece);
  for (std::size_t first = 0; first < tokens.size(); first += piece) {
    const auto part = tokens.subspan(first, std::min(piece, tokens.size() - first));
    resources_.operations.embed(
        table.type(), [&](std::span<std::byte> rows) { table.gather(part, rows); }, raw.data(),
        activations_.residual(first, part.size()));
  }
}

// Into ubatches, and at the ends of stretches.
void ForwardPass::cut(std::span<const Stretch> stretches) {
  const PassSize& size = activations_.size();
  ubatches_.clear();
  for (std::size_t first = 0; first < size.tokens; first += size.ubatch) {
    Ubatch ubatch{first, std::min<std::size_t>(size.ubatch, size.tokens - first)};
    std::size_t begin = 0;  // of the stretch, in the pass
    for (const Stretch& stretch : stretches) {
      const std::size_t from = std::max(begin, first);
      const std::size_t to = std::min(begin + stretch.count, first + ubatch.count);
      if (from < to) {
        ubatch.pieces.push_back(
            {from - first, to - from, stretch.place, stretch.past + from - begin});
      }
      begin += stretch.count;
    }
    ubatches_.push_back(std::move(ubatch));
  }
}

void ForwardPass::run_step(const loaders::Step& step, const Ubatch& ubatch, LogitsSink& sink) {
  switch (step.op) {
    case Op::attention_input:
      return attention_input(step, ubatch);
    case Op::attention_output:
      return attention_output(step, ubatch);
    case Op::ffn_gate_up:
      return ffn_gate_up(step, ubatch);
    case Op::ffn_down:
      return ffn_down(step, ubatch);
    case Op::output:
      return output(step, sink);
    default:
      throw Error(fmt::format("operation {} is not supported yet", loaders::to_string(step.op)));
  }
}

// The lease of the step before has ended: once the device is done with it, its frames take pages of
// steps to come, which are copied while the processors compute.
void ForwardPass::run_on_host(const loaders::Step& step) {
  const kernels::MatrixView residual = activations_.residual(0, activations_.size().tokens);
  if (step.op == Op::ffn_gate_up && step.first_slice) {
    lent_ = residual;
    lent_.data = resources_.operations.lend(residual).data();
    require_numbers();
  }
  if (!host_->run(step, lent_)) throw not_numbers(before_stage(before_feed_forward(step)));
  if (step.op == Op::ffn_down && step.last_slice) resources_.operations.take_back(residual);
}

void ForwardPass::attention_input(const loaders::Step& step, const Ubatch& ubatch) {
  const ActivationView h = activations_.normed(ubatch.count);
  if (step.first_slice) {
    norm(step, WeightRole::attn_norm, activations_.residual(ubatch.first, ubatch.count), h,
         before_attention(step));
  }
  const std::size_t head_dim = resources_.model.config.key_length;
  const std::size_t width = layer(step).head_count * head_dim;
  const std::size_t kv_width = layer(step).head_count_kv * head_dim;
  Together<Operations::Projection> together(resources_.operations, h);
  // A slice may begin and end in any of q, k and v.
  const auto project = [&](WeightRole weight, WeightRole role, const kernels::MatrixView& y) {
    const loaders::WeightSlice* slice = step.find(weight);
    if (slice == nullptr) return;
    const bool alone = is_converted(step, role);
    if (alone) together.run();
    together.add({weights(*slice), columns(y, *slice), bias(step, role)});
    if (alone) together.run();
  };
  project(WeightRole::q, WeightRole::q_bias, activations_.queries(ubatch.count, width));
  project(WeightRole::k, WeightRole::k_bias, activations_.keys(ubatch.count, kv_width));
  project(WeightRole::v, WeightRole::v_bias, activations_.values(ubatch.count, kv_width));
  together.run();
  if (step.last_slice) finish_heads(step, ubatch);
}

void ForwardPass::finish_heads(const loaders::Step& step, const Ubatch& ubatch) {
  const loaders::LayerConfig& sizes = layer(step);
  const std::size_t head_dim = resources_.model.config.key_length;
  const std::size_t kv_width = sizes.head_count_kv * head_dim;
  const kernels::MatrixView q = activations_.queries(ubatch.count, sizes.head_count * head_dim);
  const kernels::MatrixView k = activations_.keys(ubatch.count, kv_width);
  if (loaders::traits(resources_.model.config.architecture).qk_norm) {
    norm_heads(step, WeightRole::q_norm, q);
    norm_heads(step, WeightRole::k_norm, k);
  }
  std::vector<Operations::CachePlace> places;
  for (const Piece& piece : ubatch.pieces) {
    places.push_back(
        {piece.row, piece.count, resources_.cache.view(piece.place, step.layer), piece.position});
  }
  resources_.operations.rotate_and_store(q, sizes.head_count, k,
                                         activations_.values(ubatch.count, kv_width),
                                         sizes.head_count_kv, ubatch.first, places);
}

void ForwardPass::attend(const loaders::Step& step, const Ubatch& ubatch) {
  const loaders::LayerConfig& sizes = layer(step);
  const std::size_t head_dim = resources_.model.config.key_length;
  const std::size_t width = sizes.head_count * head_dim;
  for (const Piece& piece : ubatch.pieces) {
    const kernels::AttentionShape shape{.tokens = piece.count,
                                        .heads = sizes.head_count,
                                        .kv_heads = sizes.head_count_kv,
                                        .head_dim = head_dim,
                                        .past = piece.position,
                                        .scale = 1.0F / std::sqrt(static_cast<float>(head_dim))};
    resources_.operations.attention(shape, activations_.queries(ubatch.count, width), piece.row,
                                    resources_.cache.view(piece.place, step.layer),
                                    activations_.attended(ubatch.count, width));
  }
}

void ForwardPass::attention_output(const loaders::Step& step, const Ubatch& ubatch) {
  const loaders::LayerConfig& sizes = layer(step);
  const std::size_t head_dim = resources_.model.config.key_length;
  const ActivationView a = activations_.attended(ubatch.count, sizes.head_count * head_dim);
  if (step.first_slice) attend(step, ubatch);
  const loaders::WeightSlice& slice = find(step, WeightRole::attn_output);
  const kernels::MatrixView x = activations_.residual(ubatch.first, ubatch.count);
  resources_.operations.matmul(
      weights(slice), a, columns(x, slice),
      {.bias = bias(step, WeightRole::attn_output_bias), .accumulate = true});
}

void ForwardPass::ffn_gate_up(const loaders::Step& step, const Ubatch& ubatch) {
  const ActivationView h = activations_.normed(ubatch.count);
  if (step.first_slice) {
    norm(step, WeightRole::ffn_norm, activations_.residual(ubatch.first, ubatch.count), h,
         before_feed_forward(step));
  }
  const std::size_t width = layer(step).feed_forward_length;
  const loaders::WeightSlice& gate = find(step, WeightRole::gate);
  const loaders::WeightSlice& up = find(step, WeightRole::up);
  const ActivationView g = activations_.gate(ubatch.count, width);
  const ActivationView u = activations_.up(ubatch.count, width);
  Together<Operations::GatedProjection> together(resources_.operations, h);
  together.add({weights(gate), g, gate.first_row, bias(step, WeightRole::gate_bias)});
  if (is_converted(step, WeightRole::gate_bias) || is_converted(step, WeightRole::up_bias)) {
    together.run();
  }
  together.add({weights(up), u, up.first_row, bias(step, WeightRole::up_bias)});
  together.run();
  if (step.last_slice) resources_.operations.swiglu(g, u, g);
}

void ForwardPass::ffn_down(const loaders::Step& step, const Ubatch& ubatch) {
  const loaders::WeightSlice& slice = find(step, WeightRole::down);
  const ActivationView f = activations_.gate(ubatch.count, layer(step).feed_forward_length);
  const kernels::MatrixView x = activations_.residual(ubatch.first, ubatch.count);
  resources_.operations.matmul(
      weights(slice), f, columns(x, slice),
      {.bias = bias(step, WeightRole::down_bias), .accumulate = true, .any_range = true});
}

void ForwardPass::output(const loaders::Step& step, LogitsSink& sink) {
  const PassSize& size = activations_.size();
  const std::size_t first_wanted = size.tokens - size.wanted;
  // The residual stream ends here, so the normed one can take its place.
  const kernels::MatrixView h = activations_.residual(first_wanted, size.wanted);
  if (step.first_slice) norm(step, WeightRole::output_norm, h, h, before_attention(step));
  const loaders::WeightSlice& slice = find(step, WeightRole::output);
  if (size.wanted == 1) return last_logits(step, slice, h, sink);
  const std::size_t piece = activations_.logit_rows(slice.rows);
  for (std::size_t first = 0; first < size.wanted; first += piece) {
    const std::size_t count = std::min<std::size_t>(piece, size.wanted - first);
    const ActivationView x = activations_.normed(count);
    resources_.operations.convert(activations_.residual(first_wanted + first, count), x);
    const kernels::MatrixView logits = activations_.logits(count, slice.rows);
    resources_.operations.matmul(weights(slice), x, logits,
                                 {.bias = bias(step, WeightRole::output_bias)});
    hand_over(first, slice.first_row, logits, sink);
  }
}

// What rows of the output matrix beyond the vocabulary give is nobody's answer.
void ForwardPass::hand_over(std::size_t first, std::size_t first_token,
                            const kernels::MatrixView& logits, LogitsSink& sink) {
  const kernels::ConstMatrixView host = resources_.operations.download(logits);
  if (stand_in_ == nullptr) {
    require_numbers();
    const std::size_t vocabulary = resources_.model.vocabulary;
    const std::size_t tokens =
        std::min<std::size_t>(host.cols, vocabulary - std::min(vocabulary, first_token));
    for (std::size_t r = 0; r < host.rows; ++r) {
      if (!all_finite(host.row(r), tokens)) throw not_numbers("the output matrix");
    }
  }
  sink.take(first, first_token, host);
}

void ForwardPass::require_numbers() const {
  const std::optional<std::uint32_t> stage = resources_.operations.first_not_finite();
  if (stage) throw not_numbers(before_stage(*stage));
}

// Those of one token wait for each other on the device: the host, which would wait for each slice,
// acquires the next one meanwhile.
void ForwardPass::last_logits(const loaders::Step& step, const loaders::WeightSlice& slice,
                              const kernels::MatrixView& h, LogitsSink& sink) {
  const ActivationView x = activations_.normed(1);
  const kernels::MatrixView logits = activations_.logits(1, resources_.model.config.vocab_size);
  if (step.first_slice) resources_.operations.convert(h, x);
  resources_.operations.matmul(weights(slice), x, columns(logits, slice),
                               {.bias = bias(step, WeightRole::output_bias)});
  if (step.last_slice) hand_over(0, 0, logits, sink);
}

const float* ForwardPass::bias(const loaders::Step& step, WeightRole role) {
  const loaders::WeightSlice* slice = step.find(role);
  return slice == nullptr ? nullptr : vector(*slice);
}

// Whether vector() puts it where the next one that has to be converted will be.
bool ForwardPass::is_converted(const loaders::Step& step, WeightRole role) const {
  const loaders::WeightSlice* slice = step.find(role);
  if (slice == nullptr) return false;
  const loaders::TensorInfo& tensor = resources_.model.gguf.tensors()[slice->tensor];
  return weight_type(resources_.model.gguf, tensor) != kernels::WeightType::f32;
}

template <class Out>
void ForwardPass::norm(const loaders::Step& step, WeightRole role, const kernels::MatrixView& x,
                       const Out& out, std::optional<std::uint32_t> stage) {
  resources_.operations.rms_norm(x, vector(find(step, role)),
                                 {.epsilon = resources_.model.config.rms_epsilon, .stage = stage},
                                 out);
}

void ForwardPass::norm_heads(const loaders::Step& step, WeightRole role,
                             const kernels::MatrixView& x) {
  const std::size_t head_dim = resources_.model.config.key_length;
  const kernels::MatrixView heads{x.data, x.rows * (x.cols / head_dim), head_dim, head_dim};
  norm(step, role, heads, heads);
}

kernels::Weights ForwardPass::weights(const loaders::WeightSlice& slice) const {
  const loaders::TensorInfo& tensor = resources_.model.gguf.tensors()[slice.tensor];
  return {weight_type(resources_.model.gguf, tensor), data(slice), slice.rows, tensor.ne[0],
          resources_.model.factors.of(slice.tensor)};
}

const std::byte* ForwardPass::data(const loaders::WeightSlice& slice) const {
  return stand_in_ != nullptr ? stand_in_ : resources_.pager.address(slice.bytes.offset);
}

// A vector as float32. Nearly all files store them so; of the others, one is converted at a time.
const float* ForwardPass::vector(const loaders::WeightSlice& slice) {
  const loaders::TensorInfo& tensor = resources_.model.gguf.tensors()[slice.tensor];
  const kernels::WeightType type = weight_type(resources_.model.gguf, tensor);
  if (type == kernels::WeightType::f32) return reinterpret_cast<const float*>(data(slice));
  resources_.operations.dequantize(type, data(slice), activations_.vector(), slice.rows);
  return activations_.vector();
}

const loaders::WeightSlice& ForwardPass::find(const loaders::Step& step, WeightRole role) const {
  const loaders::WeightSlice* slice = step.find(role);
  if (slice != nullptr) return *slice;
  throw std::logic_error(
      fmt::format("a step of {} has no {}", loaders::to_string(step.op), loaders::to_string(role)));
}

const loaders::LayerConfig& ForwardPass::layer(const loaders::Step& step) const {
  return resources_.model.config.layers.at(step.layer);
}

}  // namespace tensor_pager::qwen
