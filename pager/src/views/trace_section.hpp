// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <iosfwd>

#include "pager/trace.hpp"

namespace tensor_pager {

/// Writes the object "tensor_pager" of a trace file: what is paged, the plans, the frames, and
/// which pages came and went.
class Trace::Section {
 public:
  explicit Section(const Trace& trace) : trace_(trace) {}

  void write(std::ostream& out) const;

 private:
  void write_image(std::ostream& out) const;
  void write_plans(std::ostream& out) const;
  void write_changes(std::ostream& out) const;
  double time(Time at) const;

  const Trace& trace_;
};

}  // namespace tensor_pager
