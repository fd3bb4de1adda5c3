// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <utility>

#include "pager/export.hpp"
#include "pager/types.hpp"

namespace tensor_pager {

/// A wish to be told of something, until it is destroyed or ended: when that call has returned, the
/// listener will not be called again. Move-only.
class TENSOR_PAGER_EXPORT Subscription {
 public:
  Subscription() = default;
  explicit Subscription(std::function<void()> end) : end_(std::move(end)) {}
  Subscription(Subscription&& other) noexcept : end_(std::exchange(other.end_, nullptr)) {}
  Subscription& operator=(Subscription&& other) noexcept {
    if (this == &other) return *this;
    end();
    end_ = std::exchange(other.end_, nullptr);
    return *this;
  }
  ~Subscription() { end(); }

  void end() {
    if (const auto end = std::exchange(end_, nullptr)) end();
  }

 private:
  std::function<void()> end_;
};

/// Where the bytes of the image are on the host. The image is a byte range [0, size()); pages are
/// cut from it.
///
/// All members may be called from several threads at once.
class TENSOR_PAGER_EXPORT BackingStore {
 public:
  BackingStore() = default;
  virtual ~BackingStore() = default;
  BackingStore(const BackingStore&) = delete;
  BackingStore& operator=(const BackingStore&) = delete;

  virtual Bytes size() const = 0;

  /// Copies the image's bytes [offset, offset + out.size()) to `out`.
  /// Throws StoreError if the range leaves the image or if its bytes cannot be read.
  virtual void read(Bytes offset, std::span<std::byte> out) const = 0;

  /// The image as one contiguous host range, or nullptr if there is none.
  virtual const std::byte* data() const { return nullptr; }

  /// How many of the `size` bytes at `offset` a device may read from data() by itself, in one
  /// piece; 0 if that memory is not pinned, and `read` must be used.
  virtual Bytes pinned(Bytes /*offset*/, Bytes /*size*/) const { return {}; }

  /// Where these bytes can be read in host memory by now, in one piece, for as long as the store
  /// lives; nullptr if they cannot, and `read` must be used. Reading there may end the program by a
  /// signal (SIGBUS) if a file was truncated after it was opened.
  /// Throws StoreError if the range leaves the image.
  virtual const std::byte* address(ByteRange /*range*/) const { return nullptr; }

  /// Calls `ready` with ranges of the image, from any thread, until every byte was announced once:
  /// from then on a range can be read without waiting. Whatever is there already is announced
  /// before this returns. Any number of listeners may be told, each of everything.
  [[nodiscard]] virtual Subscription announce(std::function<void(ByteRange)> ready) const {
    ready({Bytes{0}, size()});
    return {};
  }
};

}  // namespace tensor_pager
