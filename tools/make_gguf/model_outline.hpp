// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>

#include "loaders/gguf.hpp"
#include "model_design.hpp"
#include "pager/backing_store.hpp"

namespace tensor_pager::make_gguf {

/// What GgufModel::open would say of the file that write_random_model makes of this design, without
/// the file. Errors call it `name`. Throws RandomModelError, and what GgufModel::outline throws.
loaders::GgufModel model_outline(const ModelDesign& design, const std::filesystem::path& name);

/// Weights for measurements on a model that is not there: of each tensor's type and of the
/// deviation that a model's have, but the same ones over and over, and zeros between tensors. Takes
/// 64 MiB of memory for each type, so that copies of it come from memory. `model` must outlive it.
std::unique_ptr<BackingStore> random_weights_of(const loaders::GgufModel& model);

}  // namespace tensor_pager::make_gguf
