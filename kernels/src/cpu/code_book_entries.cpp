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

constexpr Entries<std::uint8_t, 128> even_signs() {
  Entries<std::uint8_t, 128> signs{};
  for (unsigned i = 0; i < 128; ++i) {
    signs.words[i] = static_cast<std::uint8_t>(i | (std::popcount(i) % 2U) << 7);
  }
  return signs;
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
constinit const Entries<std::uint8_t, 128> kEvenSigns = even_signs();

}  // namespace tensor_pager::kernels::cpu
