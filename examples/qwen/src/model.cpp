// SPDX-License-Identifier: Apache-2.0
#include "qwen/model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/attention.hpp"
#include "kernels/dequantize.hpp"
#include "loaders/end_of_generation.hpp"
#include "loaders/graph.hpp"
#include "loaders/printable.hpp"
#include "pager/mapped_file_store.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

// general.file_type of the GGUF specification: what most matrices of a file are stored as.
constexpr std::array<std::pair<std::uint32_t, std::string_view>, 34> kFileTypes = {
    {{0, "F32"},      {1, "F16"},      {2, "Q4_0"},    {3, "Q4_1"},    {7, "Q8_0"},
     {8, "Q5_0"},     {9, "Q5_1"},     {10, "Q2_K"},   {11, "Q3_K_S"}, {12, "Q3_K_M"},
     {13, "Q3_K_L"},  {14, "Q4_K_S"},  {15, "Q4_K_M"}, {16, "Q5_K_S"}, {17, "Q5_K_M"},
     {18, "Q6_K"},    {19, "IQ2_XXS"}, {20, "IQ2_XS"}, {21, "Q2_K_S"}, {22, "IQ3_XS"},
     {23, "IQ3_XXS"}, {24, "IQ1_S"},   {25, "IQ4_NL"}, {26, "IQ3_S"},  {27, "IQ3_M"},
     {28, "IQ2_S"},   {29, "IQ2_M"},   {30, "IQ4_XS"}, {31, "IQ1_M"},  {32, "BF16"},
     {36, "TQ1_0"},   {37, "TQ2_0"},   {38, "MXFP4"},  {39, "NVFP4"}}};

constexpr std::uint32_t kLargestHead = 256;
constexpr std::uint32_t kHeadGranularity = 8;

// The type of which there are most bytes.
std::string most_common_type(const loaders::GgufModel& model) {
  std::map<loaders::TensorType, Bytes> bytes;
  for (const loaders::TensorInfo& tensor : model.tensors()) {
    bytes[tensor.type] += tensor.bytes.size;
  }
  const auto most =
      std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; });
  return most == bytes.end() ? "unknown" : std::string(to_string(most->first));
}

void require_dense(const loaders::GgufModel& gguf, const loaders::ModelConfig& config) {
  loaders::require_dense(loaders::traits(config.architecture), [&](const std::string& problem) {
    return gguf.metadata().error("general.architecture", problem);
  });
}

// What kernels::cpu::attention asks of its shapes.
void require_attention_shape(const loaders::GgufModel& gguf, const loaders::ModelConfig& config) {
  const std::string prefix(loaders::to_string(config.architecture));
  if (config.key_length != config.value_length) {
    throw gguf.metadata().error(
        prefix + ".attention.value_length",
        fmt::format("{} differs from key_length {}, which is not supported; use another model",
                    config.value_length, config.key_length));
  }
  if (config.key_length % kHeadGranularity != 0 || config.key_length > kLargestHead) {
    throw gguf.metadata().error(
        prefix + ".attention.key_length",
        fmt::format("heads of {} elements are not supported: they must be a multiple of {}, at "
                    "most {}",
                    config.key_length, kHeadGranularity, kLargestHead));
  }
}

void require_kernels(const loaders::GgufModel& gguf, const loaders::Graph& graph) {
  weight_type(gguf, gguf.tensors()[graph.token_embedding]);
  for (const loaders::Step& step : graph.steps) {
    for (const loaders::WeightSlice& slice : step.weights) {
      weight_type(gguf, gguf.tensors()[slice.tensor]);
    }
  }
}

// What stands in the way of text is kept, and not thrown: a model can be run on token ids.
void read_tokens(Model& model) {
  model.vocabulary = model.config.vocab_size;
  try {
    const auto vocabulary = loaders::read_vocabulary(model.gguf.metadata());
    if (!vocabulary) {
      model.no_tokenizer =
          fmt::format("{}: the model has no vocabulary, so it takes no text; give token ids",
                      model.gguf.files().front().path.string());
      return;
    }
    model.vocabulary = vocabulary->tokens.size();
    model.ends = loaders::end_of_generation(*vocabulary);
    model.tokenizer.emplace(*vocabulary);
  } catch (const loaders::TokenizerError& error) {
    model.no_tokenizer = error.what();
  } catch (const loaders::GgufError& error) {
    model.no_tokenizer = error.what();
  }
}

