// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "command_line/interrupt.hpp"
#include "qwen/inference.hpp"
#include "qwen/process_usage.hpp"
#include "report.hpp"

namespace tensor_pager::qwen_prefill {

/// Adds what the process uses while it lives to a phase.
class UsageMeter {
 public:
  explicit UsageMeter(PhaseReport& phase) : phase_(phase), before_(qwen::process_usage()) {}
  ~UsageMeter() { phase_.usage = phase_.usage + (qwen::process_usage() - before_); }
  UsageMeter(const UsageMeter&) = delete;
  UsageMeter& operator=(const UsageMeter&) = delete;

 private:
  PhaseReport& phase_;
  const qwen::ProcessUsage before_;
};

/// Adds what happens during `work`, which is worth so many tokens, to a phase, also if an interrupt
/// ends it: then no token is done. With `settled` all of it is counted, and the next phase begins
/// when it is over.
template <class Work>
void measure(qwen::Inference& inference, PhaseReport& phase, std::uint64_t tokens, bool settled,
             const Work& work) {
  using Clock = std::chrono::steady_clock;
  const Statistics before = inference.statistics();
  const auto begin = Clock::now();
  const auto finish = [&](std::uint64_t done) {
    PhaseReport part;
    part.tokens = done;
    part.time = Clock::now() - begin;
    if (settled) inference.settle();  // stalls are known when the stream has passed them
    const Statistics after = inference.statistics();
    part.stalled = after.stalled - before.stalled;
    part.copied = after.link.copied - before.link.copied;
    part.optimal = after.core.optimal - before.core.optimal;
    part.link_busy = after.link.busy - before.link.busy;
    phase.add(part);
  };
  try {
    work();
  } catch (const command_line::Interrupted&) {
    finish(0);
    throw;
  }
  finish(tokens);
}

}  // namespace tensor_pager::qwen_prefill
