// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "loaders/tokenizer.hpp"

namespace tensor_pager::loaders {

using TokenIndex = std::unordered_map<std::string_view, TokenId>;

/// The bytes that a token written in GPT-2's byte-to-unicode alphabet stands for; nullopt if it has
/// a character outside that alphabet.
std::optional<std::string> bytes_from_alphabet(std::string_view token);

/// Byte-pair encoding of single words by merge rank.
class MergeTable {
 public:
  /// Throws TokenizerError as Tokenizer's constructor does for merges.
  MergeTable(const TokenIndex& index, const std::vector<std::string>& merges);

  /// Buffers that are kept from word to word, so that merging allocates nothing in the long run.
  class Workspace;

  /// Appends the tokens of `word`. Throws TokenizerError if a byte of it has no token.
  void encode(std::string_view word, Workspace& workspace, std::vector<TokenId>& tokens) const;

 private:
  static constexpr std::uint32_t kNoRank = UINT32_MAX;

  struct Merge {
    std::uint64_t pair = 0;        // left id in the upper half, right id in the lower
    std::uint32_t rank = kNoRank;  // place in the list of merges; kNoRank: the slot is free
    TokenId merged = 0;
  };

  static std::uint64_t pair_of(TokenId left, TokenId right);
  std::size_t slot_of(std::uint64_t pair) const;
  void insert(const Merge& merge);
  const Merge& find(TokenId left, TokenId right) const;

  void start(std::string_view word, Workspace& workspace) const;
  void rank_pair(std::uint32_t left, Workspace& workspace) const;
  void merge_pair(std::uint32_t left, Workspace& workspace) const;

  std::array<std::optional<TokenId>, 256> token_of_byte_{};
  std::vector<Merge>
      slots_;           // open addressing with linear probing; a power of two, at most half full
  int slot_shift_ = 0;  // 64 minus the logarithm of the number of slots
};

class MergeTable::Workspace {
  friend class MergeTable;

  static constexpr std::uint32_t kNone = UINT32_MAX;

  /// One token of the word so far, in a list linked by position.
  struct Symbol {
    TokenId id;
    std::uint32_t previous;
    std::uint32_t next;
    std::uint32_t rank;  // of the merge with `next`; kNoRank: there is none, or merged away
    TokenId merged;      // what that merge makes
  };

  std::vector<Symbol> symbols_;
  // A heap of candidate merges, best on top: rank in the upper half, position of the left symbol in
  // the lower, so that of equal merges the leftmost comes first. An entry whose rank is no longer
  // the symbol's is stale.
  std::vector<std::uint64_t> candidates_;
};

}  // namespace tensor_pager::loaders
