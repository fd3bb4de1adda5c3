#include "tokenizer_literals.hpp"

#include <algorithm>
#include <cstdint>

namespace tensor_pager::loaders {

void LiteralMatcher::add(std::string_view text, TokenId id) {
  if (text.empty()) return;
  std::vector<Literal>& literals = by_first_byte_[static_cast<std::uint8_t>(text.front())];
  const auto shorter = std::find_if(literals.begin(), literals.end(), [&](const Literal& literal) {
    return literal.text.size() < text.size();
  });
  literals.insert(shorter, {text, id});
}

std::optional<LiteralMatcher::Match> LiteralMatcher::find(std::string_view text,
                                                          std::size_t from) const {
  for (std::size_t i = from; i < text.size(); ++i) {
    for (const Literal& literal : by_first_byte_[static_cast<std::uint8_t>(text[i])]) {
      if (text.substr(i).starts_with(literal.text))
        return Match{i, literal.text.size(), literal.id};
    }
  }
  return std::nullopt;
}

}  // namespace tensor_pager::loaders
