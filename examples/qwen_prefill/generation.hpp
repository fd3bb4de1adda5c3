// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "loaders/tokenizer.hpp"
#include "options.hpp"
#include "ordered_texts.hpp"
#include "qwen/inference.hpp"
#include "qwen/logits_sink.hpp"
#include "qwen/model.hpp"
#include "qwen/sampler.hpp"
#include "qwen/saved_session.hpp"
#include "report.hpp"
#include "token_text.hpp"
#include "watched_store.hpp"

namespace tensor_pager::qwen_prefill {

/// What a generation is made of. All of it outlives the generation.
struct GenerationResources {
  const Options& options;
  const qwen::Model& model;
  const qwen::SamplerOptions& sampling;
  const WatchedStore& store;
  qwen::Inference& inference;
  RunReport& report;
  std::FILE* text;
  qwen::SavedSession* session = nullptr;            ///< that the prompt goes on from
  output::ReplacementFile* session_file = nullptr;  ///< that the prompt's session is written to
};

/// Prefills prompts and continues them, as many at a time as the inference has sequences: all of
/// these get a token in one pass.
class Generation {
 public:
  /// One prompt is continued `texts` times; of several, each once. The prompts outlive the
  /// generation. Throws OutputError if the file for logits, which are those of one prompt, cannot
  /// be written.
  Generation(const GenerationResources& resources,
             const std::vector<std::vector<loaders::TokenId>>& prompts, std::size_t texts);

  /// Throws command_line::Interrupted when what there is has been written.
  void run();

 private:
  /// A prompt's text as it goes on.
  struct Continuation {
    std::size_t index;
    qwen::SequenceId sequence;
    qwen::Sampler sampler;
    TokenText text;
    loaders::TokenId token = 0;  // chosen last
    bool is_written = false;     // that token
    std::uint32_t generated = 0;
    bool is_cut = false;  // for want of context
  };

  void begin_from_one();
  void save(qwen::SequenceId sequence);
  void begin_more();
  bool has_room() const;
  void prefill(qwen::SequenceId sequence, std::span<const loaders::TokenId> prompt,
               qwen::LogitsSink& sink);
  void begin(std::size_t index, qwen::SequenceId sequence, std::span<const float> logits);
  void go_on();
  void write_all();
  bool write(Continuation& continuation);
  void end(Continuation& continuation);
  void advance();
  std::uint64_t generated() const;
  void note_interrupt();
  void say_that_context_is_full(const Continuation& continuation) const;

  GenerationResources with_;
  const std::vector<std::vector<loaders::TokenId>>& prompts_;
  OrderedTexts texts_;
  qwen::LastLogits first_logits_;  // of a prompt that is alone
  std::optional<qwen::LogitsFile> logits_file_;
  std::size_t begun_ = 0;                               // of the texts
  std::vector<std::unique_ptr<Continuation>> present_;  // those that go on
  std::uint64_t ended_tokens_ = 0;                      // of those that do not
};

}  // namespace tensor_pager::qwen_prefill
