// SPDX-License-Identifier: Apache-2.0
#include "simulated_model.hpp"

#include "hf_config.hpp"
#include "model_outline.hpp"
#include "pager/mapped_file_store.hpp"
#include "random_model.hpp"

namespace tensor_pager::pager_sim {

qwen::Model simulated_model(const ModelSource& source, const loaders::RopeOverrides& rope) {
  if (source.is_file()) return qwen::open_model(source.file, rope);
  if (source.preset.empty()) {
    const auto design = make_gguf::read_hf_config(source.hf_config, source.type);
    return qwen::outline_model(make_gguf::model_outline(design, source.hf_config), rope);
  }
  const auto design = make_gguf::make_design({.type = source.type, .preset = source.preset});
  return qwen::outline_model(make_gguf::model_outline(design, "--preset " + source.preset), rope);
}

std::unique_ptr<BackingStore> weights_of(const qwen::Model& model, const ModelSource& source) {
  if (source.is_file()) return std::make_unique<MappedFileStore>(model.gguf.paths());
  return make_gguf::random_weights_of(model.gguf);
}

}  // namespace tensor_pager::pager_sim
