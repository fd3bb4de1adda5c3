#pragma once

#include <filesystem>
#include <optional>
#include <string>

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
  ProductFactors factors;
  /// Nothing if the file has no vocabulary: it then takes and gives token ids.
  std::optional<loaders::Tokenizer> tokenizer;
};

/// Opens a model and makes sure that every step of its pass can be run. Throws GgufError or
/// TokenizerError for a bad file, Error for an architecture that is not supported yet, GgufError
/// that names the tensor and its type if there is no kernel for it.
Model open_model(const std::filesystem::path& path);

/// The kernels' name for a tensor's type. Throws the model's error that names tensor and type.
kernels::WeightType weight_type(const loaders::GgufModel& gguf, const loaders::TensorInfo& tensor);

/// The model's own name or, where its file has none, the file's.
std::string display_name(const Model& model);

/// What most matrices are stored as: by the file's own word, "Q4_K_M", say, or where it has none
/// the type of most bytes.
std::string file_type(const loaders::GgufModel& model);

}  // namespace tensor_pager::qwen
