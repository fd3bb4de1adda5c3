// SPDX-License-Identifier: Apache-2.0
#include "tokenizer_literals.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>

namespace tensor_pager::loaders {

void LiteralMatcher::add(std::string_view text, TokenId id) {
  if (text.empty()) return;
  ids_.emplace(text, id);
  std::vector<std::size_t>& lengths = lengths_[static_cast<std::uint8_t>(text.front())];
  const auto place = std::ranges::lower_bound(lengths, text.size(), std::greater<>());
  if (place == lengths.end() || *place != text.size()) lengths.insert(place, text.size());
}

std::optional<LiteralMatcher::Match> LiteralMatcher::find(std::string_view text,
                                                          std::size_t from) const {
  for (std::size_t i = from; i < text.size(); ++i) {
    for (const std::size_t length : lengths_[static_cast<std::uint8_t>(text[i])]) {
      if (length > text.size() - i) continue;
      const auto found = ids_.find(text.substr(i, length));
      if (found != ids_.end()) return Match{i, length, found->second};
    }
  }
  return std::nullopt;
}

}  // namespace tensor_pager::loaders
