// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "loaders/tokenizer.hpp"
#include "options.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::qwen_prefill {

/// The tokens of each prompt: of one, or of every line that is not empty. Throws qwen::Error for a
/// file that cannot be read, text that is not UTF-8, an id that is not in the vocabulary, a prompt
/// without tokens, and text for a model without a vocabulary that is understood. What goes on from
/// something gets no beginning-of-sequence token.
std::vector<std::vector<loaders::TokenId>> read_prompts(const qwen::Model& model,
                                                        const PromptSource& source,
                                                        bool goes_on = false);

/// Whether the model's file asks for a beginning-of-sequence token before each text, and the text
/// brought one of its own: models were not trained with two.
bool begins_twice(const qwen::Model& model, std::span<const loaders::TokenId> prompt);

}  // namespace tensor_pager::qwen_prefill
