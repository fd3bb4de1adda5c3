// SPDX-License-Identifier: Apache-2.0
#include "model_design.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "vocabulary.hpp"

namespace tensor_pager::make_gguf {
namespace {

using loaders::TensorType;

// llama is here for tests of what happens with an architecture that is not supported.
constexpr ArchitectureSpec kArchitectures[] = {
    {"qwen2", true, false, false, false, 1e6f, false},
    {"qwen3", false, true, false, false, 1e6f, false},
    {"qwen2moe", true, false, true, true, 1e6f, false},
    {"qwen3moe", false, true, true, false, 1e6f, false},
    {"llama", false, false, false, false, 1e4f, true},
};

constexpr TypeSpec uniform(std::string_view name, TensorType type) {
  return {name, type, type};
}

constexpr TypeSpec kTypes[] = {
    uniform("f32", TensorType::f32),
    uniform("f16", TensorType::f16),
    uniform("bf16", TensorType::bf16),
    uniform("q4_0", TensorType::q4_0),
    uniform("q4_1", TensorType::q4_1),
    uniform("q5_0", TensorType::q5_0),
    uniform("q5_1", TensorType::q5_1),
    uniform("q8_0", TensorType::q8_0),
    uniform("q2_k", TensorType::q2_k),
    uniform("q3_k", TensorType::q3_k),
    uniform("q4_k", TensorType::q4_k),
    uniform("q5_k", TensorType::q5_k),
    uniform("q6_k", TensorType::q6_k),
    uniform("iq4_nl", TensorType::iq4_nl),
    uniform("iq4_xs", TensorType::iq4_xs),
    uniform("iq2_xxs", TensorType::iq2_xxs),
    uniform("iq2_xs", TensorType::iq2_xs),
    uniform("iq2_s", TensorType::iq2_s),
    uniform("iq3_xxs", TensorType::iq3_xxs),
    uniform("iq3_s", TensorType::iq3_s),
    uniform("iq1_s", TensorType::iq1_s),
    uniform("iq1_m", TensorType::iq1_m),
    uniform("tq1_0", TensorType::tq1_0),
    uniform("tq2_0", TensorType::tq2_0),
    uniform("mxfp4", TensorType::mxfp4),
    uniform("nvfp4", TensorType::nvfp4),
    {"q4_k_m", TensorType::q4_k, TensorType::q6_k},
    {"q5_k_m", TensorType::q5_k, TensorType::q6_k},
    {"iq2_m", TensorType::iq2_s, TensorType::iq3_s},
    {"iq3_m", TensorType::iq3_xxs, TensorType::iq4_xs},
};

constexpr ModelSizes kPresets[] = {
    {"tiny", 3, 256, 512, 4, 2, 64, 512, 8, 2, 256},
    {"0.5b", 24, 896, 4864, 14, 2, 64, 151936, 0, 0, 0, true},
    {"1.5b", 28, 1536, 8960, 12, 2, 128, 151936, 0, 0, 0, true},
    {"3b", 36, 2048, 11008, 16, 2, 128, 151936, 0, 0, 0, true},
    {"7b", 28, 3584, 18944, 28, 4, 128, 152064},
    {"14b", 48, 5120, 13824, 40, 8, 128, 152064},
    {"32b", 64, 5120, 27648, 40, 8, 128, 152064},
    {"72b", 80, 8192, 29568, 64, 8, 128, 152064},
    {"30b-a3b", 48, 2048, 6144, 32, 4, 128, 151936, 128, 8, 768},
};
constexpr std::uint32_t kMaxPieces = 65535;           // split.count has 16 bits
constexpr std::uint32_t kTinyQkNormHeadLength = 128;  // so that head_dim is not embedding / heads
constexpr std::uint32_t kTinySharedFeedForward = 512;

template <class Spec>
const Spec& find(std::span<const Spec> specs, std::string_view what, std::string_view name) {
  const auto found = std::ranges::find(specs, name, &Spec::name);
  if (found != specs.end()) return *found;
  std::string known;
  for (const Spec& spec : specs) known += fmt::format("{}{}", known.empty() ? "" : ", ", spec.name);
  throw RandomModelError(fmt::format("unknown {} \"{}\"; these are known: {}", what, name, known));
}

template <class Spec>
std::vector<std::string> names(std::span<const Spec> specs) {
  std::vector<std::string> out;
  for (const Spec& spec : specs) out.emplace_back(spec.name);
  return out;
}

bool suit(const ModelSizes& sizes, const ArchitectureSpec& architecture) {
  return architecture.qk_norm || sizes.heads * sizes.head_length == sizes.embedding;
}

void check(const ModelDesign& design, const RandomModelOptions& options) {
  const ArchitectureSpec& architecture = design.architecture;
  const ModelSizes& sizes = design.sizes;
  if (architecture.experts && sizes.experts == 0) {
    throw RandomModelError(
        fmt::format("preset {} has no experts, which {} needs; use tiny or "
                    "30b-a3b",
                    sizes.name, architecture.name));
  }
  if (architecture.shared_expert && design.shared_feed_forward == 0) {
    throw RandomModelError(fmt::format("preset {} has no shared expert, which {} needs; use tiny",
                                       sizes.name, architecture.name));
  }
  if (!suit(sizes, architecture)) {
    throw RandomModelError(fmt::format("heads of preset {} do not suit {}; use qwen3 or qwen3moe",
                                       sizes.name, architecture.name));
  }
  if (options.pieces == 0 || options.pieces > kMaxPieces) {
    throw RandomModelError(fmt::format("cannot split a model into {} files; give 1 to {}",
                                       options.pieces, kMaxPieces));
  }
}

// Rows that are no whole blocks of 256 get what llama-quantize gives them instead: Qwen2.5-0.5B's
// have 896 elements.
TensorType type_for(TensorType type, std::uint64_t row) {
  if (row % loaders::traits(type).block_elements == 0) return type;
  switch (type) {
    case TensorType::q2_k:
    case TensorType::q3_k:
    case TensorType::iq1_s:
    case TensorType::iq1_m:
    case TensorType::iq2_xxs:
    case TensorType::iq2_xs:
    case TensorType::iq2_s:
    case TensorType::iq3_xxs:
    case TensorType::iq3_s:
    case TensorType::iq4_xs:
      return TensorType::iq4_nl;
    case TensorType::tq1_0:
    case TensorType::tq2_0:
      return TensorType::q4_0;
    case TensorType::q4_k:
      return TensorType::q5_0;
    case TensorType::q5_k:
      return TensorType::q5_1;
    case TensorType::q6_k:
      return TensorType::q8_0;
    default:
      return type;
  }
}

// Lists the tensors of a design in the order of the file.
class TensorList {
 public:
  explicit TensorList(const ModelDesign& design) : design_(design), sizes_(design.sizes) {}

