// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "pager/device.hpp"
#include "pager/statistics.hpp"
#include "qwen/generation_placement.hpp"
#include "qwen/memory_plan.hpp"
#include "qwen/model.hpp"
#include "qwen/process_usage.hpp"

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
  qwen::ProcessUsage usage;

  double tokens_per_second() const;
  /// Bytes per second while the link was busy.
  double link_rate() const;

  void add(const PhaseReport& other);
};

/// What a prefill waited for. At the rates that it had itself, it takes
///   link_s = (bytes that Belady's rule copies) / (bytes copied / time the link was busy)
/// to bring in the weights, and
///   compute_s = time - time stalled
/// to multiply with them. The two overlap, and the longer one is the limit:
///   fraction = max(link_s, compute_s) / time of the prefill
/// says how well they did; 1 is perfect. It says nothing about how fast link and processors could
/// have been: that is pager_bench's to measure.
struct Bound {
  /// What most of the time went into. handover: neither half of it; threads waited for one another,
  /// or for processors. none: nothing was computed.
  enum class Limit { none, link, disk, compute, handover };

  double link_s = 0;
  double compute_s = 0;
  double fraction = 0;
  Limit limit = Limit::none;
  double waited = 0;  ///< of the time: what more memory for weights could save, at most
  std::string doubt;  ///< why the times say little about this machine; else empty
};
Bound bound(const PhaseReport& prefill);
const char* to_string(Bound::Limit limit);

/// Everything that there is to say about a run.
struct RunReport {
  /// From the start of the process until the model could run, and until its first step was queued.
  Seconds load{};
  std::optional<Seconds> first_step{};
  PhaseReport prefill;
  PhaseReport decode;
  /// Where an interrupt ended the run: "in prefill, after 13 of 26 steps". Empty: it was completed.
  std::string interrupted;
  Statistics statistics;
  DeviceInfo device;
  std::optional<qwen::ChosenPlaces> places{};  ///< of generation, if it was asked for
  std::string store;                           ///< how the model is kept on the host, and why so
};

/// What is about to run, for people to read.
std::string banner(const qwen::Model& model, const qwen::MemoryPlan& plan, const RunReport& report);
/// How it went: a few lines.
std::string summary(const qwen::MemoryPlan& plan, const RunReport& report);
/// The --stats object.
nlohmann::ordered_json statistics_json(const qwen::Model& model, const qwen::MemoryPlan& plan,
                                       const RunReport& report);

}  // namespace tensor_pager::qwen_prefill
