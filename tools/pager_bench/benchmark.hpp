#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "options.hpp"
#include "qwen/inference.hpp"
#include "qwen/model.hpp"
#include "qwen/rates.hpp"

namespace tensor_pager::pager_bench {

/// One combination of the values given.
struct Case {
  std::optional<Bytes> vram;
  std::optional<std::variant<Bytes, qwen::Percent>> arena;
  double link_rate = 0;
  std::uint32_t prompt = 0;     ///< tokens of a prefill, or
  std::uint32_t generated = 0;  ///< tokens generated one by one

  std::uint32_t tokens() const { return prompt + generated; }
};

/// What one run took.
struct Sample {
  double seconds = 0;
  double stalled = 0;  ///< of them
  Bytes copied;
  Bytes optimal;  ///< what Belady's rule would have copied
  double link_busy = 0;
};

struct Row {
  Case what;
  Bytes arena;
  Bytes page;
  Bytes budget;
  Bytes peak;
  std::uint32_t ubatch = 0;
  bool warm = false;         ///< samples begin with what the former left
  qwen::MachineRates rates;  ///< the link's is the imitated one, if that is slower
  double operations = 0;     ///< of one run
  std::vector<Sample> samples;

  std::uint32_t tokens() const { return what.tokens(); }
  /// Of all samples, the one whose time is in the middle, or the faster of two.
  const Sample& median() const;
  /// No run can be faster: the larger of optimal bytes over the link and operations at the
  /// arithmetic rate, in seconds.
  double bound_seconds() const;
};

/// The cross product: prompts first, then generation.
std::vector<Case> cases_of(const Options& options);

/// Measures one case after another, on a model that stays open.
class Benchmark {
 public:
  /// Measures the machine's rates. `model` and `options` outlive it.
  Benchmark(const qwen::Model& model, const Options& options);

  const qwen::MachineRates& rates() const { return rates_; }
  bool on_gpu() const { return gpu_; }
  /// Of one case, those that warm up among them.
  std::uint32_t runs() const;
  /// Throws what the parts throw: MemoryError if the case does not fit. `progress` is called with
  /// parts of all runs that are done, and how many there are.
  Row run(const Case& what, const qwen::PassProgress& progress);

 private:
  qwen::Backend backend(const Case& what);
  qwen::MemoryPlan plan(const Case& what, const qwen::Backend& backend) const;
  Sample prefill(qwen::Inference& inference, const qwen::PassProgress& progress) const;
  Sample generate(qwen::Inference& inference, std::uint32_t tokens,
                  const qwen::PassProgress& progress) const;
  loaders::TokenId token(std::size_t index) const;

  const qwen::Model& model_;
  const Options& options_;
  bool gpu_;
  qwen::MachineRates rates_;
  std::shared_ptr<const BackingStore> store_;  // pinned once
};

}  // namespace tensor_pager::pager_bench
