// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/digits.cuh"
#include "cuda/few_tokens.hpp"
#include "cuda/few_tokens_shape.cuh"

// Which digits of the inputs a thread of the product of a few tokens multiplies with.

namespace tensor_pager::kernels::cuda {
namespace {

// The unit that a thread decodes as its i-th of a group. Fours of units do not cross blocks of 256
// elements: there, what follows from i is known when this is compiled.
template <class Format>
struct Unit {
  static constexpr unsigned kUnits = Format::kElements / 16;
  unsigned block;
  int unit;

  __device__ explicit Unit(unsigned i)
      : block(kUnits == 16 ? 0 : (4 * i + quad()) / kUnits),
        unit(static_cast<int>(4 * i + quad() - block * kUnits)) {}

  // Where its elements begin: as far from those of the quad's first unit as with i = 0, ...
  __device__ static unsigned first_of_thread() {
    const Unit at(0);
    return at.block * Format::kElements + static_cast<unsigned>(Format::first(at.unit));
  }
  // ... and those of that unit here.
  __device__ static constexpr unsigned first_of_quad(unsigned i) {
    return 4 * i / kUnits * Format::kElements +
           static_cast<unsigned>(Format::first(static_cast<int>(4 * i % kUnits)));
  }
};

struct GroupAndNext {
  unsigned now, next;
};

__device__ const uint4 kNoDigits[kGroup / sizeof(uint4)] = {};

// Which digits a thread multiplies with, and what its sums stand for. Where a column has none for
// its units, it reads zeros.
template <class Format, unsigned kTokens>
struct Columns {
  static constexpr unsigned kOfTiles = kTiles<Format, kTokens>;
  // Of group 0, of the column in b, from the elements of this thread's first unit on.
  const std::int8_t* digits[kOfTiles];
  const std::int8_t* sum_digits[kOfTiles];  // likewise, from this thread's word on
  unsigned step[kOfTiles];                  // from one group to the next; nothing for zeros
  unsigned sum_step[kOfTiles];
  const DigitRecord* records[kOfTiles];  // of the token of the columns in c
  float powers[2];                       // of 256, of the columns in c
  static constexpr bool kAhead = kOfTiles == 1;
  uint2 ahead[8];

  __device__ explicit Columns(const FewTokens& p) {
    const unsigned groups = (p.cols + kGroup - 1) / kGroup;
    const auto* first = reinterpret_cast<const DigitRecord*>(p.x);
    const auto of_token = [&](unsigned token) {
      return first + (token < p.tokens ? token : 0) * groups;
    };
    const auto* none = reinterpret_cast<const std::int8_t*>(kNoDigits);
    const unsigned digit = lane() / 4 % 4;
    powers[0] = quad() % 2 == 0 ? 1.0F : 0x1p16F;
    powers[1] = quad() % 2 == 0 ? 0x1p8F : 0x1p24F;
#pragma unroll
    for (unsigned i = 0; i < kOfTiles; ++i) {
      const unsigned four = 2 * i + lane() / 16;
      const unsigned token = four / kScalesOfQuad<Format>;
      const bool used =
          token < p.tokens && four % kScalesOfQuad<Format> == quad() / Format::kUnitsPerScale;
      const DigitRecord* record = of_token(token);
      const bool has_digits = used && digit < kDigits;
      digits[i] = (has_digits ? record->digits[digit] : none) + Unit<Format>::first_of_thread();
      step[i] = has_digits ? sizeof(DigitRecord) : 0;
      const bool has_sums = used && quad() < 2;
      sum_digits[i] = has_sums ? record->sum_digits[digit] + 4 * quad() : none;
      sum_step[i] = has_sums ? sizeof(DigitRecord) : 0;
      records[i] = of_token((2 * i + quad() / 2) / kScalesOfQuad<Format>);
    }
    if constexpr (kAhead) keep();
  }

  // Once for all groups: a compiler would rather find all of it again than keep it.
  __device__ void keep() {
    asm volatile("" : "+l"(digits[0]), "+r"(step[0]));
    if constexpr (kHasMinima<Format>) {
      asm volatile("" : "+l"(sum_digits[0]), "+r"(sum_step[0]));
    }
    asm volatile("" : "+l"(records[0]), "+f"(powers[0]), "+f"(powers[1]));
  }

  // What load() will be asked for first, if that is not too much for the registers.
  __device__ void expect(unsigned group) {
    if constexpr (kAhead) {
#pragma unroll
      for (unsigned i = 0; i < 8; ++i) ahead[i] = at(0, group, i / 2, i % 2);
    }
  }
  // Of a group; and asks for the same of the one that comes next.
  __device__ uint2 load(unsigned tile, GroupAndNext group, unsigned unit, unsigned run) {
    if constexpr (!kAhead) return at(tile, group.now, unit, run);
    const uint2 loaded = ahead[2 * unit + run];
    ahead[2 * unit + run] = at(0, group.next, unit, run);
    return loaded;
  }
  // Where it stands: a compiler would put it off until it is needed. (Not through the cache for
  // what is constant: the kernel before wrote it after this one had begun.)
  __device__ uint2 at(unsigned tile, unsigned group, unsigned unit, unsigned run) const {
    const std::int8_t* of_group = digits[tile] + std::size_t{group} * step[tile];
    uint2 v;
    asm volatile("ld.global.v2.u32 {%0, %1}, [%2];\n"
                 : "=r"(v.x), "=r"(v.y)
                 : "l"(of_group + (Unit<Format>::first_of_quad(unit) + run * Format::kSecond)));
    return v;
  }
  __device__ std::uint32_t load_sums(unsigned tile, unsigned group) const {
    return load_word(sum_digits[tile] + std::size_t{group} * sum_step[tile]);
  }
  __device__ float factor(unsigned tile, unsigned group) const {
    return __uint_as_float(load_word(&records[tile][group].factor));
  }

 private:
  __device__ static std::uint32_t load_word(const void* global) {
    std::uint32_t v;
    asm volatile("ld.global.u32 %0, [%1];\n" : "=r"(v) : "l"(global));
    return v;
  }
};

}  // namespace
}  // namespace tensor_pager::kernels::cuda
