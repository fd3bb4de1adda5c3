// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "pager/export.hpp"

namespace tensor_pager {

/// A number of bytes. Offsets into an image are Bytes as well.
struct Bytes {
  std::uint64_t count = 0;

  constexpr auto operator<=>(const Bytes&) const = default;
  constexpr Bytes& operator+=(Bytes other) {
    count += other.count;
    return *this;
  }
  constexpr Bytes& operator-=(Bytes other) {
    count -= other.count;
    return *this;
  }
};
constexpr Bytes operator+(Bytes a, Bytes b) {
  return {a.count + b.count};
}
constexpr Bytes operator-(Bytes a, Bytes b) {
  return {a.count - b.count};
}
constexpr Bytes operator*(Bytes a, std::uint64_t n) {
  return {a.count * n};
}
constexpr Bytes operator*(std::uint64_t n, Bytes a) {
  return a * n;
}
/// How many whole `b` fit in `a`.
constexpr std::uint64_t operator/(Bytes a, Bytes b) {
  return a.count / b.count;
}
/// `a` rounded up to a multiple of `unit`.
constexpr Bytes round_up(Bytes a, Bytes unit) {
  return {(a.count + unit.count - 1) / unit.count * unit.count};
}

constexpr Bytes KiB(std::uint64_t n) {
  return {n << 10};
}
constexpr Bytes MiB(std::uint64_t n) {
  return {n << 20};
}
constexpr Bytes GiB(std::uint64_t n) {
  return {n << 30};
}

/// "3.50 GiB", "16 MiB", "512 B": for people to read.
TENSOR_PAGER_EXPORT std::string to_string(Bytes bytes);

/// Bytes [offset, offset + size) of an image.
struct ByteRange {
  Bytes offset;
  Bytes size;

  constexpr Bytes end() const { return offset + size; }
  constexpr auto operator<=>(const ByteRange&) const = default;
};

/// A part of an image that has a name: a tensor, say. Traces and tools show traffic by them.
struct NamedRange {
  std::string name;
  ByteRange bytes;
};

/// An index that cannot be mixed up with an index into something else. `Tag` is never defined.
template <class Tag>
struct Index {
  std::uint32_t value = 0;

  constexpr auto operator<=>(const Index&) const = default;
  constexpr Index& operator++() {
    ++value;
    return *this;
  }
};

/// A page of the address space: bytes [value * page size, (value + 1) * page size) of the image.
using PageIndex = Index<struct PageTag>;
/// A frame of the arena: one page of physical device memory.
using FrameIndex = Index<struct FrameTag>;
/// A step of the access plan.
using StepIndex = Index<struct StepTag>;

/// Pages [first, first + count).
struct PageRun {
  PageIndex first;
  std::uint32_t count = 0;

  auto operator<=>(const PageRun&) const = default;
};

/// How an image is cut into pages. Only the last page may be shorter than the others.
struct PageLayout {
  Bytes image;
  Bytes page;

  constexpr std::uint32_t page_count() const {
    return static_cast<std::uint32_t>(round_up(image, page) / page);
  }
  /// The bytes of the image that are in pages [first, first + count).
  constexpr ByteRange bytes_of(PageIndex first, std::uint32_t count = 1) const {
    const Bytes begin = page * first.value;
    const Bytes end = page * (std::uint64_t{first.value} + count);
    return {begin, (end < image ? end : image) - begin};
  }
};

}  // namespace tensor_pager
