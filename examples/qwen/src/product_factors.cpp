// SPDX-License-Identifier: Apache-2.0
#include "qwen/product_factors.hpp"

#include <fmt/format.h>

#include <cmath>
#include <fstream>
#include <string_view>

namespace tensor_pager::qwen {
namespace {

float read(const loaders::GgufModel& model, const loaders::TensorInfo& tensor) {
  const loaders::ModelFile& file = model.files().at(tensor.file);
  std::ifstream in(file.path, std::ios::binary);
  in.seekg(static_cast<std::streamoff>((tensor.bytes.offset - file.base).count));
  float value = 0.0F;
  if (!in.read(reinterpret_cast<char*>(&value), sizeof value)) {
    throw model.error(tensor, "cannot be read; is the file being changed?");
  }
  if (!std::isfinite(value)) {
    throw model.error(tensor, fmt::format("is {}, but a scale must be finite; the file is damaged "
                                          "or wrongly converted",
                                          value));
  }
  return value;
}

void check(const loaders::GgufModel& model, const loaders::TensorInfo& scale,
           std::string_view weight) {
  if (weight == "token_embd.weight") {
    throw model.error(scale,
                      "scales the token embedding, which is not supported; use another file");
  }
  if (scale.type == loaders::TensorType::f32 && scale.ne[0] * scale.rows() == 1) return;
  throw model.error(
      scale, fmt::format("has type {} and shape {}, but the scale of {} must be one F32; use "
                         "another file",
                         loaders::to_string(scale.type), loaders::shape_to_string(scale), weight));
}

}  // namespace

ProductFactors::ProductFactors(const loaders::GgufModel& model, const loaders::Graph& graph) {
  const auto& tensors = model.tensors();
  for (const loaders::MatrixScale& pair : graph.scales) {
    const loaders::TensorInfo& scale = tensors[pair.scale];
    check(model, scale, tensors[pair.matrix].name);
    factors_.resize(tensors.size(), 1.0F);
    factors_[pair.matrix] = read(model, scale);
  }
}

}  // namespace tensor_pager::qwen
