// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "loaders/model_config.hpp"
#include "pager/backing_store.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::pager_sim {

/// Which model is predicted: exactly one of a file, a configuration and a preset.
struct ModelSource {
  std::filesystem::path file;       ///< GGUF
  std::filesystem::path hf_config;  ///< config.json of Hugging Face
  std::string preset;               ///< of make_gguf, as qwen2
  std::string type = "q4_k_m";      ///< of matrices, unless there is a file

  bool is_file() const { return hf_config.empty() && preset.empty(); }
};

/// What is known of it without its weights, from a file or from what make_gguf would write. Throws
/// what qwen::open_model, qwen::outline_model, make_gguf::make_design and make_gguf::read_hf_config
/// throw.
qwen::Model simulated_model(const ModelSource& source, const loaders::RopeOverrides& rope);

/// Weights to measure processors with: the file's, or made-up ones. `model` must outlive them.
std::unique_ptr<BackingStore> weights_of(const qwen::Model& model, const ModelSource& source);

}  // namespace tensor_pager::pager_sim
