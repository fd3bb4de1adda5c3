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

/// "link 55.3 GB/s, arithmetic 768 TFLOP/s"
std::string describe(const qwen::MachineRates& rates);

}  // namespace tensor_pager::pager_bench
