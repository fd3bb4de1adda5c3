// SPDX-License-Identifier: Apache-2.0
#include "faulty_device.hpp"

#include <exception>

#include "pager/errors.hpp"

namespace tensor_pager::testing {

std::optional<std::string> FaultPlan::next(FaultSite site) {
  const std::lock_guard lock(mutex_);
  seen_.insert(site);
  if (++calls_ != fails_) return std::nullopt;
  injected_ = std::string("injected: ") + kFaultSites.at(static_cast<std::size_t>(site)).second +
              ", call " + std::to_string(calls_);
  return injected_;
}

std::uint64_t FaultPlan::calls() const {
  const std::lock_guard lock(mutex_);
  return calls_;
}

std::set<FaultSite> FaultPlan::seen() const {
  const std::lock_guard lock(mutex_);
  return seen_;
}

std::string FaultPlan::injected() const {
  const std::lock_guard lock(mutex_);
  return injected_;
}

void FaultyRange::reserve(const PageLayout& layout) {
  plan_.pass<DeviceError>(FaultSite::reserve);
  range_.reserve(layout);
}

void FaultyRange::create_frame(FrameIndex frame) {
  plan_.pass<DeviceError>(FaultSite::create_frame);
  range_.create_frame(frame);
}

void FaultyRange::destroy_frame(FrameIndex frame) {
  plan_.pass<DeviceError>(FaultSite::destroy_frame);
  range_.destroy_frame(frame);
}

void FaultyRange::map(PageIndex first, std::span<const FrameIndex> frames) {
  plan_.pass<DeviceError>(FaultSite::map);
  range_.map(first, frames);
}

void FaultyRange::unmap(PageIndex first, std::uint32_t count) {
  plan_.pass<DeviceError>(FaultSite::unmap);
  range_.unmap(first, count);
}

CopyId FaultyCopies::copy(const BackingStore& store, PageRun pages) {
  plan_.pass<DeviceError>(FaultSite::copy);
  return copies_.copy(store, pages);
}

std::optional<EndedCopy> FaultyCopies::take_ended() {
  plan_.pass<DeviceError>(FaultSite::take_ended);
  std::optional<EndedCopy> ended = copies_.take_ended();
  if (!ended) return ended;
  if (const auto fault = plan_.next(FaultSite::ended_copy))
    ended->failure = std::make_exception_ptr(DeviceError(*fault));
  return ended;
}

void FaultyCopies::wait(StreamRef stream, CopyId copy) {
  plan_.pass<DeviceError>(FaultSite::wait);
  copies_.wait(stream, copy);
}

StreamId FaultyClock::identify(StreamRef stream) const {
  plan_.pass<DeviceError>(FaultSite::identify);
  return clock_.identify(stream);
}

std::optional<FenceId> FaultyClock::record(StreamRef stream) {
  plan_.pass<DeviceError>(FaultSite::record);
  return clock_.record(stream);
}

std::vector<FenceId> FaultyClock::take_passed() {
  plan_.pass<DeviceError>(FaultSite::take_passed);
  return clock_.take_passed();
}

StampId FaultyClock::stamp(StreamRef stream) {
  plan_.pass<DeviceError>(FaultSite::stamp);
  return clock_.stamp(stream);
}

std::optional<Trace::Time> FaultyClock::take_stamp(StampId stamp) {
  plan_.pass<DeviceError>(FaultSite::take_stamp);
  return clock_.take_stamp(stamp);
}

FaultyDevice::FaultyDevice(std::unique_ptr<Device> device, std::shared_ptr<FaultPlan> plan,
                           std::function<void(MemoryStatistics)> last_memory)
    : device_(std::move(device)),
      plan_(std::move(plan)),
      last_memory_(std::move(last_memory)),
      range_(device_->range(), *plan_),
      copies_(device_->copies(), *plan_),
      clock_(device_->clock(), *plan_) {}

FaultyDevice::~FaultyDevice() {
  last_memory_(device_->memory());
}

std::byte* FaultyDevice::allocate_memory(Bytes size) {
  plan_->pass<DeviceError>(FaultSite::allocate);
  DeviceBuffer buffer = device_->allocate(size);
  std::byte* const data = buffer.data();
  const std::lock_guard lock(mutex_);
  buffers_.emplace(data, std::move(buffer));
  return data;
}

void FaultyDevice::free_memory(std::byte* data, Bytes /*size*/) noexcept {
  const std::lock_guard lock(mutex_);
  buffers_.erase(data);
}

void FaultyStore::read(Bytes offset, std::span<std::byte> out) const {
  plan_->pass<StoreError>(FaultSite::read);
  store_->read(offset, out);
}

}  // namespace tensor_pager::testing
