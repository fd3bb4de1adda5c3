#pragma once

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "pager/device.hpp"
#include "pager/statistics.hpp"
#include "qwen/memory_plan.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::qwen_prefill {

using Seconds = std::chrono::duration<double>;

/// One phase of a run: prefill or generation.
struct PhaseReport {
  std::uint64_t tokens = 0;
  Seconds time{};
  Seconds stalled{};  ///< of it, time for which there was nothing to do but wait for weights
  /// What the link carried, and what Belady's rule would have copied, during the phase.
  Bytes copied;
  Bytes optimal;
  Seconds link_busy{};

  double tokens_per_second() const;
  /// Bytes per second while the link was busy.
  double link_rate() const;

  void add(const PhaseReport& other);
};

/// How fast a prefill can be at best with the rates measured in it: it takes at least
///   link_s = (bytes that Belady's rule copies) / (bytes copied / time the link was busy)
/// to bring in the weights, and at least
///   compute_s = time - time stalled
/// to multiply with them. The two overlap, so the bound is the larger one, and
///   fraction = max(link_s, compute_s) / time of the prefill
/// says how close the run came; 1 is perfect overlap.
struct Bound {
  double link_s = 0;
  double compute_s = 0;
  double fraction = 0;
};
Bound bound(const PhaseReport& prefill);

/// Everything that there is to say about a run.
struct RunReport {
  /// From the start of the process until the model could run, and until its first step was queued.
  Seconds load{};
  std::optional<Seconds> first_step{};
  PhaseReport prefill;
  PhaseReport decode;
  Statistics statistics;
  DeviceInfo device;
  std::string store;  ///< how the model is kept on the host, and why so
};

/// What is about to run, for people to read.
std::string banner(const qwen::Model& model, const qwen::MemoryPlan& plan, const RunReport& report);
/// How it went: a few lines.
std::string summary(const qwen::MemoryPlan& plan, const RunReport& report);
/// The --stats object.
nlohmann::ordered_json statistics_json(const qwen::Model& model, const qwen::MemoryPlan& plan,
                                       const RunReport& report);

}  // namespace tensor_pager::qwen_prefill