  std::vector<RandomTensor> build() {
    const TensorType base = design_.type.base;
    const TensorType embedding = design_.tied ? design_.type.important : base;
    tensors_.push_back({"token_embd.weight",
                        {sizes_.embedding, sizes_.vocabulary},
                        type_for(embedding, sizes_.embedding),
                        0,
                        1});
    for (std::uint32_t layer = 0; layer < sizes_.layers; ++layer) {
      prefix_ = fmt::format("blk.{}.", layer);
      const TensorType important = is_important(layer) ? design_.type.important : base;
      add_attention(base, important);
      if (design_.architecture.experts) {
        add_experts(base, important);
      } else {
        add_feed_forward("", sizes_.feed_forward, base, important);
      }
    }
    prefix_.clear();
    norm("output_norm.weight", sizes_.embedding);
    if (!design_.tied) {
      matrix("output.weight", {sizes_.embedding, sizes_.vocabulary}, design_.type.important);
    }
    return std::move(tensors_);
  }

 private:
  // The first and the last eighth of the layers, and every third of those between them.
  bool is_important(std::uint32_t layer) const {
    const std::uint32_t eighth = sizes_.layers / 8;
    return layer < eighth || layer >= 7 * sizes_.layers / 8 || (layer - eighth) % 3 == 2;
  }

  void add_attention(TensorType base, TensorType important) {
    const std::uint64_t q = std::uint64_t{sizes_.heads} * sizes_.head_length;
    const std::uint64_t kv = std::uint64_t{sizes_.kv_heads} * sizes_.head_length;
    norm("attn_norm.weight", sizes_.embedding);
    projection("attn_q", q, base);
    projection("attn_k", kv, base);
    projection("attn_v", kv, important);
    matrix("attn_output.weight", {q, sizes_.embedding}, base);
    if (design_.architecture.qk_norm) {
      norm("attn_q_norm.weight", sizes_.head_length);
      norm("attn_k_norm.weight", sizes_.head_length);
    }
    norm("ffn_norm.weight", sizes_.embedding);
  }

