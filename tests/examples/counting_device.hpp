// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "pager/device.hpp"

namespace tensor_pager::tests {

/// Memory that a device was asked for, counted by what it was asked and not by the device itself.
/// Thread-safe.
class HeldMemory {
 public:
  void add_frames(Bytes size) { add(frames_, size); }
  void add_buffer(Bytes size) { add(buffers_, size); }
  void remove_frames(Bytes size) { remove(frames_, size); }
  void remove_buffer(Bytes size) { remove(buffers_, size); }

  Bytes frames() const { return get(frames_); }
  Bytes buffers() const { return get(buffers_); }
  /// The most that frames and buffers were at any time since the last call.
  Bytes take_peak() {
    const std::lock_guard lock(mutex_);
    return std::exchange(peak_, frames_ + buffers_);
  }

 private:
  void add(Bytes& what, Bytes size) {
    const std::lock_guard lock(mutex_);
    what += size;
    peak_ = std::max(peak_, frames_ + buffers_);
  }
  void remove(Bytes& what, Bytes size) {
    const std::lock_guard lock(mutex_);
    what -= size;
  }
  Bytes get(const Bytes& what) const {
    const std::lock_guard lock(mutex_);
    return what;
  }

  mutable std::mutex mutex_;
  Bytes frames_;
  Bytes buffers_;
  Bytes peak_;
};

/// Passes everything on to another range, and counts frames.
class CountingRange final : public AddressRange {
 public:
  CountingRange(AddressRange& range, HeldMemory& held) : range_(range), held_(held) {}
  // What is left goes with the device.
  ~CountingRange() override { held_.remove_frames(page_ * frames_); }

  void reserve(const PageLayout& layout) override {
    page_ = layout.page;
    range_.reserve(layout);
  }
  std::byte* base() const override { return range_.base(); }
  void create_frame(FrameIndex frame) override {
    held_.add_frames(page_);
    ++frames_;
    range_.create_frame(frame);
  }
  void destroy_frame(FrameIndex frame) override {
    range_.destroy_frame(frame);
    --frames_;
    held_.remove_frames(page_);
  }
  void map(PageIndex first, std::span<const FrameIndex> frames) override {
    range_.map(first, frames);
  }
  void unmap(PageIndex first, std::uint32_t count) override { range_.unmap(first, count); }

 private:
  AddressRange& range_;
  HeldMemory& held_;
  Bytes page_;
  std::uint64_t frames_ = 0;
};

/// A device that counts what it is asked to hold. `held` outlives it.
class CountingDevice final : public Device {
 public:
  CountingDevice(std::unique_ptr<Device> device, HeldMemory& held)
      : device_(std::move(device)), held_(held), range_(device_->range(), held) {}

  DeviceInfo info() const override { return device_->info(); }
  AddressRange& range() override { return range_; }
  CopyEngine& copies() override { return device_->copies(); }
  StreamClock& clock() override { return device_->clock(); }
  void on_progress(std::function<void()> notify) override {
    device_->on_progress(std::move(notify));
  }
  LinkStatistics link() const override { return device_->link(); }
  MemoryStatistics memory() const override { return device_->memory(); }

 protected:
  std::byte* allocate_memory(Bytes size) override {
    held_.add_buffer(size);
    DeviceBuffer buffer = device_->allocate(size);
    std::byte* const data = buffer.data();
    buffers_.emplace(data, std::move(buffer));
    return data;
  }
  void free_memory(std::byte* data, Bytes size) noexcept override {
    buffers_.erase(data);
    held_.remove_buffer(size);
  }

 private:
  const std::unique_ptr<Device> device_;
  HeldMemory& held_;
  CountingRange range_;
  std::map<std::byte*, DeviceBuffer> buffers_;
};

}  // namespace tensor_pager::tests
