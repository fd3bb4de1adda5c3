// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "loaders/tokenizer.hpp"

namespace tensor_pager::qwen {

/// What no file may exceed where llama.cpp has not been measured.
inline constexpr double kNotMeasured = 0.005;

/// A random-weight model of tools/make_gguf and the distance of llama.cpp's logits from the exact
/// ones, which no file may exceed. (llama.cpp rounds activations to 8 bits; this executor does
/// not.) The exact ones are of a pass in float32 or float64 over the weights as llama.cpp or the
/// gguf package dequantise them, times the scales that NVFP4 files have beside them.
struct GoldenModel {
  std::string architecture;
  std::string type;
  double tolerance;
};

inline std::vector<GoldenModel> golden_models() {
  return {{"qwen2", "f32", 1e-3},
          {"qwen2", "f16", 0.0004},
          {"qwen2", "bf16", 0.0034},
          {"qwen2", "q4_0", 0.0022},
          {"qwen2", "q4_1", 0.0116},
          {"qwen2", "q5_0", 0.0114},
          {"qwen2", "q5_1", 0.0119},
          {"qwen2", "q8_0", 0.0115},
          {"qwen2", "q2_k", 0.0156},
          {"qwen2", "q3_k", 0.0194},
          {"qwen2", "q4_k", 0.0136},
          {"qwen2", "q5_k", 0.0114},
          {"qwen2", "q6_k", 0.0189},
          {"qwen2", "iq4_nl", 0.0036},
          {"qwen2", "iq4_xs", 0.0191},
          {"qwen2", "q4_k_m", 0.0174},
          {"qwen2", "q5_k_m", 0.015},
          {"qwen3", "f32", 1e-3},
          {"qwen3", "q4_k_m", 0.0182},
          {"qwen2", "iq2_xxs", kNotMeasured},
          {"qwen2", "iq2_xs", kNotMeasured},
          {"qwen2", "iq2_s", kNotMeasured},
          {"qwen2", "iq3_xxs", kNotMeasured},
          {"qwen2", "iq3_s", kNotMeasured},
          {"qwen2", "iq1_s", kNotMeasured},
          {"qwen2", "iq1_m", kNotMeasured},
          {"qwen2", "tq1_0", kNotMeasured},
          {"qwen2", "tq2_0", kNotMeasured},
          {"qwen2", "mxfp4", kNotMeasured},
          {"qwen2", "nvfp4", kNotMeasured},
          {"qwen3", "iq2_m", kNotMeasured},
          {"qwen3", "iq3_m", kNotMeasured}};
}

/// Token i of the golden prompt.
inline std::vector<loaders::TokenId> golden_tokens() {
  std::vector<loaders::TokenId> tokens;
  for (std::uint64_t i = 0; i < 64; ++i) {
    tokens.push_back(static_cast<loaders::TokenId>((i * 2654435761U + 12345U) % 512U));
  }
  return tokens;
}

}  // namespace tensor_pager::qwen
