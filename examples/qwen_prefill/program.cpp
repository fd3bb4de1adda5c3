// SPDX-License-Identifier: Apache-2.0
#include "program.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "command_line/chosen_places.hpp"
#include "command_line/file_roles.hpp"
#include "command_line/interrupt.hpp"
#include "command_line/json.hpp"
#include "command_line/model_device.hpp"
#include "command_line/note.hpp"
#include "command_line/sampling.hpp"
#include "generation.hpp"
#include "output/replacement_file.hpp"
#include "pager/trace.hpp"
#include "phase_meter.hpp"
#include "prefill_progress.hpp"
#include "process_age.hpp"
#include "prompt.hpp"
#include "qwen/inference.hpp"
#include "qwen/perplexity.hpp"
#include "qwen/saved_session.hpp"
#include "report.hpp"
#include "watched_store.hpp"

namespace tensor_pager::qwen_prefill {
namespace {

using command_line::gpu_of;
using Tokens = std::vector<loaders::TokenId>;

constexpr std::uint32_t kPerplexityContext = 512;
// Room for a text of which nobody knows how long it will be. All that the model's context has would
// be gigabytes of keys and values in place of weights.
constexpr std::uint32_t kOpenEnd = 4096;

qwen::Backend make_backend(const Options& options, std::optional<int> gpu, const qwen::Model& model,
                           Trace* trace) {
  if (!gpu) {
    qwen::Backend backend = qwen::host_backend(model, trace);
    if (!options.pin_files) backend.in_place = nullptr;
    return backend;
  }
  return qwen::cuda_backend(model, {.gpu = *gpu, .pin_files = options.pin_files, .trace = trace});
}

// Room for the prompt and what is generated, in whole steps of 32 so that it is not all different.
std::uint32_t default_context(const qwen::Model& model, const Options& options,
                              std::size_t prompt) {
  const std::uint64_t predict = options.predict.value_or(kOpenEnd);
  const std::uint64_t needed = (prompt + predict + 31) / 32 * 32;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(needed, model.config.context_length));
}

std::uint32_t choose_context(const qwen::Model& model, const Options& options, std::size_t prompt) {
  const std::uint32_t longest = model.config.context_length;
  command_line::require_trained(options.context, model);
  if (options.perplexity) return options.context.value_or(std::min(kPerplexityContext, longest));
  const std::uint32_t context = options.context.value_or(default_context(model, options, prompt));
  if (prompt <= context) return context;
  throw qwen::Error(fmt::format(
      "the prompt has {} tokens, but the context only {}; shorten it, or {}", prompt, context,
      context < longest ? fmt::format("give a --ctx of up to {}", longest)
                        : "make the context longer (--rope-scaling yarn --rope-scale N)"));
}

bool is_of_lines(const Options& options) {
  return std::holds_alternative<PromptLines>(options.prompt);
}

// At a time.
std::uint32_t choose_sequences(const Options& options, std::size_t prompts) {
  const auto lines = static_cast<std::uint32_t>(prompts);
  if (!is_of_lines(options)) return options.parallel.value_or(1);
  return std::min(options.parallel.value_or(lines), lines);
}

// `before` them there are so many tokens.
qwen::MemoryPlan plan_memory(const qwen::Model& model, const Options& options,
                             const std::vector<Tokens>& prompts, std::size_t before,
                             const qwen::Backend& backend) {
  const std::size_t prompt = std::ranges::max(prompts, {}, &Tokens::size).size();
  const std::uint32_t context = choose_context(model, options, before + prompt);
  qwen::MemoryRequest request;
  request.vram_given = options.vram.has_value();
  request.vram = options.vram.value_or(Bytes{});
  // 90%: other processes live here as well.
  if (!options.vram) request.vram = {backend.free_memory.count / 10 * 9};
  request.arena = options.arena;
  request.page = options.page;
  request.context = context;
  request.sequences = choose_sequences(options, prompts.size());
  request.tokens = options.perplexity ? context : static_cast<std::uint32_t>(prompt);
  request.wanted = options.perplexity ? context - qwen::scored_positions(context).first
                   : options.logits   ? request.tokens
                                      : 1;
  request.ubatch = options.ubatch;
  return qwen::plan_memory(model, qwen::request_for(backend, model, request));
}

std::optional<qwen::ChosenPlaces> choose_places(const Options& options, const qwen::Model& model,
                                                const qwen::MemoryPlan& plan,
                                                const BackingStore& store,
                                                const command_line::PlacementDevice& device) {
  if (options.perplexity || options.predict == 0U) return std::nullopt;  // nothing is generated
  return command_line::choose_places("qwen_prefill", options, model, plan, store, device);
}

using OutputFile = std::optional<output::ReplacementFile>;

OutputFile output_file(const std::optional<std::filesystem::path>& path) {
  if (!path) return std::nullopt;
  return OutputFile(std::in_place, *path);
}

std::optional<qwen::SavedSession> saved_session(const std::optional<std::filesystem::path>& path) {
  if (!path) return std::nullopt;
  return qwen::SavedSession(*path);
}

// The files of a split model are known once its first is read; nothing was written until then.
qwen::Model open_model(const Options& options) {
  qwen::Model model = qwen::open_model(options.model, options.rope);
  for (const std::filesystem::path& file : model.gguf.paths()) {
    command_line::require_files_of_their_own({{"--stats", options.stats},
                                              {"--trace", options.trace},
                                              {"--logits", options.logits},
                                              {"--save-session", options.save_session}},
                                             {{"--model", file}});
  }
  return model;
}

// What the run says; where stdout is a file of its own, beside it.
std::FILE* text_stream(const Options& options) {
  for (const auto& path : {options.stats, options.trace, options.logits, options.save_session}) {
    if (path && output::is_stdout(*path)) return stderr;
  }
  return stdout;
}

std::shared_ptr<const WatchedStore> watch_store(qwen::Backend& backend) {
  auto store = std::make_shared<const WatchedStore>(std::move(backend.store));
  backend.store = store;
  return store;
}

// Everything of a run that outlives its phases.
class Run {
 public:
  explicit Run(const Options& options)
      : options_(options),
        session_(saved_session(options.load_session)),
        session_file_(output_file(options.save_session)),
        stats_(output_file(options.stats)),
        trace_file_(output_file(options.trace)),
        text_(text_stream(options)),
        trace_(options.trace ? std::make_unique<Trace>() : nullptr),
        gpu_(gpu_of(options)),
        model_(open_model(options)),
        sampling_(command_line::choose_sampling(
            options.sampling, model_.gguf.metadata(),
            options.seed ? *options.seed : command_line::random_seed())),
        prompts_(read_prompts(model_, options.prompt, session_.has_value())),
        backend_(make_backend(options, gpu_, model_, trace_.get())),
        store_(watch_store(backend_)),
        plan_(plan_memory(model_, options, prompts_, session_ ? session_->tokens() : 0, backend_)),
        places_(choose_places(options, model_, plan_, *store_,
                              {.name = backend_.device->info().name, .gpu = gpu_})),
        store_description_(backend_.store_description),
        inference_(model_, plan_, std::move(backend_),
                   {.policy = options.policy,
                    .trace = trace_.get(),
                    .publish = options.publish,
                    .generation = command_line::generation_places(places_)}) {
    report_.load = process_age();
    report_.device = inference_.device();
    report_.store = store_description_;
  }

