// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "loaders/gguf.hpp"

namespace tensor_pager::loaders {

/// One GGUF file, parsed. Offsets of its tensors are offsets in this file.
struct GgufFile {
  Metadata metadata;
  std::vector<TensorInfo> tensors;
  Bytes size;
};

/// Reads header, metadata and tensor table. Throws GgufError.
GgufFile parse_gguf_file(const std::filesystem::path& path);

}  // namespace tensor_pager::loaders
