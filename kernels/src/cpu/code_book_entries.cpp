// SPDX-License-Identifier: Apache-2.0
#include "cpu/code_book_entries.hpp"

#include <array>
#include <bit>

#include "code_books.hpp"

namespace tensor_pager::kernels::cpu {
namespace {

// Each digit of `bits` bits replaced by the byte that it stands for.
template <class Word, std::size_t kCount, std::size_t kDigits>
constexpr Entries<Word, kCount> expand(const std::array<std::uint16_t, kCount>& book,
                                       const std::array<std::int8_t, kDigits>& digits) {
  constexpr std::size_t kElements = sizeof(Word);
  constexpr std::size_t kBits = 16 / kElements;
  Entries<Word, kCount> entries{};
  for (std::size_t i = 0; i < kCount; ++i) {
    for (std::size_t e = 0; e < kElements; ++e) {
      const auto value = static_cast<std::uint8_t>(digits[book[i] >> kBits * e & (kDigits - 1)]);
      entries.words[i] |= static_cast<Word>(value) << 8 * e;
    }
  }
  return entries;
}

constexpr std::uint64_t sign_factors(unsigned bits) {
  std::uint64_t factors = 0;
  for (unsigned e = 0; e < 8; ++e) {
    factors |= std::uint64_t{(bits >> e & 1) != 0 ? 0xFFU : 0x01U} << 8 * e;
  }
  return factors;
}

constexpr Entries<std::uint64_t, 256> signs() {
  Entries<std::uint64_t, 256> entries{};
  for (unsigned i = 0; i < 256; ++i) entries.words[i] = sign_factors(i);
  return entries;
}

constexpr Entries<std::uint64_t, 128> even_signs() {
  Entries<std::uint64_t, 128> entries{};
  for (unsigned i = 0; i < 128; ++i) {
    entries.words[i] = sign_factors(i | static_cast<unsigned>(std::popcount(i) % 2) << 7);
  }
  return entries;
}

}  // namespace

constinit const Entries<std::uint64_t, 256> kIq2XxsEntries =
    expand<std::uint64_t>(kIq2XxsBook, kIq2Digits);
constinit const Entries<std::uint64_t, 512> kIq2XsEntries =
    expand<std::uint64_t>(kIq2XsBook, kIq2Digits);
constinit const Entries<std::uint64_t, 1024> kIq2SEntries =
    expand<std::uint64_t>(kIq2SBook, kIq2Digits);
constinit const Entries<std::uint64_t, 2048> kIq1Entries =
    expand<std::uint64_t>(kIq1Book, kIq1Digits);
constinit const Entries<std::uint32_t, 256> kIq3XxsEntries =
    expand<std::uint32_t>(kIq3XxsBook, kIq3XxsDigits);
constinit const Entries<std::uint32_t, 512> kIq3SEntries =
    expand<std::uint32_t>(kIq3SBook, kIq3SDigits);
constinit const Entries<std::uint64_t, 256> kSigns = signs();
constinit const Entries<std::uint64_t, 128> kEvenSigns = even_signs();

}  // namespace tensor_pager::kernels::cpu
