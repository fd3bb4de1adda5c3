// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "loaders/tokenizer.hpp"

namespace tensor_pager::loaders {

/// Finds the tokens that are matched literally in the text, before it is cut into words.
class LiteralMatcher {
 public:
  struct Match {
    std::size_t offset;
    std::size_t length;
    TokenId id;
  };

  /// Empty texts are left out: they would match everywhere. `text` must outlive the matcher.
  void add(std::string_view text, TokenId id);

  /// The match in `text` that begins first at or after `from`; the longest one there.
  std::optional<Match> find(std::string_view text, std::size_t from) const;

 private:
  std::unordered_map<std::string_view, TokenId> ids_;
  // The lengths that occur, longest first, by the literals' first byte: few, however many literals
  // a vocabulary has.
  std::array<std::vector<std::size_t>, 256> lengths_;
};

}  // namespace tensor_pager::loaders
