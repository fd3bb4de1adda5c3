// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "gguf_writer.hpp"
#include "loaders/tokenizer.hpp"

namespace tensor_pager::make_gguf {

/// A vocabulary for a model of random weights: "bytes" has a token for each byte, so that any text
/// is as many tokens as it has bytes; otherwise that of the GGUF file of this name. Filled up with
/// unused tokens to `size`, if it has fewer. Throws RandomModelError if the file has none, or what
/// opening it throws.
loaders::Vocabulary make_vocabulary(const std::string& what, std::uint32_t size);

/// Writes it as metadata.
void add_vocabulary(GgufHeader& header, const loaders::Vocabulary& vocabulary);

}  // namespace tensor_pager::make_gguf
