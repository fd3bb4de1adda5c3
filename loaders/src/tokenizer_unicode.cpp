// SPDX-License-Identifier: Apache-2.0
#include "tokenizer_unicode.hpp"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "loaders/tokenizer.hpp"

namespace tensor_pager::loaders {
namespace {

/// What a lead byte promises: the character's length, and the range of its second byte (narrower
/// than 80..BF where that excludes overlong forms, surrogates and values beyond U+10FFFF).
struct LeadByte {
  std::size_t length;  // 0: no character begins with this byte
  std::uint8_t second_min;
  std::uint8_t second_max;
};

LeadByte read_lead_byte(std::uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

std::uint8_t byte_at(std::string_view bytes, std::size_t i) {
  return static_cast<std::uint8_t>(bytes[i]);
}

std::size_t skip_ascii_words(std::string_view text, std::size_t i) {
  std::uint64_t word = 0;
  while (i + sizeof word <= text.size()) {
    std::memcpy(&word, text.data() + i, sizeof word);
    if ((word & 0x8080808080808080U) != 0) break;
    i += sizeof word;
  }
  return i;
}

}  // namespace

Utf8Sequence first_utf8_sequence(std::string_view bytes) {
  const LeadByte lead = read_lead_byte(byte_at(bytes, 0));
  if (lead.length == 0) return {Utf8Status::invalid, 1};
  for (std::size_t i = 1; i < lead.length; ++i) {
    if (i == bytes.size()) return {Utf8Status::incomplete, i};
    const std::uint8_t min = i == 1 ? lead.second_min : std::uint8_t{0x80};
    const std::uint8_t max = i == 1 ? lead.second_max : std::uint8_t{0xBF};
    if (byte_at(bytes, i) < min || byte_at(bytes, i) > max) return {Utf8Status::invalid, i};
  }
  return {Utf8Status::complete, lead.length};
}

void check_utf8(std::string_view text) {
  std::size_t i = skip_ascii_words(text, 0);
  while (i < text.size()) {
    const Utf8Sequence sequence = first_utf8_sequence(text.substr(i));
    if (sequence.status != Utf8Status::complete) {
      throw TokenizerError(
          fmt::format("text is not UTF-8: {} byte 0x{:02X}, offset {} of {}; convert it to UTF-8",
                      sequence.status == Utf8Status::incomplete
                          ? "it ends inside the character that begins with"
                          : "ill-formed character at",
                      byte_at(text, i), i, text.size()));
    }
    i = skip_ascii_words(text, i + sequence.length);
  }
}

std::string_view compose_nfc(std::string_view text, std::string& storage) {
  // Below U+0300, whose UTF-8 form begins with CC, nothing decomposes under NFC and nothing
  // combines with what comes before it.
  const bool plain = std::all_of(text.begin(), text.end(),
                                 [](char c) { return static_cast<std::uint8_t>(c) < 0xCC; });
  if (plain) return text;

  utf8proc_uint8_t* composed = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &composed,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (length < 0) {
    throw TokenizerError(
        fmt::format("cannot normalise {} bytes of text to NFC: {}; give a shorter text, or encode "
                    "without NFC",
                    text.size(), utf8proc_errmsg(length)));
  }
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(composed, &std::free);
  storage.assign(reinterpret_cast<const char*>(composed), static_cast<std::size_t>(length));
  return storage;
}

}  // namespace tensor_pager::loaders
