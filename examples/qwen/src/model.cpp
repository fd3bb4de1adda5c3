#include "qwen/model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/attention.hpp"
#include "loaders/graph.hpp"
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

void require_dense(const loaders::ModelConfig& config) {
  const loaders::ArchitectureTraits& architecture = loaders::traits(config.architecture);
  if (!architecture.experts) return;
  throw Error(
      fmt::format("architecture {} is not supported yet: it has experts; use a qwen2 or qwen3 "
                  "model",
                  architecture.name));
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

}  // namespace

kernels::WeightType weight_type(const loaders::GgufModel& gguf, const loaders::TensorInfo& tensor) {
  const auto type = kernels::weight_type(static_cast<std::uint32_t>(tensor.type));
  if (type) return *type;
  throw gguf.error(tensor, fmt::format("has type {}, for which there is no kernel; convert the "
                                       "model to another type",
                                       loaders::to_string(tensor.type)));
}

Model open_model(const std::filesystem::path& path) {
  Model model{.gguf = loaders::GgufModel::open(path), .config = {}, .factors = {}, .tokenizer = {}};
  model.config = loaders::read_model_config(model.gguf);
  require_dense(model.config);
  require_attention_shape(model.gguf, model.config);
  require_kernels(model.gguf, loaders::build_graph(model.gguf));
  model.factors = ProductFactors(model.gguf);
  if (const auto vocabulary = loaders::read_vocabulary(model.gguf.metadata())) {
    model.tokenizer.emplace(*vocabulary);
  }
  return model;
}

std::string display_name(const Model& model) {
  const std::string& name = model.config.name;
  return name.empty() ? model.gguf.files().front().path.filename().string() : name;
}

std::string file_type(const loaders::GgufModel& model) {
  const auto number = model.metadata().get_optional<std::uint32_t>("general.file_type");
  if (!number) return most_common_type(model);
  const auto* const found =
      std::ranges::find(kFileTypes, *number, &std::pair<std::uint32_t, std::string_view>::first);
  return found == kFileTypes.end() ? fmt::format("{}", *number) : std::string(found->second);
}

}  // namespace tensor_pager::qwen
