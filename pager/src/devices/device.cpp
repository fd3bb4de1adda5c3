// SPDX-License-Identifier: Apache-2.0
#include "pager/device.hpp"

#include <utility>

namespace tensor_pager {

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
