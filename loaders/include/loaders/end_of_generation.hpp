// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "loaders/tokenizer.hpp"
#include "pager/export.hpp"

namespace tensor_pager::loaders {

/// The tokens with which a model says that it is done, ascending. `eos` alone is not enough: a chat
/// model whose eos is `<|im_end|>` may end a text with `<|endoftext|>`, and one that was given a
/// file to complete with `<|file_sep|>`.
///
/// They are those that the vocabulary names (eos, eot, eom, and what separates files:
/// Vocabulary::fim_*), and those that have a text by which models of all families end (the list is
/// that of llama.cpp). A normal token that merges make is text, whatever it looks like: `</s>` is
/// one in the vocabularies of Qwen. Ids outside the vocabulary are left out.
///
/// Needs no Tokenizer: a model that takes and gives token ids ends, too.
TENSOR_PAGER_EXPORT std::vector<TokenId> end_of_generation(const Vocabulary& vocabulary);

}  // namespace tensor_pager::loaders
