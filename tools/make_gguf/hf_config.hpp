// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "model_design.hpp"

namespace tensor_pager::make_gguf {

/// What a GGUF file of a model would have, by the config.json that Hugging Face keeps beside its
/// weights, with matrices of that type. Dense Qwen models (model_type qwen2 or qwen3); of what the
/// file says only sizes are used, and what it leaves out is as transformers has it. Throws
/// GgufError that names the file and the key if it is no such configuration, and RandomModelError
/// for an unknown type or rows that do not suit it.
ModelDesign read_hf_config(const std::filesystem::path& path, const std::string& type);

}  // namespace tensor_pager::make_gguf
