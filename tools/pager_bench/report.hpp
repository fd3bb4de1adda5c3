// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "benchmark.hpp"
#include "options.hpp"

namespace tensor_pager::pager_bench {

/// Prints rows as they are measured, on stdout.
class Report {
 public:
  virtual ~Report() = default;
  virtual void begin() {}
  virtual void add(const Row& row) = 0;
  virtual void end() {}
};

/// Names and fields are llama-bench's where it has them.
std::unique_ptr<Report> make_report(Format format, const qwen::Model& model,
                                    const std::string& device);

/// "link 55.3 GB/s, memory 2800 GB/s, arithmetic 768 TFLOP/s"
std::string describe(const qwen::MachineRates& rates);

/// The better of two measurements of a machine, with a word of doubt if they differ: a line, or
/// JSON that pager_sim --machine reads.
std::string calibration(Format format, const std::string& device, const qwen::MachineRates& first,
                        const qwen::MachineRates& second);

}  // namespace tensor_pager::pager_bench
