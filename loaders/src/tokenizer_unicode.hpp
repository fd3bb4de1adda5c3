// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tensor_pager::loaders {

enum class Utf8Status { complete, incomplete, invalid };

/// The character, or maximal ill-formed part of one, that a string begins with.
struct Utf8Sequence {
  Utf8Status status;
  std::size_t length;  ///< bytes, at least 1
};

/// Looks at the first character of `bytes`, which must not be empty. `incomplete`: the string ends
/// before the character does (Unicode 15, table 3-7, Well-Formed UTF-8 Byte Sequences).
Utf8Sequence first_utf8_sequence(std::string_view bytes);

/// Throws TokenizerError naming the first byte of `text` that is not UTF-8 and its offset.
void check_utf8(std::string_view text);

/// The NFC form of `text`, which must be valid UTF-8: `text` itself where it is plain to see that
/// it is normalised already, else a view of `storage`.
std::string_view compose_nfc(std::string_view text, std::string& storage);

}  // namespace tensor_pager::loaders
