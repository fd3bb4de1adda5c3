// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "loaders/tokenizer.hpp"
#include "tokenizer_unicode.hpp"

namespace tensor_pager::loaders {
namespace {

constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, const DecodeOptions& options)
    : tokenizer_(&tokenizer), options_(options) {}

std::string StreamDecoder::push(TokenId id) {
  held_back_ += tokenizer_->bytes(id, options_);
  std::string text;
  std::string_view rest = held_back_;
  while (!rest.empty()) {
    const Utf8Sequence sequence = first_utf8_sequence(rest);
    if (sequence.status == Utf8Status::incomplete) break;
    text += sequence.status == Utf8Status::complete ? rest.substr(0, sequence.length)
                                                    : kReplacementCharacter;
    rest.remove_prefix(sequence.length);
  }
  held_back_.erase(0, held_back_.size() - rest.size());
  return text;
}

std::string StreamDecoder::finish() {
  const bool is_incomplete = !std::exchange(held_back_, {}).empty();
  return std::string(is_incomplete ? kReplacementCharacter : std::string_view{});
}

}  // namespace tensor_pager::loaders
