// SPDX-License-Identifier: Apache-2.0
#include "tokenizer_merges.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <functional>
#include <utility>

#include "tokenizer_quoted.hpp"

namespace tensor_pager::loaders {
namespace {

// GPT-2's alphabet (encoder.py, bytes_to_unicode): the printable bytes of Latin-1 stand for
// themselves, the others, in ascending order, are U+0100 and following.
constexpr std::uint32_t kAlphabetSize = 0x100 + 68;
constexpr std::uint16_t kNoByte = 0x100;

constexpr bool is_printable_latin1(std::uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<std::uint16_t, kAlphabetSize> make_byte_of_character() {
  std::array<std::uint16_t, kAlphabetSize> bytes{};
  bytes.fill(kNoByte);
  std::uint32_t next_stand_in = 0x100;
  for (std::uint32_t byte = 0; byte < 0x100; ++byte) {
    bytes[is_printable_latin1(byte) ? byte : next_stand_in++] = static_cast<std::uint16_t>(byte);
  }
  return bytes;
}

constexpr std::array<std::uint16_t, kAlphabetSize> kByteOfCharacter = make_byte_of_character();

/// The two halves of merge number `rank`.
std::pair<std::string_view, std::string_view> split_merge(std::string_view merge,
                                                          std::size_t rank) {
  const std::size_t space = merge.find(' ');
  if (space == std::string_view::npos || space == 0 || space + 1 == merge.size() ||
      merge.find(' ', space + 1) != std::string_view::npos) {
    throw TokenizerError(
        fmt::format("merge {} (tokenizer.ggml.merges) is {}, not two tokens with a space "
                    "between; convert the model again",
                    rank, quoted(merge)));
  }
  return {merge.substr(0, space), merge.substr(space + 1)};
}

TokenId token_of_merge(const TokenIndex& index, std::string_view token, std::string_view merge,
                       std::size_t rank) {
  const auto found = index.find(token);
  if (found == index.end()) {
    throw TokenizerError(
        fmt::format("merge {} (tokenizer.ggml.merges), {}, needs token {}, which is not "
                    "among the {} of the vocabulary; convert the model again",
                    rank, quoted(merge), quoted(token), index.size()));
  }
  return found->second;
}

[[noreturn]] void throw_missing_byte(std::uint8_t byte, std::string_view word) {
  throw TokenizerError(
      fmt::format("the vocabulary has no token for byte 0x{:02X}, which the word {} needs; "
                  "remove it from the text",
                  byte, quoted(word)));
}

}  // namespace

std::optional<std::string> bytes_from_alphabet(std::string_view token) {
  std::string bytes;
  bytes.reserve(token.size());
  for (std::size_t i = 0; i < token.size(); ++i) {
    std::uint32_t character = static_cast<std::uint8_t>(token[i]);
    if (character >= 0x80) {
      // The alphabet ends at U+0143: longer forms than two bytes are outside it.
      if ((character & 0xE0) != 0xC0 || i + 1 == token.size()) return std::nullopt;
      const std::uint32_t second = static_cast<std::uint8_t>(token[++i]);
      if ((second & 0xC0) != 0x80) return std::nullopt;
      character = (character & 0x1F) << 6 | (second & 0x3F);
    }
    if (character >= kAlphabetSize || kByteOfCharacter[character] == kNoByte) return std::nullopt;
    bytes.push_back(static_cast<char>(kByteOfCharacter[character]));
  }
  return bytes;
}

MergeTable::MergeTable(const TokenIndex& index, const std::vector<std::string>& merges) {
  for (const auto& [token, id] : index) {
    if (token.size() > 2) continue;
    const std::optional<std::string> bytes = bytes_from_alphabet(token);
    if (bytes && bytes->size() == 1) token_of_byte_[static_cast<std::uint8_t>(bytes->front())] = id;
  }

  slots_.resize(std::bit_ceil(std::max<std::size_t>(2 * merges.size(), 2)));
  slot_shift_ = 64 - std::countr_zero(slots_.size());
  std::string merged;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string_view merge = merges[rank];
    const auto [left, right] = split_merge(merge, rank);
    merged.assign(left).append(right);
    insert({pair_of(token_of_merge(index, left, merge, rank),
                    token_of_merge(index, right, merge, rank)),
            static_cast<std::uint32_t>(rank), token_of_merge(index, merged, merge, rank)});
  }
}

std::uint64_t MergeTable::pair_of(TokenId left, TokenId right) {
  return std::uint64_t{left} << 32 | right;
}

std::size_t MergeTable::slot_of(std::uint64_t pair) const {
  // Fibonacci hashing (Knuth 3, 6.4): the upper bits of the product with 2^64 / golden ratio. The
  // fold first lets both ids reach them.
  return ((pair ^ pair >> 29) * 0x9E3779B97F4A7C15U) >> slot_shift_;
}

void MergeTable::insert(const Merge& merge) {
  std::size_t slot = slot_of(merge.pair);
  while (slots_[slot].rank != kNoRank) {
    if (slots_[slot].pair == merge.pair) return;
    slot = (slot + 1) & (slots_.size() - 1);
  }
  slots_[slot] = merge;
}

/// The merge of the two tokens, or a free slot.
const MergeTable::Merge& MergeTable::find(TokenId left, TokenId right) const {
  const std::uint64_t pair = pair_of(left, right);
  std::size_t slot = slot_of(pair);
  while (slots_[slot].rank != kNoRank && slots_[slot].pair != pair) {
    slot = (slot + 1) & (slots_.size() - 1);
  }
  return slots_[slot];
}

void MergeTable::encode(std::string_view word, Workspace& workspace,
                        std::vector<TokenId>& tokens) const {
  if (word.empty()) return;
  start(word, workspace);
  std::vector<std::uint64_t>& candidates = workspace.candidates_;
  while (!candidates.empty()) {
    std::pop_heap(candidates.begin(), candidates.end(), std::greater<>());
    const std::uint64_t best = candidates.back();
    candidates.pop_back();
    const auto left = static_cast<std::uint32_t>(best);
    if (workspace.symbols_[left].rank == best >> 32) merge_pair(left, workspace);
  }
  for (std::uint32_t i = 0; i != Workspace::kNone; i = workspace.symbols_[i].next) {
    tokens.push_back(workspace.symbols_[i].id);
  }
}

/// Makes one symbol of each byte of the word.
void MergeTable::start(std::string_view word, Workspace& workspace) const {
  const auto size = static_cast<std::uint32_t>(word.size());
  workspace.symbols_.clear();
  workspace.candidates_.clear();
  for (std::uint32_t i = 0; i < size; ++i) {
    const auto byte = static_cast<std::uint8_t>(word[i]);
    if (!token_of_byte_[byte]) throw_missing_byte(byte, word);
    workspace.symbols_.push_back({*token_of_byte_[byte], i == 0 ? Workspace::kNone : i - 1,
                                  i + 1 == size ? Workspace::kNone : i + 1, kNoRank, 0});
  }
  for (std::uint32_t i = 0; i < size; ++i) rank_pair(i, workspace);
}

/// Looks up the merge of a symbol with its successor.
void MergeTable::rank_pair(std::uint32_t left, Workspace& workspace) const {
  Workspace::Symbol& symbol = workspace.symbols_[left];
  symbol.rank = kNoRank;
  if (symbol.next == Workspace::kNone) return;
  const Merge& merge = find(symbol.id, workspace.symbols_[symbol.next].id);
  if (merge.rank == kNoRank) return;
  symbol.rank = merge.rank;
  symbol.merged = merge.merged;
  workspace.candidates_.push_back(std::uint64_t{merge.rank} << 32 | left);
  std::push_heap(workspace.candidates_.begin(), workspace.candidates_.end(), std::greater<>());
}

void MergeTable::merge_pair(std::uint32_t left, Workspace& workspace) const {
  std::vector<Workspace::Symbol>& symbols = workspace.symbols_;
  Workspace::Symbol& symbol = symbols[left];
  Workspace::Symbol& absorbed = symbols[symbol.next];
  symbol.id = symbol.merged;
  symbol.next = absorbed.next;
  absorbed.rank = kNoRank;
  if (symbol.next != Workspace::kNone) symbols[symbol.next].previous = left;
  if (symbol.previous != Workspace::kNone) rank_pair(symbol.previous, workspace);
  rank_pair(left, workspace);
}

}  // namespace tensor_pager::loaders
