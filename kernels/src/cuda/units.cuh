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
template <class Format, unsigned kThreads>
__device__ decltype(auto) shared_book() {
  if constexpr (kHasBook<Format>) {
    using Book = std::remove_cvref_t<decltype(Format::book())>;
    static_assert(sizeof(Book) % sizeof(uint4) == 0);
    __shared__ Book book;
    const auto* from = reinterpret_cast<const uint4*>(&Format::book());
    auto* to = reinterpret_cast<uint4*>(&book);
    for (unsigned i = threadIdx.x; i < sizeof(Book) / sizeof(uint4); i += kThreads) to[i] = from[i];
    __syncthreads();
    return static_cast<const Book&>(book);
  } else {
    return NoBook{};
  }
}

template <class Format, int kAlign, class Book>
__device__ void decode_unit(const std::uint8_t* block, int unit, const Book& book, Run (&runs)[2]) {
  if constexpr (kHasBook<Format>) {
    Format::template decode<kAlign>(block, unit, book, runs);
  } else {
    Format::template decode<kAlign>(block, unit, runs);
  }
}

}  // namespace tensor_pager::kernels::cuda
