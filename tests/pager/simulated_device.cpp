// SPDX-License-Identifier: Apache-2.0
#include "simulated_device.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "pager/errors.hpp"

namespace tensor_pager::testing {

namespace {

void require(bool holds, const std::string& what) {
  if (!holds) throw std::logic_error("simulated device: " + what);
}

}  // namespace

void SimulatedDevice::may_fail(const char* call) const {
  if (fault(call)) throw DeviceError(std::string("simulated: ") + call + " failed");
}

void SimulatedDevice::reserve(const PageLayout&) {
  may_fail("reserve");
}

void SimulatedDevice::create_frame(FrameIndex frame) {
  may_fail("create_frame");
  require(frames_.emplace(frame, Frame{}).second, "a frame is created twice");
}

void SimulatedDevice::destroy_frame(FrameIndex frame) {
  may_fail("destroy_frame");
  const auto found = frames_.find(frame);
  require(found != frames_.end(), "a frame that does not exist is destroyed");
  require(!found->second.writing, "a frame is destroyed while a copy writes it");
  require(found->second.readers == 0, "a frame is destroyed while work reads it");
  for (const auto& [page, mapped] : mapped_) {
    require(mapped != frame, "a destroyed frame is still mapped");
  }
  frames_.erase(found);
}

void SimulatedDevice::require_unread(PageIndex page, const std::string& action) {
  require(readers_[page] == 0, "a page is " + action + " while work reads it");
  for (const std::deque<Operation>& stream : streams_) {
    for (const Operation& operation : stream) {
      require(std::ranges::count(operation.pages, page) == 0 || !mapped_.contains(page) ||
                  frame_of(page).content != page,
              "a page is " + action + " that queued work is going to read");
    }
  }
}

void SimulatedDevice::map(PageIndex first, std::span<const FrameIndex> frames) {
  may_fail("map");
  for (const FrameIndex frame : frames) {
    require(frames_.contains(frame), "a page is mapped to a frame that does not exist");
    if (mapped_.contains(first) && mapped_.at(first) != frame) require_unread(first, "moved");
    mapped_[first] = frame;
    ++first;
  }
}

void SimulatedDevice::unmap(PageIndex first, std::uint32_t count) {
  may_fail("unmap");
  for (; count > 0; --count, ++first) {
    require_unread(first, "unmapped");
    mapped_.erase(first);
  }
}

SimulatedDevice::Frame& SimulatedDevice::frame_of(PageIndex page) {
  const auto mapped = mapped_.find(page);
  require(mapped != mapped_.end(), "a page is used that is not mapped");
  return frames_.at(mapped->second);
}

CopyId SimulatedDevice::copy(const BackingStore&, PageRun pages) {
  may_fail("copy");
  for (std::uint32_t k = 0; k < pages.count; ++k) {
    Frame& frame = frame_of({pages.first.value + k});
    require(!frame.writing, "a frame is written by two copies");
    // What a failed copy left may be read meanwhile: that work has failed.
    require(frame.readers == 0 || frame.spoilt, "a frame is written while work reads it");
    for (const std::deque<Operation>& stream : streams_) {
      for (const Operation& operation : stream) {
        for (const PageIndex page : operation.pages) {
          require(&frame_of(page) != &frame || frame.content != page,
                  "a frame is written that queued work is going to read");
        }
      }
    }
    frame.content.reset();
    frame.spoilt = frame.spoilt && frame.readers != 0;
    frame.writing = true;
  }
  under_way_.push_back({CopyId{++last_copy_}, pages});
  return under_way_.back().id;
}

void SimulatedDevice::end_copy(bool well) {
  const Copy copy = under_way_.front();
  under_way_.pop_front();
  for (std::uint32_t k = 0; k < copy.pages.count; ++k) {
    const PageIndex page{copy.pages.first.value + k};
    Frame& frame = frame_of(page);
    frame.writing = false;
    frame.spoilt = !well;
    if (well) frame.content = page;
  }
  EndedCopy ended{.id = copy.id, .failure = nullptr};
  if (!well) ended.failure = std::make_exception_ptr(StoreError("simulated: a copy failed"));
  ended_.push_back(std::move(ended));
  if (on_copy_ended) on_copy_ended(copy.id, well);
  announce();
}

std::optional<EndedCopy> SimulatedDevice::take_ended() {
  may_fail("take_ended");
  if (ended_.empty()) return std::nullopt;
  EndedCopy copy = std::move(ended_.front());
  ended_.pop_front();
  return copy;
}

void SimulatedDevice::wait(StreamRef stream, CopyId copy) {
  may_fail("wait");
  const auto waits = [&] { return !under_way_.empty() && under_way_.front().id <= copy; };
  const std::uint32_t index = index_of(stream);
  if (index == 0) {
    while (waits()) end_copy(!fault("the copy"));
  } else {
    streams_[index].push_back(
        {.kind = Operation::Kind::wait, .id = static_cast<std::uint64_t>(copy)});
  }
}

std::optional<FenceId> SimulatedDevice::record(StreamRef stream) {
  may_fail("record");
  const std::uint32_t index = index_of(stream);
  if (captured_[index]) throw Error("simulated: the stream is being captured");
  if (index == 0) return std::nullopt;
  streams_[index].push_back({.kind = Operation::Kind::fence, .id = ++last_mark_});
  return FenceId{last_mark_};
}

std::vector<FenceId> SimulatedDevice::take_passed() {
  may_fail("take_passed");
  return std::exchange(passed_, {});
}

StampId SimulatedDevice::stamp(StreamRef stream) {
  may_fail("stamp");
  const StampId id{++last_mark_};
  const std::uint32_t index = index_of(stream);
  if (index == 0) {
    stamped_.insert(id);
    announce();
  } else {
    streams_[index].push_back({.kind = Operation::Kind::stamp, .id = last_mark_});
  }
  return id;
}

std::optional<Trace::Time> SimulatedDevice::take_stamp(StampId stamp) {
  may_fail("take_stamp");
  if (stamped_.erase(stamp) == 0) return std::nullopt;
  return Trace::Time{};
}

bool SimulatedDevice::advance(std::uint32_t stream) {
  std::deque<Operation>& queue = streams_[stream];
  if (queue.empty()) return false;
  Operation& operation = queue.front();
  switch (operation.kind) {
    case Operation::Kind::wait:
      if (!under_way_.empty() && under_way_.front().id <= CopyId{operation.id}) return false;
      break;
    case Operation::Kind::work:
      if (!std::exchange(operation.begun, true)) {
        begin_reading(stream, operation.lease, operation.pages);
        return true;
      }
      end_reading(operation.pages);
      break;
    case Operation::Kind::fence:
      passed_.push_back(FenceId{operation.id});
      break;
    case Operation::Kind::stamp:
      stamped_.insert(StampId{operation.id});
      break;
  }
  const bool news =
      operation.kind == Operation::Kind::fence || operation.kind == Operation::Kind::stamp;
  queue.pop_front();
  if (news) announce();
  return true;
}

void SimulatedDevice::launch(std::uint32_t stream, LeaseId lease, std::vector<PageIndex> pages) {
  streams_[stream].push_back(
      {.kind = Operation::Kind::work, .id = 0, .lease = lease, .pages = std::move(pages)});
}

void SimulatedDevice::read(std::uint32_t stream, LeaseId lease, std::span<const PageIndex> pages) {
  begin_reading(stream, lease, pages);
  end_reading(pages);
}

/// What is read is the page, or what a failed copy left of it.
void SimulatedDevice::begin_reading(std::uint32_t stream, LeaseId lease,
                                    std::span<const PageIndex> pages) {
  bool garbage = false;
  for (const PageIndex page : pages) {
    Frame& frame = frame_of(page);
    // The work of a lease whose copy failed, while the page is tried again.
    const bool again = frame.writing && copy_under_way(page).has_value();
    require(!frame.writing || again, "work reads a page whose frame another page is copied to");
    require(again || frame.spoilt || frame.content == page, "work reads another page's content");
    garbage = garbage || again || frame.spoilt;
    ++frame.readers;
    ++readers_[page];
  }
  if (garbage && on_garbage) on_garbage(stream, lease);
}

void SimulatedDevice::end_reading(std::span<const PageIndex> pages) {
  for (const PageIndex page : pages) {
    --frame_of(page).readers;
    --readers_[page];
  }
}

std::optional<CopyId> SimulatedDevice::copy_under_way(PageIndex page) const {
  for (const Copy& copy : under_way_) {
    if (page >= copy.pages.first && page.value < copy.pages.first.value + copy.pages.count)
      return copy.id;
  }
  return std::nullopt;
}

bool SimulatedDevice::reads_queued() const {
  return std::ranges::any_of(streams_, [](const std::deque<Operation>& stream) {
    return std::ranges::any_of(
        stream, [](const Operation& operation) { return operation.kind == Operation::Kind::work; });
  });
}

}  // namespace tensor_pager::testing