  void add_feed_forward(std::string_view suffix, std::uint64_t width, TensorType base,
                        TensorType important) {
    matrix(fmt::format("ffn_gate{}.weight", suffix), {sizes_.embedding, width}, base);
    matrix(fmt::format("ffn_up{}.weight", suffix), {sizes_.embedding, width}, base);
    matrix(fmt::format("ffn_down{}.weight", suffix), {width, sizes_.embedding}, important);
  }

  void add_experts(TensorType base, TensorType important) {
    const std::uint64_t width = sizes_.expert_feed_forward;
    matrix("ffn_gate_inp.weight", {sizes_.embedding, sizes_.experts}, TensorType::f32);
    matrix("ffn_gate_exps.weight", {sizes_.embedding, width, sizes_.experts}, base);
    matrix("ffn_up_exps.weight", {sizes_.embedding, width, sizes_.experts}, base);
    matrix("ffn_down_exps.weight", {width, sizes_.embedding, sizes_.experts}, important);
    if (design_.shared_feed_forward == 0) return;
    vector("ffn_gate_inp_shexp.weight", sizes_.embedding, 0, deviation(sizes_.embedding));
    add_feed_forward("_shexp", design_.shared_feed_forward, base, base);
  }

  void projection(std::string_view name, std::uint64_t outputs, TensorType type) {
    matrix(fmt::format("{}.weight", name), {sizes_.embedding, outputs}, type);
    if (design_.architecture.bias) vector(fmt::format("{}.bias", name), outputs, 0, 0.3f);
  }
  void norm(std::string_view name, std::uint64_t length) { vector(name, length, 1, 0.1f); }

  void matrix(std::string_view name, std::vector<std::uint64_t> ne, TensorType type) {
    const float spread = deviation(ne.front());
    type = type_for(type, ne.front());
    if (type == TensorType::nvfp4) return scaled_matrix(name, std::move(ne), type, spread);
    tensors_.push_back({prefix_ + std::string(name), std::move(ne), type, 0, spread});
  }
  // With a scale of the whole matrix, or of each expert's, which brings the blocks' own into the
  // middle of their range.
  void scaled_matrix(std::string_view name, std::vector<std::uint64_t> ne, TensorType type,
                     float spread) {
    constexpr float kBlocks = 64;
    constexpr std::string_view kWeight = ".weight";
    const std::string base(name.substr(0, name.size() - kWeight.size()));
    const std::uint64_t scales = ne.size() > 2 ? ne[2] : 1;
    tensors_.push_back({prefix_ + std::string(name), std::move(ne), type, 0, kBlocks});
    const float scale = spread / kBlocks;
    vector(base + ".scale", scales, scale, scale / 10);
  }
  void vector(std::string_view name, std::uint64_t length, float mean, float spread) {
    tensors_.push_back({prefix_ + std::string(name), {length}, TensorType::f32, mean, spread});
  }
  static float deviation(std::uint64_t inputs) { return 1 / std::sqrt(static_cast<float>(inputs)); }

