// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "options.hpp"
#include "qwen/generation_placement.hpp"
#include "qwen/inference.hpp"
#include "qwen/model.hpp"
#include "qwen/process_usage.hpp"
#include "qwen/rates.hpp"

namespace tensor_pager::pager_bench {

/// Two measurements of the same thing differ by no more on a machine that does nothing else.
constexpr double kAgreement = 0.15;

/// One combination of the values given.
struct Case {
  std::optional<Bytes> vram{};
  std::optional<std::variant<Bytes, qwen::Percent>> arena{};
  double link_rate = 0;
  std::uint32_t prompt = 0;     ///< tokens of a prefill, or
  std::uint32_t generated = 0;  ///< tokens generated one by one
  std::uint32_t sequences = 1;  ///< of generation, a token of each at a time
  std::uint32_t depth = 0;      ///< tokens of each before generation

  std::uint32_t tokens() const { return prompt + generated * sequences; }
  /// "pp512", or "tg64", "tg64@4096" behind so many tokens, "tg64x8" for 8 sequences.
  std::string name() const;
  /// "pp512 with --arena 25%", for messages.
  std::string text() const;
};

/// What one run took.
struct Sample {
  double seconds = 0;
  double stalled = 0;  ///< of them
  Bytes copied;
  Bytes optimal;  ///< what Belady's rule would have copied
  double link_busy = 0;
  qwen::ProcessUsage usage;
};

/// What no run can do without, in seconds at the machine's rates.
struct Bound {
  double link = 0;        ///< to copy what Belady's rule copies
  double memory = 0;      ///< to read weights, keys and values from the device's memory
  double arithmetic = 0;  ///< to multiply with them
  /// Instead of these, where the processors may compute, too: PlacementPrediction::bound.
  double joint = 0;

  double seconds() const;
};

struct Row {
  Case what;
  Bytes arena;
  Bytes page;
  Bytes budget;
  Bytes peak;
  std::uint32_t ubatch = 0;
  bool warm = false;  ///< samples begin with what the former left
  /// The better of what was measured before and after. The link's is the imitated one, if that is
  /// slower.
  qwen::MachineRates rates;
  double disagreement = 0;  ///< of the two measurements
  double operations = 0;    ///< of one run
  /// Of generation, if it was asked where it shall run.
  std::optional<qwen::ChosenPlaces> places{};
  qwen::PlaceWish place{};                  ///< of generation
  std::vector<std::uint32_t> cpu_layers{};  ///< whose feed-forward part processors compute
  /// Of generation: what placement knows of the machine, the link as slow as it was imitated.
  std::optional<loaders::PlacementRates> placement_rates{};
  /// Weights, keys and values that one run reads, beyond what caches may keep from pass to pass.
  double read_bytes = 0;
  std::vector<Sample> samples;

  std::uint32_t tokens() const { return what.tokens(); }
  /// Of all samples, the one whose time is in the middle, or the faster of two.
  const Sample& median() const;
  Bound bound() const;
  /// Whether generation was placed, and link or processors read weights for it.
  bool shares_host_memory() const;
  /// The bound as a share of the median; 1 is as fast as the machine allows.
  double fraction() const { return bound().seconds() / median().seconds; }
  /// What the row's time is made of most: "link", "memory" or "arithmetic", whichever bound is the
  /// largest, "link and CPU" if both may work, or "disk" if copies had to wait for it.
  std::string limit() const;
  /// Why the row is not to be trusted; else empty.
  std::string doubt() const;
};

/// What the device can do now. Throws qwen::Error if there is no such device.
qwen::MachineRates measure_rates(const command_line::ModelOptions& options);
/// "CUDA" or "host": where these options run a model.
std::string device_name(const command_line::ModelOptions& options);

/// The cross product: prompts first, then generation.
std::vector<Case> cases_of(const Options& options);

/// Measures one case after another, on a model that stays open.
class Benchmark {
 public:
  /// Measures the machine's rates, and again after each case: what they say of it holds only while
  /// they are the same. `model` and `options` outlive it.
  Benchmark(const qwen::Model& model, const Options& options);

  const qwen::MachineRates& rates() const { return rates_; }
  /// Of one case, those that warm up among them.
  std::uint32_t runs() const;
  /// Throws what the parts throw: MemoryError if the case does not fit. `progress` is called with
  /// parts of all runs that are done, and how many there are.
  Row run(const Case& what, const qwen::PassProgress& progress);

 private:
  qwen::Backend backend(const Case& what);
  qwen::MemoryPlan plan(const Case& what, const qwen::Backend& backend) const;
  bool is_placement_asked() const;
  const qwen::PlacementMeasurements& measured_placement(std::uint32_t sequences,
                                                        const qwen::MemoryPlan& memory,
                                                        const qwen::Backend& made);
  void place(Row& row, const qwen::MemoryPlan& memory, const qwen::Backend& made);
  void measure(Row& row, qwen::MemoryPlan memory, qwen::Backend made,
               const qwen::PassProgress& progress);
  Sample prefill(qwen::Inference& inference, const qwen::PassProgress& progress) const;
  std::vector<qwen::SequenceId> begin_sequences(qwen::Inference& inference, const Case& what) const;
  Sample generate(qwen::Inference& inference, const std::vector<qwen::SequenceId>& sequences,
                  const Case& what, const qwen::PassProgress& progress) const;
  loaders::TokenId token(std::size_t index) const;

  const qwen::Model& model_;
  const Options& options_;
  bool gpu_;
  qwen::MachineRates rates_;
  std::shared_ptr<const BackingStore> store_;                         // pinned once
  std::map<std::uint32_t, qwen::PlacementMeasurements> placement_{};  // by sequences
};

}  // namespace tensor_pager::pager_bench
