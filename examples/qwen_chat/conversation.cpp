// SPDX-License-Identifier: Apache-2.0
#include "conversation.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "command_line/interrupt.hpp"
#include "output/replacement_file.hpp"
#include "qwen/error.hpp"
#include "qwen/logits_sink.hpp"
#include "qwen/saved_session.hpp"

namespace tensor_pager::qwen_chat {
namespace {

using command_line::InterruptGuard;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void append(std::vector<loaders::TokenId>& tokens, const std::vector<loaders::TokenId>& more) {
  tokens.insert(tokens.end(), more.begin(), more.end());
}

}  // namespace

std::string_view more_context(const qwen::Inference& inference) {
  return inference.context() < inference.model().config.context_length
             ? "a larger --ctx"
             : "a longer context (--rope-scaling yarn --rope-scale N)";
}

Conversation::Conversation(const qwen::Model& model, const qwen::ChatFormat& format,
                           qwen::Inference& inference, ConversationOptions options)
    : model_(model),
      format_(format),
      inference_(inference),
      options_(std::move(options)),
      sequence_(inference.begin()) {
  restart(options_.system);
}

// What could never be followed by a question is refused before anything is forgotten.
void Conversation::restart(std::string system) {
  Tokens first = system.empty() ? Tokens{} : format_.message("system", system);
  if (first.size() >= inference_.context()) {
    throw qwen::Error(
        fmt::format("the context of {} tokens has no room for what the model is told first, which "
                    "has {}; give a shorter text, or {}",
                    inference_.context(), first.size(), more_context(inference_)));
  }
  options_.system = std::move(system);
  inference_.rewind(sequence_, 0);
  last_answer_.reset();
  pending_ = std::move(first);
}

Conversation::Tokens Conversation::turn(std::string_view question) const {
  Tokens tokens = pending_;
  append(tokens, format_.message("user", question));
  append(tokens, format_.answer_begin(options_.think));
  return tokens;
}

// A model has been trained on conversations in which earlier answers are what was said alone.
void Conversation::forget_thoughts() {
  if (!last_answer_) return;
  Tokens kept = format_.answer_kept(answer_);
  if (kept != answer_) {
    inference_.rewind(sequence_, *last_answer_);
    pending_ = std::move(kept);
    append(pending_, format_.answer_end());
  }
  last_answer_.reset();
}

void Conversation::require_room(std::size_t tokens) const {
  const std::size_t before = inference_.tokens(sequence_).size();
  if (before + tokens < inference_.context()) return;
  throw qwen::Error(
      fmt::format("the context of {} tokens has no room for this: {} are in use, and it has {}; "
                  "/drop leaves out the oldest question, /clear begins anew, {} gives more",
                  inference_.context(), before, tokens, more_context(inference_)));
}

Answer Conversation::ask(std::string_view question, const Show& show) {
  forget_thoughts();
  const Tokens tokens = turn(question);
  require_room(tokens.size());
  Answer answer{.reused = inference_.tokens(sequence_).size(), .prefilled = tokens.size()};
  qwen::LastLogits logits(1, model_.vocabulary);
  const auto begin = Clock::now();
  inference_.extend(sequence_, tokens, logits,
                    [](std::size_t, std::size_t) { InterruptGuard::check(); });
  answer.prefill_seconds = seconds_since(begin);
  pending_.clear();
  last_answer_ = inference_.tokens(sequence_).size();
  answer_.clear();
  generate(logits.values(), show, answer);
  return answer;
}

void Conversation::generate(std::span<const float> first, const Show& show, Answer& answer) {
  qwen::Sampler sampler(options_.sampling, model_.vocabulary);
  ++options_.sampling.seed;
  sampler.accept(inference_.tokens(sequence_));
  loaders::StreamDecoder decoder(*model_.tokenizer);
  qwen::LastLogits logits(1, model_.vocabulary);
  std::span<const float> values = first;
  bool thought = false;
  const auto begin = Clock::now();
  for (;;) {
    const loaders::TokenId token = sampler.choose(values);
    if (std::ranges::binary_search(model_.ends, token)) break;
    ++answer.generated;
    const bool mark = format_.begins_thought(token) || format_.ends_thought(token);
    if (mark) thought = format_.begins_thought(token);
    if (mark || thought) ++answer.thought;
    if (!mark) show(decoder.push(token), thought);
    answer_.push_back(token);
    pending_ = {token};
    if (answer.generated == options_.most) answer.end = End::long_enough;
    if (tokens() >= inference_.context()) answer.end = End::context_full;
    if (InterruptGuard::pending() != 0) answer.end = End::interrupted;
    if (answer.end != End::ended) break;
    const qwen::NextToken next{sequence_, token};
    inference_.advance({&next, 1}, logits);
    pending_.clear();
    values = logits.values();
  }
  show(decoder.finish(), thought);
  answer.seconds = seconds_since(begin);
  append(pending_, format_.answer_end());
}

bool Conversation::drop_oldest() {
  forget_thoughts();
  const std::span<const loaders::TokenId> read = inference_.tokens(sequence_);
  Tokens all(read.begin(), read.end());
  append(all, pending_);
  const std::vector<std::size_t> questions = format_.questions(all);
  if (questions.size() < 2) return false;
  const auto at = [&](std::size_t i) { return all.begin() + static_cast<std::ptrdiff_t>(i); };
  all.erase(at(questions[0]), at(questions[1]));
  const std::size_t kept = std::min(questions[0], read.size());
  inference_.rewind(sequence_, kept);
  pending_.assign(at(kept), all.end());
  return true;
}

// The file ends where a question may follow, unless the context is full to the last token.
void Conversation::save(const std::filesystem::path& path) {
  output::ReplacementFile file(path);
  forget_thoughts();
  const bool fits = inference_.tokens(sequence_).size() + pending_.size() <= inference_.context();
  if (!pending_.empty() && fits) {
    qwen::NoLogits nowhere;
    inference_.extend(sequence_, pending_, nowhere);
    pending_.clear();
  }
  if (inference_.tokens(sequence_).empty()) {
    throw qwen::Error("there is nothing to save yet; ask something first");
  }
  qwen::save_session(inference_, sequence_, file);
  file.commit();
}

// Looked at as a whole first: one that is refused leaves the conversation as it was.
void Conversation::load(const std::filesystem::path& path) {
  qwen::SavedSession session(path);
  session.verify(inference_);
  pending_.clear();
  last_answer_.reset();
  inference_.rewind(sequence_, 0);
  session.load(inference_, sequence_);
  const Tokens end = format_.answer_end();
  const std::span<const loaders::TokenId> all = inference_.tokens(sequence_);
  const bool ended = all.size() >= end.size() && std::ranges::equal(all.last(end.size()), end);
  if (!ended) pending_ = end;
}

}  // namespace tensor_pager::qwen_chat
