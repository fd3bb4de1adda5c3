// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "loaders/tokenizer.hpp"
#include "pager/policy_options.hpp"
#include "pager/types.hpp"
#include "qwen/inference.hpp"
#include "qwen/logits_sink.hpp"
#include "qwen/memory_plan.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::qwen {

/// A file of tests/data.
std::filesystem::path test_data(const std::string& name);

/// The float32 numbers of a file.
std::vector<float> read_floats(const std::filesystem::path& path);

/// The token ids of a file, one a line.
std::vector<loaders::TokenId> read_tokens(const std::filesystem::path& path);

/// |a - b| / |b|, 2-norms over all elements.
double relative_error(const std::vector<float>& a, const std::vector<float>& b);

/// Keeps all logits: [wanted, vocabulary].
class AllLogits final : public LogitsSink {
 public:
  AllLogits(std::size_t wanted, std::size_t vocabulary)
      : vocabulary_(vocabulary), values(wanted * vocabulary) {}
  void take(std::size_t first, std::size_t first_token,
            const kernels::ConstMatrixView& logits) override;

 private:
  std::size_t vocabulary_;

 public:
  std::vector<float> values;
};

struct RunOptions {
  Bytes vram = GiB(1);
  std::optional<std::variant<Bytes, Percent>> arena{};
  Bytes page{};
  std::optional<std::uint32_t> ubatch{};
  PolicyOptions policy{};
  bool on_gpu = false;
  /// Layers, bit by bit, whose feed-forward part is computed by processors in generation.
  std::uint32_t layers_on_cpu = 0;
  unsigned threads = 0;              ///< of these processors
  std::uint32_t prefetch_depth = 0;  ///< of generation; 0: the pager's own
};

/// For a run whose prompt's logits are all wanted.
MemoryRequest memory_request(std::size_t tokens, const RunOptions& options);

/// The logits of every token of a prompt.
std::vector<float> prompt_logits(const Model& model, const std::vector<loaders::TokenId>& tokens,
                                 const RunOptions& options = {});

/// The least device memory with which the request's run is possible, as the error says that a run
/// with none of it gets.
Bytes minimum_vram(const Model& model, MemoryRequest request);

/// Processor seconds of all threads of this process over a time in which nothing runs.
double idle_processor_seconds(std::chrono::milliseconds time);

/// Which of the graph's steps are those layers' feed-forward parts.
loaders::Places places_of_layers(const loaders::Graph& graph, std::uint32_t layers_on_cpu);

/// For a run whose first `prompt` tokens are a prompt, and the others are generated.
MemoryRequest generation_request(std::size_t prompt, std::size_t tokens, const RunOptions& options);

/// The logits of every token after the first `prompt` ones, as if they had been generated.
std::vector<float> generated_logits(Inference& inference, const Model& model,
                                    const std::vector<loaders::TokenId>& tokens,
                                    std::size_t prompt);
std::vector<float> generated_logits(const Model& model, const std::vector<loaders::TokenId>& tokens,
                                    std::size_t prompt, const RunOptions& options = {});

/// Prefills the prompt `runs` times while another thread changes the arena at random, between the
/// least that will do and `most`. How many runs had other logits than the first.
int runs_disturbed_by_arena(const Model& model, const std::vector<loaders::TokenId>& tokens,
                            const RunOptions& options, int runs, Bytes most);

}  // namespace tensor_pager::qwen
