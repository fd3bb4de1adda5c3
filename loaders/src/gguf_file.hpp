// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
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

/// The same of a file that need not be there: `header` is what it begins with, up to its data, and
/// `size` its size.
GgufFile parse_gguf_outline(const std::filesystem::path& name, std::span<const std::byte> header,
                            Bytes size);

}  // namespace tensor_pager::loaders
