#pragma once

#include <vector>

#include "loaders/tokenizer.hpp"
#include "options.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::qwen_prefill {

/// The prompt's tokens. Throws qwen::Error or TokenizerError for a file that cannot be read, text
/// that is not UTF-8, an id that is not in the vocabulary, a prompt without tokens, and text for a
/// model without a vocabulary.
std::vector<loaders::TokenId> read_prompt(const qwen::Model& model, const PromptSource& source);

}  // namespace tensor_pager::qwen_prefill
