// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "kernels/weight_type.hpp"
#include "loaders/gguf.hpp"
#include "loaders/model_config.hpp"
#include "loaders/tokenizer.hpp"
#include "qwen/product_factors.hpp"

namespace tensor_pager::qwen {

/// A model file that the executor can run.
struct Model {
  loaders::GgufModel gguf;
  loaders::ModelConfig config;
  /// Nothing if the file has no vocabulary, or one that is not understood: the model then takes and
  /// gives token ids, and `no_tokenizer` says why.
  std::optional<loaders::Tokenizer> tokenizer{};
  std::string no_tokenizer{};
  /// Tokens of the vocabulary, or rows of the output matrix where the file has none. Rows beyond
  /// them are padding.
  std::size_t vocabulary = 0;
  /// With these a generation ends, ascending; empty if the file has no vocabulary.
  std::vector<loaders::TokenId> ends{};
  /// What the frequency of each rotated pair is divided by (Graph::rope_factors); empty: by 1.
  std::vector<float> rope_factors{};
  ProductFactors factors{};
};

/// Opens a model and makes sure that every step of its pass can be run, with `rope` in place of
/// what the file says. Throws GgufError for a bad file, Error for an architecture that is not
/// supported yet, GgufError that names the tensor and its type if there is no kernel for it, and
/// what MappedFileStore throws if the file cannot be read. A vocabulary that cannot be used is no
/// failure here.
Model open_model(const std::filesystem::path& path, const loaders::RopeOverrides& rope = {});

/// A model that can be planned and predicted, but not run: nothing is read of its data, so its
/// scales and rope factors are taken to be 1. Checked, and refused, as open_model does.
Model outline_model(loaders::GgufModel outline, const loaders::RopeOverrides& rope = {});

/// The kernels' name for a tensor's type. Throws the model's error that names tensor and type.
kernels::WeightType weight_type(const loaders::GgufModel& gguf, const loaders::TensorInfo& tensor);

/// The model's own name or, where its file has none, the file's; fit to be shown
/// (loaders::printable).
std::string display_name(const Model& model);

/// What most matrices are stored as: by the file's own word, "Q4_K_M", say, or where it has none
/// the type of most bytes.
std::string file_type(const loaders::GgufModel& model);

}  // namespace tensor_pager::qwen
