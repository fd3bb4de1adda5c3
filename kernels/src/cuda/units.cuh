// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/formats.cuh"

// What kernels need to decode units of any format: one with a code book has to have it in shared
// memory first.

namespace tensor_pager::kernels::cuda {

struct NoBook {};

template <class Format>
constexpr bool kHasBook = requires {
  Format::book();
};

/// The format's code book in shared memory. All threads of the block take part.
template <class Format>
__device__ decltype(auto) shared_book() {
  if constexpr (kHasBook<Format>) {
    using Book = std::remove_cvref_t<decltype(Format::book())>;
    static_assert(sizeof(Book) % sizeof(uint4) == 0);
    __shared__ Book book;
    const auto* from = reinterpret_cast<const uint4*>(&Format::book());
    auto* to = reinterpret_cast<uint4*>(&book);
    for (unsigned i = threadIdx.x; i < sizeof(Book) / sizeof(uint4); i += blockDim.x)
      to[i] = from[i];
    __syncthreads();
    return static_cast<const Book&>(book);
  } else {
    return NoBook{};
  }
}

// What all units of a block need, if that is worth taking apart once for all of them.
struct NoHeader {};

template <class Format>
constexpr bool kHasHeader = requires {
  typename Format::Header;
};

/// Whether it decodes to runs of integers, too.
template <class Format>
constexpr bool kHasIntegers = requires {
  Format::kSecondFactor;
};

/// Whether both runs of a unit have one scale.
template <class Format>
constexpr bool kOneScale = requires {
  Format::kOneScale;
};

template <class Format, int kAlign, class P>
__device__ auto block_header(const P& block) {
  if constexpr (kHasHeader<Format>) {
    return Format::template header<kAlign>(block);
  } else {
    return NoHeader{};
  }
}

template <class Format, int kAlign, class P, class Book, class Header, class AnyRun>
__device__ void decode_unit(const P& block, int unit, const Book& book, const Header& header,
                            AnyRun (&runs)[2]) {
  if constexpr (kHasHeader<Format>) {
    Format::template decode<kAlign>(block, unit, header, runs);
  } else if constexpr (kHasBook<Format>) {
    Format::template decode<kAlign>(block, unit, book, runs);
  } else {
    Format::template decode<kAlign>(block, unit, runs);
  }
}

/// The same for those who decode one unit of a block.
template <class Format, int kAlign, class P, class Book>
__device__ void decode_unit(const P& block, int unit, const Book& book, Run (&runs)[2]) {
  decode_unit<Format, kAlign>(block, unit, book, block_header<Format, kAlign>(block), runs);
}

}  // namespace tensor_pager::kernels::cuda
