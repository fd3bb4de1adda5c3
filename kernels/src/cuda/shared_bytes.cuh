// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

// Bytes in shared memory, as the formats' decode() reads them: by 32-bit addresses, whose offsets
// cost nothing, where pointers would have 64 bits and be taken apart at every load. The loads keep
// their places among copies to shared memory, which are volatile too.

namespace tensor_pager::kernels::cuda {

namespace shared {

template <class T>
__device__ inline T load(std::uint32_t address) {
  return *static_cast<const T*>(__cvta_shared_to_generic(address));
}
__device__ inline std::uint32_t word(std::uint32_t address) {
  return load<std::uint32_t>(address);
}
__device__ inline uint2 two_words(std::uint32_t address) {
  return load<uint2>(address);
}
__device__ inline uint4 four_words(std::uint32_t address) {
  return load<uint4>(address);
}
__device__ inline std::uint16_t half(std::uint32_t address) {
  return load<std::uint16_t>(address);
}
__device__ inline std::uint32_t byte(std::uint32_t address) {
  return load<std::uint8_t>(address);
}

}  // namespace shared

/// Where bytes begin. The block that they are of begins at a multiple of kAlign.
template <int kAlign>
class SharedBytes {
 public:
  __device__ explicit SharedBytes(std::uint32_t address) : address_(address) {}
  __device__ SharedBytes operator+(int bytes) const {
    return SharedBytes(address_ + static_cast<unsigned>(bytes));
  }
  __device__ std::uint32_t operator[](int i) const {
    return shared::byte(address_ + static_cast<unsigned>(i));
  }
  __device__ std::uint32_t address() const { return address_; }
  __device__ std::uint32_t word(unsigned i = 0) const {
    if constexpr (kAlign >= 4) return shared::word(address_ + 4 * i);
    const std::uint32_t first = (address_ & ~3U) + 4 * i;
    return __funnelshift_r(shared::word(first), shared::word(first + 4), 8 * (address_ & 3U));
  }

 private:
  std::uint32_t address_;
};

/// At even addresses: a word is in two, shifted by none or by half of one.
template <>
class SharedBytes<2> {
 public:
  __device__ explicit SharedBytes(std::uint32_t address)
      : words_(address & ~3U), shift_(8 * (address & 2U)) {}
  __device__ SharedBytes operator+(int bytes) const {
    const auto n = static_cast<unsigned>(bytes);
    if ((n & 2U) == 0) return {words_ + n, shift_};
    return {words_ + n - 2 + (shift_ >> 2), 16 - shift_};
  }
  __device__ std::uint32_t operator[](int i) const {
    return shared::byte(address() + static_cast<unsigned>(i));
  }
  __device__ std::uint32_t address() const { return words_ + (shift_ >> 3); }
  __device__ std::uint32_t word(unsigned i = 0) const {
    return __funnelshift_r(shared::word(words_ + 4 * i), shared::word(words_ + 4 * i + 4), shift_);
  }

 private:
  __device__ SharedBytes(std::uint32_t words, std::uint32_t shift) : words_(words), shift_(shift) {}
  std::uint32_t words_, shift_;
};

}  // namespace tensor_pager::kernels::cuda
