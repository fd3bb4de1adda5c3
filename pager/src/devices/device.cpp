#include "pager/device.hpp"

#include <utility>

namespace tensor_pager {

void Device::map_run(PageIndex first, std::span<const FrameIndex> frames) {
  for (const FrameIndex frame : frames) {
    map(first, frame);
    ++first;
  }
}

void Device::unmap_run(PageIndex first, std::uint32_t count) {
  for (const std::uint32_t end = first.value + count; first.value < end; ++first) unmap(first);
}

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : device_(std::exchange(other.device_, nullptr)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, {})) {}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

DeviceBuffer::~DeviceBuffer() {
  if (device_ != nullptr) device_->free_memory(data_, size_);
}

DeviceBuffer Device::allocate(Bytes size) {
  if (size == Bytes{0}) return {};
  return {*this, allocate_memory(size), size};
}

}  // namespace tensor_pager
