// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "birthplace.hpp"
#include "devices/progress.hpp"
#include "pager/device.hpp"

namespace tensor_pager {

/// Markers in HostStreams. The null stream is the calling thread: its work is done when it gets
/// here.
class HostStreamClock final : public StreamClock {
 public:
  explicit HostStreamClock(std::shared_ptr<Progress> progress);

  StreamId identify(StreamRef stream) const override;
  std::optional<FenceId> record(StreamRef stream) override;
  std::vector<FenceId> take_passed() override;
  StampId stamp(StreamRef stream) override;
  std::optional<Trace::Time> take_stamp(StampId stamp) override;

 private:
  class Passed;
  void require_here() const { birthplace_.require_here("this host device"); }

  const Birthplace birthplace_;
  const std::shared_ptr<Passed> passed_;  // markers that are queued still have it too
};

}  // namespace tensor_pager
