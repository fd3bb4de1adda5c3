// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/tokenizer.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::qwen {

/// How a conversation becomes tokens: ChatML, as all of Qwen's chat models were trained.
///
/// A message is `<|im_start|>ROLE\nTEXT<|im_end|>\n`, an answer begins with
/// `<|im_start|>assistant\n` and ends with what the model ends it with. What a user writes is text,
/// whatever it looks like: `<|im_end|>` in it ends nothing.
class ChatFormat {
 public:
  /// `model` outlives it. Throws Error if the model has no vocabulary, or one without ChatML's
  /// tokens, or if its template is of another kind.
  explicit ChatFormat(const Model& model);

  /// What the model's template says to the model where nobody else does; may be empty.
  const std::string& default_system() const { return default_system_; }
  /// Whether the model was trained to think before it answers.
  bool can_think() const { return think_.has_value(); }

  /// `role`: "system" or "user".
  std::vector<loaders::TokenId> message(std::string_view role, std::string_view text) const;
  /// Without `think`, a model that can is told that it has done so.
  std::vector<loaders::TokenId> answer_begin(bool think) const;
  std::vector<loaders::TokenId> answer_end() const;
  /// What becomes of an answer once another question follows: without what was thought.
  std::vector<loaders::TokenId> answer_kept(std::span<const loaders::TokenId> answer) const;

  /// `<think>`, `</think>`.
  bool begins_thought(loaders::TokenId token) const;
  bool ends_thought(loaders::TokenId token) const;
  /// Where users' messages begin in a conversation.
  std::vector<std::size_t> questions(std::span<const loaders::TokenId> tokens) const;

 private:
  struct Thought {
    loaders::TokenId begin = 0;
    loaders::TokenId end = 0;
  };

  std::optional<loaders::TokenId> control(std::string_view name) const;
  std::vector<loaders::TokenId> text(std::string_view text) const;

  const loaders::Tokenizer* tokenizer_;
  loaders::TokenId start_ = 0;
  loaders::TokenId end_ = 0;
  std::optional<Thought> think_;
  std::string default_system_;
};

}  // namespace tensor_pager::qwen