// Factors are read here, once, since a wrong one is the file's fault.
std::vector<float> read_rope_factors(const loaders::GgufModel& gguf, std::uint32_t index) {
  const loaders::TensorInfo& tensor = gguf.tensors()[index];
  std::vector<std::byte> bytes(tensor.bytes.size.count);
  MappedFileStore(gguf.paths()).read(tensor.bytes.offset, bytes);
  std::vector<float> factors(tensor.ne[0]);
  kernels::cpu::dequantize(weight_type(gguf, tensor), bytes.data(), factors.data(), factors.size());
  for (std::size_t i = 0; i < factors.size(); ++i) {
    if (std::isfinite(factors[i]) && factors[i] > 0) continue;
    throw gguf.error(tensor, fmt::format("element {} is {}, but must be a positive number; convert "
                                         "the model again",
                                         i, factors[i]));
  }
  return factors;
}

// Rows without a token are padding; a token without a row could not be read.
void require_rows_for_tokens(const Model& model, const loaders::Graph& graph) {
  if (model.vocabulary <= model.config.vocab_size) return;
  throw model.gguf.error(model.gguf.tensors()[graph.token_embedding],
                         fmt::format("has {} rows for the {} tokens of the vocabulary; convert the "
                                     "model again",
                                     model.config.vocab_size, model.vocabulary));
}

void stretch_positions(loaders::ModelConfig& config, const loaders::RopeOverrides& rope) {
  loaders::override_rope(config, rope);
  const loaders::RopeScaling& scaling = config.rope_scaling;
  const bool nothing = scaling.kind != loaders::RopeScalingKind::none && scaling.factor == 1;
  if (!rope.scaling || !nothing || rope.factor) return;
  throw Error(
      "--rope-scaling without a factor changes nothing, and the model has none; give --rope-scale");
}

loaders::Graph read_shape(Model& model) {
  model.config = loaders::read_model_config(model.gguf);
  require_dense(model.gguf, model.config);
  require_attention_shape(model.gguf, model.config);
  loaders::Graph graph = loaders::build_graph(model.gguf);
  require_kernels(model.gguf, graph);
  return graph;
}

void complete(Model& model, const loaders::Graph& graph, const loaders::RopeOverrides& rope) {
  stretch_positions(model.config, rope);
  read_tokens(model);
  require_rows_for_tokens(model, graph);
}

}  // namespace

kernels::WeightType weight_type(const loaders::GgufModel& gguf, const loaders::TensorInfo& tensor) {
  const auto type = kernels::weight_type(static_cast<std::uint32_t>(tensor.type));
  if (type) return *type;
  throw gguf.error(tensor, fmt::format("has type {}, for which there is no kernel; convert the "
                                       "model to another type",
                                       loaders::to_string(tensor.type)));
}

Model open_model(const std::filesystem::path& path, const loaders::RopeOverrides& rope) {
  Model model{.gguf = loaders::GgufModel::open(path), .config = {}};
  const loaders::Graph graph = read_shape(model);
  model.factors = ProductFactors(model.gguf, graph);
  if (graph.rope_factors) model.rope_factors = read_rope_factors(model.gguf, *graph.rope_factors);
  complete(model, graph, rope);
  return model;
}

Model outline_model(loaders::GgufModel outline, const loaders::RopeOverrides& rope) {
  Model model{.gguf = std::move(outline), .config = {}};
  const loaders::Graph graph = read_shape(model);
  complete(model, graph, rope);
  return model;
}

std::string display_name(const Model& model) {
  const std::string& name = model.config.name;
  return loaders::printable(name.empty() ? model.gguf.files().front().path.filename().string()
                                         : name);
}

std::string file_type(const loaders::GgufModel& model) {
  const auto number = model.metadata().get_optional<std::uint32_t>("general.file_type");
  if (!number) return most_common_type(model);
  const auto* const found =
      std::ranges::find(kFileTypes, *number, &std::pair<std::uint32_t, std::string_view>::first);
  return found == kFileTypes.end() ? fmt::format("{}", *number) : std::string(found->second);
}

}  // namespace tensor_pager::qwen
