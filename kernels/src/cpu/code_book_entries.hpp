// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace tensor_pager::kernels::cpu {

/// A code book as bytes that can be read at once: byte i of a word is element i of the entry, a
/// signed integer as in the k...Digits of code_books.hpp. A plain array, since the kernels may call
/// no inline function of the standard library (kernels.hpp).
template <class Word, std::size_t kCount>
struct Entries {
  Word words[kCount];
};

extern const Entries<std::uint64_t, 256> kIq2XxsEntries;
extern const Entries<std::uint64_t, 512> kIq2XsEntries;
extern const Entries<std::uint64_t, 1024> kIq2SEntries;
extern const Entries<std::uint64_t, 2048> kIq1Entries;
extern const Entries<std::uint32_t, 256> kIq3XxsEntries;
extern const Entries<std::uint32_t, 512> kIq3SEntries;

/// Eight sign bits as factors: byte i is 1 or -1, which bit i stands for.
extern const Entries<std::uint64_t, 256> kSigns;
/// The same for seven bits and one more that makes their number even.
extern const Entries<std::uint64_t, 128> kEvenSigns;

}  // namespace tensor_pager::kernels::cpu