  void generate();
  void measure_perplexity();
  void finish();

 private:
  void prefill_chunk(const Tokens& tokens, qwen::LogitsSink& sink,
                     const qwen::PassProgress& progress);
  void warn_about_prompts() const;
  Tokens chunk(std::size_t index, std::uint32_t context) const;
  void require_text_for_perplexity(std::uint32_t context) const;

  void note(const std::string& text) const {
    if (!options_.quiet) command_line::note(text);
  }

  const Options& options_;
  std::optional<qwen::SavedSession> session_;
  OutputFile session_file_;
  OutputFile stats_;
  OutputFile trace_file_;
  std::FILE* text_;
  std::unique_ptr<Trace> trace_;
  std::optional<int> gpu_;  // asked for in vain, it is missed before a large model is opened
  qwen::Model model_;
  command_line::Sampling sampling_;
  std::vector<Tokens> prompts_;
  qwen::Backend backend_;  // until the inference has it
  std::shared_ptr<const WatchedStore> store_;
  qwen::MemoryPlan plan_;
  std::optional<qwen::ChosenPlaces> places_;  // of generation, if it was asked for
  std::string store_description_;
  qwen::Inference inference_;
  RunReport report_;
};

void Run::prefill_chunk(const Tokens& tokens, qwen::LogitsSink& sink,
                        const qwen::PassProgress& progress) {
  const UsageMeter meter(report_.prefill);
  measure(inference_, report_.prefill, tokens.size(), /*settled=*/true, [&] {
    inference_.prefill(tokens, sink, [&](std::size_t done, std::size_t total) {
      if (!report_.first_step) report_.first_step = process_age();
      progress(done, total);
      if (command_line::InterruptGuard::pending() == 0) return;
      report_.interrupted = fmt::format("in prefill, after {} of {} steps", done, total);
      command_line::InterruptGuard::check();
    });
  });
}

void Run::generate() {
  const std::size_t texts = is_of_lines(options_) ? prompts_.size() : plan_.sequences;
  Generation generation(
      {options_, model_, sampling_.options, *store_, inference_, report_, text_,
       session_ ? &*session_ : nullptr, session_file_ ? &*session_file_ : nullptr},
      prompts_, texts);
  note(banner(model_, plan_, report_));
  if (options_.predict != 0U) note(fmt::format("sampling {}\n", sampling_.description));
  warn_about_prompts();
  generation.run();
}

void Run::warn_about_prompts() const {
  const auto twice = [&](const Tokens& prompt) { return begins_twice(model_, prompt); };
  const auto first = std::ranges::find_if(prompts_, twice);
  if (first == prompts_.end()) return;
  command_line::note_line(
      "qwen_prefill",
      fmt::format("warning: the prompt begins with {:?} twice, since the model's file adds one to "
                  "each text; leave it out of the text",
                  model_.tokenizer->bytes(first->front())));
}

// Chunks do not overlap. A model that was trained with a beginning-of-sequence token gets it in
// place of each chunk's first token, as in llama-perplexity.
Tokens Run::chunk(std::size_t index, std::uint32_t context) const {
  const auto begin = prompts_.front().begin() + static_cast<std::ptrdiff_t>(index * context);
  Tokens tokens(begin, begin + context);
  if (model_.tokenizer && model_.tokenizer->adds_bos()) {
    tokens.front() = model_.tokenizer->bos().value_or(tokens.front());
  }
  return tokens;
}

void Run::require_text_for_perplexity(std::uint32_t context) const {
  if (qwen::scored_positions(context).count == 0) {
    throw qwen::Error(
        fmt::format("--perplexity with --ctx {} scores nothing; give --ctx 3 or more", context));
  }
  const std::size_t needed = 2 * std::size_t{context};
  if (prompts_.front().size() >= needed) return;
  throw qwen::Error(fmt::format(
      "--perplexity needs at least {} tokens, two chunks of --ctx {}, but the text has {}; give "
      "more text or a smaller --ctx",
      needed, context, prompts_.front().size()));
}

void Run::measure_perplexity() {
  const std::uint32_t context = inference_.context();
  require_text_for_perplexity(context);
  note(banner(model_, plan_, report_));
  warn_about_prompts();
  const qwen::ScoredPositions scored = qwen::scored_positions(context);
  const std::size_t chunks = prompts_.front().size() / context;
  qwen::Perplexity perplexity;
  PrefillProgress shown(!options_.quiet, *store_, chunks * context);
  for (std::size_t i = 0; i < chunks; ++i) {
    const Tokens tokens = chunk(i, context);
    qwen::TokenScores scores(
        std::span<const loaders::TokenId>(tokens).subspan(scored.first + 1, scored.count),
        model_.vocabulary);
    prefill_chunk(tokens, scores, [&](std::size_t done, std::size_t total) {
      shown.update(i * total + done, chunks * total);
    });
    shown.clear();
    scores.add_to(perplexity);
    note(fmt::format("chunk {} of {}: PPL = {:.4f}\n", i + 1, chunks, perplexity.estimate().value));
  }
  const qwen::PerplexityEstimate estimate = perplexity.estimate();
  if (!std::isfinite(estimate.value)) {
    throw qwen::Error(
        "the perplexity is infinite: the model gives this text no likelihood at all; get the file "
        "again");
  }
  fmt::print(text_, "Final estimate: PPL = {:.4f} +/- {:.5f}\n", estimate.value, estimate.error);
  std::fflush(text_);
}

void Run::finish() {
  inference_.settle();  // pages for steps that will not come may still be on their way
  report_.statistics = inference_.statistics();
  report_.places = places_;
  note(summary(plan_, report_));
  if (stats_) {
    stats_->write([&](std::ostream& out) {
      out << command_line::to_text(statistics_json(model_, plan_, report_)) << '\n';
    });
    stats_->commit();
  }
  if (trace_file_) {
    trace_file_->write([&](std::ostream& out) { trace_->write(out); });
    trace_file_->commit();
  }
}

}  // namespace

void run(const Options& options) {
  Run run(options);
  const command_line::InterruptGuard interrupts;
  try {
    options.perplexity ? run.measure_perplexity() : run.generate();
  } catch (const command_line::Interrupted&) {
    run.finish();
    throw;
  }
  run.finish();
}

}  // namespace tensor_pager::qwen_prefill
