// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qwen/chat_format.hpp"
#include "qwen/inference.hpp"
#include "qwen/sampler.hpp"

namespace tensor_pager::qwen_chat {

/// Why an answer is over.
enum class End : std::uint8_t { ended, interrupted, long_enough, context_full };

/// What an answer took.
struct Answer {
  End end = End::ended;
  std::size_t reused = 0;     ///< tokens of the conversation that had been prefilled before
  std::size_t prefilled = 0;  ///< tokens of this question, and what had to be taken in again
  std::size_t generated = 0;
  std::size_t thought = 0;  ///< of them
  double prefill_seconds = 0;
  double seconds = 0;  ///< of generation
};

struct ConversationOptions {
  std::string system;  ///< may be empty
  bool think = true;
  std::optional<std::uint32_t> most{};  ///< tokens of an answer
  qwen::SamplerOptions sampling{};      ///< the seed of the first answer
};

/// What gives a conversation more room, for messages: an option.
std::string_view more_context(const qwen::Inference& inference);

/// Questions and answers in one sequence of an inference: of a new question only what is new is
/// prefilled.
class Conversation {
 public:
  /// Text of an answer as it comes, whole characters; whether it is thought, not said.
  using Show = std::function<void(std::string_view text, bool thought)>;

  /// All of it outlives the conversation.
  Conversation(const qwen::Model& model, const qwen::ChatFormat& format, qwen::Inference& inference,
               ConversationOptions options);

  /// An interrupt (command_line::InterruptGuard) ends the answer after a token. Throws
  /// qwen::Error if the context has no room for the question, command_line::Interrupted if the
  /// interrupt came before the answer began, and what Inference throws: the conversation is as it
  /// was then.
  Answer ask(std::string_view question, const Show& show);

  /// Begins anew, with what the model is told before all questions. Throws qwen::Error if the
  /// context has no room for it.
  void restart(std::string system);
  const std::string& system() const { return options_.system; }
  /// Leaves out the oldest question and its answer; false if there is none, or no other.
  bool drop_oldest();

  /// To and from a file. Throws what save_session and SavedSession throw.
  void save(const std::filesystem::path& path);
  void load(const std::filesystem::path& path);

  std::size_t tokens() const { return inference_.tokens(sequence_).size() + pending_.size(); }

 private:
  using Tokens = std::vector<loaders::TokenId>;

  Tokens turn(std::string_view question) const;
  void forget_thoughts();
  void require_room(std::size_t tokens) const;
  void generate(std::span<const float> logits, const Show& show, Answer& answer);

  const qwen::Model& model_;
  const qwen::ChatFormat& format_;
  qwen::Inference& inference_;
  ConversationOptions options_;
  qwen::SequenceId sequence_;
  Tokens pending_;                          // of the conversation, and not of the sequence yet
  Tokens answer_;                           // the last one, all of it
  std::optional<std::size_t> last_answer_;  // where it begins in the sequence
};

}  // namespace tensor_pager::qwen_chat
