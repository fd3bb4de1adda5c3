// SPDX-License-Identifier: Apache-2.0
#include "kernels/weight_type.hpp"

#include <array>
#include <string>

#include "kernels/error.hpp"

namespace tensor_pager::kernels {
namespace {

struct Description {
  WeightType type;
  std::string_view name;
  std::size_t block_elements;
  std::size_t block_bytes;
};

constexpr std::array kDescriptions{
    Description{WeightType::f32, "F32", 1, 4},
    Description{WeightType::f16, "F16", 1, 2},
    Description{WeightType::q4_0, "Q4_0", 32, 18},
    Description{WeightType::q4_1, "Q4_1", 32, 20},
    Description{WeightType::q5_0, "Q5_0", 32, 22},
    Description{WeightType::q5_1, "Q5_1", 32, 24},
    Description{WeightType::q8_0, "Q8_0", 32, 34},
    Description{WeightType::q2_k, "Q2_K", 256, 84},
    Description{WeightType::q3_k, "Q3_K", 256, 110},
    Description{WeightType::q4_k, "Q4_K", 256, 144},
    Description{WeightType::q5_k, "Q5_K", 256, 176},
    Description{WeightType::q6_k, "Q6_K", 256, 210},
    Description{WeightType::iq2_xxs, "IQ2_XXS", 256, 66},
    Description{WeightType::iq2_xs, "IQ2_XS", 256, 74},
    Description{WeightType::iq3_xxs, "IQ3_XXS", 256, 98},
    Description{WeightType::iq1_s, "IQ1_S", 256, 50},
    Description{WeightType::iq4_nl, "IQ4_NL", 32, 18},
    Description{WeightType::iq3_s, "IQ3_S", 256, 110},
    Description{WeightType::iq2_s, "IQ2_S", 256, 82},
    Description{WeightType::iq4_xs, "IQ4_XS", 256, 136},
    Description{WeightType::iq1_m, "IQ1_M", 256, 56},
    Description{WeightType::bf16, "BF16", 1, 2},
    Description{WeightType::tq1_0, "TQ1_0", 256, 54},
    Description{WeightType::tq2_0, "TQ2_0", 256, 66},
    Description{WeightType::mxfp4, "MXFP4", 32, 17},
    Description{WeightType::nvfp4, "NVFP4", 64, 36},
};

constexpr auto kTypes = [] {
  std::array<WeightType, kDescriptions.size()> types{};
  for (std::size_t i = 0; i < types.size(); ++i) types[i] = kDescriptions[i].type;
  return types;
}();

const Description* find(std::uint32_t number) {
  for (const Description& description : kDescriptions) {
    if (static_cast<std::uint32_t>(description.type) == number) return &description;
  }
  return nullptr;
}

const Description& describe(WeightType type) {
  const auto number = static_cast<std::uint32_t>(type);
  if (const Description* description = find(number)) return *description;
  throw Error("weight type " + std::to_string(number) + " has no kernels");
}

}  // namespace

std::span<const WeightType> all_weight_types() {
  return kTypes;
}

std::optional<WeightType> weight_type(std::uint32_t gguf_type) {
  const Description* description = find(gguf_type);
  return description ? std::optional(description->type) : std::nullopt;
}

std::string_view name(WeightType type) {
  return describe(type).name;
}

std::size_t block_elements(WeightType type) {
  return describe(type).block_elements;
}

std::size_t block_bytes(WeightType type) {
  return describe(type).block_bytes;
}

std::uint64_t row_bytes(WeightType type, std::uint64_t elements) {
  const Description& description = describe(type);
  if (elements % description.block_elements != 0) {
    throw Error("a row of " + std::to_string(elements) + " elements does not fill whole " +
                std::string(description.name) + " blocks of " +
                std::to_string(description.block_elements) + " elements");
  }
  return elements / description.block_elements * description.block_bytes;
}

}  // namespace tensor_pager::kernels