  const ModelDesign& design_;
  const ModelSizes& sizes_;
  std::string prefix_;
  std::vector<RandomTensor> tensors_;
};

void check_rows(const std::vector<RandomTensor>& tensors) {
  for (const RandomTensor& tensor : tensors) {
    const loaders::TensorTypeTraits& type = loaders::traits(tensor.type);
    if (tensor.ne.front() % type.block_elements == 0) continue;
    throw RandomModelError(fmt::format("{}: a row of {} elements does not fit {}'s blocks of {}",
                                       tensor.name, tensor.ne.front(), type.name,
                                       type.block_elements));
  }
}

}  // namespace

const ArchitectureSpec& find_architecture(std::string_view name) {
  return find<ArchitectureSpec>(kArchitectures, "architecture", name);
}

const TypeSpec& find_type(std::string_view name) {
  return find<TypeSpec>(kTypes, "type", name);
}

std::vector<std::string> architecture_names() {
  return names<ArchitectureSpec>(kArchitectures);
}

std::vector<std::string> type_names() {
  return names<TypeSpec>(kTypes);
}

std::vector<std::string> preset_names() {
  return names<ModelSizes>(kPresets);
}

std::vector<std::string> preset_names(const std::string& architecture) {
  const ArchitectureSpec& spec = find_architecture(architecture);
  std::vector<std::string> out;
  for (const ModelSizes& sizes : kPresets) {
    if (suit(sizes, spec)) out.emplace_back(sizes.name);
  }
  return out;
}

ModelDesign make_design(const RandomModelOptions& options) {
  ModelDesign design{.architecture = find_architecture(options.architecture),
                     .type = find_type(options.type),
                     .sizes = find<ModelSizes>(kPresets, "preset", options.preset),
                     .tied = options.tied};
  design.tied |= design.sizes.tied;
  if (!options.vocabulary.empty()) {
    design.vocabulary = make_vocabulary(options.vocabulary, design.sizes.vocabulary);
    design.sizes.vocabulary = static_cast<std::uint32_t>(design.vocabulary->tokens.size());
  }
  if (design.is_tiny() && design.architecture.qk_norm) {
    design.sizes.head_length = kTinyQkNormHeadLength;
  }
  if (design.is_tiny() && design.architecture.shared_expert) {
    design.shared_feed_forward = kTinySharedFeedForward;
  }
  if (options.layers > 0) design.sizes.layers = options.layers;
  design.name =
      fmt::format("random-{}-{}-{}", design.architecture.name, design.sizes.name, design.type.name);
  design.rope_freq_base = design.architecture.rope_freq_base;
  check(design, options);
  return design;
}

std::vector<RandomTensor> tensors_of(const ModelDesign& design) {
  std::vector<RandomTensor> tensors = TensorList(design).build();
  check_rows(tensors);
  return tensors;
}

void add_metadata(GgufHeader& header, const ModelDesign& design) {
  const ArchitectureSpec& architecture = design.architecture;
  const ModelSizes& sizes = design.sizes;
  const auto key = [&](std::string_view name) {
    return fmt::format("{}.{}", architecture.name, name);
  };
  header.add("general.architecture", architecture.name);
  header.add("general.name", design.name);
  header.add("general.quantization_version", std::uint32_t{2});
  header.add(key("block_count"), sizes.layers);
  header.add(key("context_length"), design.context);
  header.add(key("embedding_length"), sizes.embedding);
  header.add(key("feed_forward_length"), sizes.feed_forward);
  header.add(key("attention.head_count"), sizes.heads);
  header.add(key("attention.head_count_kv"), sizes.kv_heads);
  header.add(key("rope.freq_base"), design.rope_freq_base);
  header.add(key("attention.layer_norm_rms_epsilon"), design.rms_epsilon);
  header.add(key("vocab_size"), sizes.vocabulary);
  if (architecture.rope_dimension_count) header.add(key("rope.dimension_count"), sizes.head_length);
  if (architecture.qk_norm) {
    header.add(key("attention.key_length"), sizes.head_length);
    header.add(key("attention.value_length"), sizes.head_length);
  }
  if (architecture.experts) {
    header.add(key("expert_count"), sizes.experts);
    header.add(key("expert_used_count"), sizes.experts_used);
    header.add(key("expert_feed_forward_length"), sizes.expert_feed_forward);
  }
  if (design.shared_feed_forward > 0) {
    header.add(key("expert_shared_feed_forward_length"), design.shared_feed_forward);
  }
  if (design.vocabulary) {
    add_vocabulary(header, *design.vocabulary);
  } else {
    header.add("tokenizer.ggml.model", std::string_view("no_vocab"));
  }
}

Bytes padded_bytes(const RandomTensor& tensor) {
  return round_up(tensor_bytes(tensor.type, tensor.ne), kAlignment);
}

Bytes declare(GgufHeader& header, std::span<const RandomTensor> tensors) {
  Bytes offset;
  for (const RandomTensor& tensor : tensors) {
    header.declare({tensor.name, tensor.ne, static_cast<std::uint32_t>(tensor.type), offset.count});
    offset += padded_bytes(tensor);
  }
  return offset;
}

}  // namespace tensor_pager::make_gguf
