// SPDX-License-Identifier: Apache-2.0
#include "generation.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "command_line/interrupt.hpp"
#include "command_line/note.hpp"
#include "pager/counted.hpp"
#include "phase_meter.hpp"
#include "prefill_progress.hpp"
#include "process_age.hpp"

namespace tensor_pager::qwen_prefill {

Generation::Generation(const GenerationResources& resources,
                       const std::vector<std::vector<loaders::TokenId>>& prompts, std::size_t texts)
    : with_(resources),
      prompts_(prompts),
      texts_(resources.text, texts),
      first_logits_(resources.inference.plan().prefill.wanted, resources.model.vocabulary) {
  if (!with_.options.logits) return;
  logits_file_.emplace(*with_.options.logits, with_.model.config.vocab_size, first_logits_);
}

void Generation::run() {
  try {
    if (prompts_.size() == 1) {
      begin_from_one();
    } else {
      begin_more();
    }
    while (!present_.empty()) {
      go_on();
      begin_more();
    }
  } catch (const command_line::Interrupted&) {
    for (const auto& continuation : present_) end(*continuation);
    throw;
  }
}

// The prompt is prefilled once, and its keys and values are copied for every further text.
void Generation::begin_from_one() {
  const qwen::SequenceId sequence = with_.inference.begin();
  if (with_.session != nullptr) with_.session->load(with_.inference, sequence);
  if (logits_file_) {
    prefill(sequence, prompts_.front(), *logits_file_);
    logits_file_->close();
  } else {
    prefill(sequence, prompts_.front(), first_logits_);
  }
  if (with_.session_file != nullptr) save(sequence);
  begun_ = texts_.count();
  if (with_.options.predict == 0U) return;
  for (std::size_t i = 0; i < texts_.count(); ++i) {
    begin(i, i == 0 ? sequence : with_.inference.fork(sequence), first_logits_.values());
  }
}

// Before anything is generated: what took so long is kept, however the run ends.
void Generation::save(qwen::SequenceId sequence) {
  qwen::save_session(with_.inference, sequence, *with_.session_file);
  with_.session_file->commit();
}

// As many as there is room for.
void Generation::begin_more() {
  for (; begun_ < texts_.count() && has_room(); ++begun_) {
    qwen::LastLogits logits(1, with_.model.vocabulary);
    const qwen::SequenceId sequence = with_.inference.begin();
    prefill(sequence, prompts_[begun_], logits);
    if (with_.options.predict == 0U) {
      with_.inference.end(sequence);
    } else {
      begin(begun_, sequence, logits.values());
    }
  }
}

bool Generation::has_room() const {
  return present_.size() < with_.inference.plan().sequences;
}

void Generation::prefill(qwen::SequenceId sequence, std::span<const loaders::TokenId> prompt,
                         qwen::LogitsSink& sink) {
  RunReport& report = with_.report;
  const UsageMeter meter(report.prefill);
  PrefillProgress shown(!with_.options.quiet && begun_ == 0, with_.store, prompt.size());
  measure(with_.inference, report.prefill, prompt.size(), /*settled=*/true, [&] {
    with_.inference.extend(sequence, prompt, sink, [&](std::size_t done, std::size_t total) {
      if (!report.first_step) report.first_step = process_age();
      shown.update(done, total);
      if (command_line::InterruptGuard::pending() == 0) return;
      report.interrupted = fmt::format("in prefill, after {} of {} steps", done, total);
      command_line::InterruptGuard::check();
    });
  });
}

// Equal seeds would give equal texts, where the prompt is the same.
void Generation::begin(std::size_t index, qwen::SequenceId sequence,
                       std::span<const float> logits) {
  qwen::SamplerOptions sampling = with_.sampling;
  sampling.seed += index;
  const loaders::Tokenizer* const tokenizer =
      with_.model.tokenizer ? &*with_.model.tokenizer : nullptr;
  present_.push_back(std::make_unique<Continuation>(
      Continuation{index, sequence, {sampling, with_.model.vocabulary}, TokenText(tokenizer)}));
  Continuation& continuation = *present_.back();
  continuation.sampler.accept(with_.inference.tokens(sequence));
  continuation.token = continuation.sampler.choose(logits);
}

// Until nobody is left, or there is room for another prompt.
void Generation::go_on() {
  const UsageMeter meter(with_.report.decode);
  // On a terminal one text itself shows how far it has come.
  const bool text_is_seen = texts_.count() == 1 && ::isatty(::fileno(with_.text)) == 1;
  const std::uint32_t each = with_.options.predict.value_or(with_.inference.context());
  command_line::ProgressBar bar(!with_.options.quiet && !text_is_seen, "generate",
                                static_cast<double>(texts_.count() * each), "token");
  for (;;) {
    write_all();
    bar.update(generated(), texts_.count() * each);
    if (present_.empty() || (begun_ < texts_.count() && has_room())) break;
    if (command_line::InterruptGuard::pending() != 0) {
      bar.clear();
      note_interrupt();
      command_line::InterruptGuard::check();
    }
    advance();
  }
  bar.clear();
}

// Every token that was chosen, and ends the texts that are complete with it.
void Generation::write_all() {
  for (const auto& continuation : present_) {
    if (write(*continuation)) continue;
    end(*continuation);
    ended_tokens_ += continuation->generated;
    continuation->sequence = {};
  }
  std::erase_if(present_, [](const auto& continuation) {
    return continuation->sequence == qwen::SequenceId{};
  });
}

// Whether another token may follow.
bool Generation::write(Continuation& continuation) {
  if (std::exchange(continuation.is_written, true)) return true;  // while others began
  if (std::ranges::binary_search(with_.model.ends, continuation.token)) return false;
  texts_.append(continuation.index, continuation.text.push(continuation.token));
  ++continuation.generated;
  if (continuation.generated == with_.options.predict) return false;
  // The last token that the context has room for was read, and gave this one.
  const std::size_t length = with_.inference.tokens(continuation.sequence).size();
  continuation.is_cut = length == with_.inference.context();
  return !continuation.is_cut;
}

void Generation::end(Continuation& continuation) {
  with_.inference.end(continuation.sequence);
  texts_.append(continuation.index, continuation.text.finish());
  texts_.finish(continuation.index);
  if (continuation.is_cut) say_that_context_is_full(continuation);
}

void Generation::advance() {
  std::vector<qwen::NextToken> next;
  for (const auto& continuation : present_) {
    next.push_back({continuation->sequence, continuation->token});
  }
  qwen::EachLogits logits(next.size(), with_.model.vocabulary);
  measure(with_.inference, with_.report.decode, next.size(), /*settled=*/false,
          [&] { with_.inference.advance(next, logits); });
  for (std::size_t i = 0; i < present_.size(); ++i) {
    present_[i]->token = present_[i]->sampler.choose(logits.values(i));
    present_[i]->is_written = false;
  }
}

std::uint64_t Generation::generated() const {
  std::uint64_t tokens = ended_tokens_;
  for (const auto& continuation : present_) tokens += continuation->generated;
  return tokens;
}

void Generation::note_interrupt() {
  const std::optional<std::uint32_t> each = with_.options.predict;
  with_.report.interrupted =
      "in generation, after " +
      (each ? fmt::format("{} of {}", generated(), counted(*each * texts_.count(), "token"))
            : counted(generated(), "token"));
}

void Generation::say_that_context_is_full(const Continuation& continuation) const {
  const std::optional<std::uint32_t> predict = with_.options.predict;
  const std::uint32_t context = with_.inference.context();
  command_line::note_line(
      "qwen_prefill",
      fmt::format("{}the context of {} is full after {}{}",
                  texts_.count() == 1 ? "" : fmt::format("text {}: ", continuation.index + 1),
                  counted(context, "token"),
                  predict
                      ? fmt::format("{} of {}", continuation.generated, counted(*predict, "token"))
                      : counted(continuation.generated, "token"),
                  context < with_.model.config.context_length ? "; give a larger --ctx" : ""));
}

}  // namespace tensor_pager::qwen_prefill
