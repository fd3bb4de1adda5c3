// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "loaders/tokenizer.hpp"

namespace tensor_pager::loaders::testing {

/// How the GPT-2 alphabet writes `bytes`.
std::string in_alphabet(std::string_view bytes);

/// 256 normal tokens, the id of each being its byte, and no merges.
Vocabulary byte_vocabulary();

/// Appends a token; returns its id.
TokenId add_token(Vocabulary& vocabulary, std::string text, TokenType type);

/// Appends the merge of two tokens, given as bytes, and its token unless it is there; returns the
/// token's id.
TokenId add_merge(Vocabulary& vocabulary, std::string_view left, std::string_view right);

/// The vocabulary of Qwen2.5: 151,643 normal and 22 added tokens.
Vocabulary qwen25_vocabulary();

}  // namespace tensor_pager::loaders::testing
