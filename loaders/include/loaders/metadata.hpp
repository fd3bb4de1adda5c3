// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "loaders/gguf_error.hpp"
#include "pager/export.hpp"

namespace tensor_pager::loaders {

/// Types of metadata values; the numbers are those in the file.
enum class MetadataType : std::uint32_t {
  uint8 = 0,
  int8 = 1,
  uint16 = 2,
  int16 = 3,
  uint32 = 4,
  int32 = 5,
  float32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  uint64 = 10,
  int64 = 11,
  float64 = 12,
};
inline constexpr std::uint32_t kMetadataTypeCount = 13;

TENSOR_PAGER_EXPORT std::string_view to_string(MetadataType type);

/// Bytes of one element in the file, or 0 for strings and arrays, whose elements differ in length.
TENSOR_PAGER_EXPORT std::size_t fixed_size(MetadataType type);

/// A list of strings in one piece of memory: a vocabulary of 150,000 tokens costs its characters
/// and 8 bytes a token.
class TENSOR_PAGER_EXPORT StringArray {
 public:
  std::size_t size() const { return ends_.size(); }
  bool empty() const { return ends_.empty(); }
  /// Valid as long as the array lives and nothing is added to it.
  std::string_view operator[](std::size_t i) const {
    const std::size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(characters_).substr(begin, ends_[i] - begin);
  }
  void push_back(std::string_view text) {
    characters_ += text;
    ends_.push_back(characters_.size());
  }
  void reserve(std::size_t count) { ends_.reserve(count); }
  void shrink_to_fit() { characters_.shrink_to_fit(); }

 private:
  std::string characters_;
  std::vector<std::size_t> ends_;
};

class MetadataArray;

/// Elements of an array of numbers or booleans, as they are in the file (little-endian, one after
/// another).
using PackedElements = std::vector<std::byte>;

/// The value of an array key: elements of one type, which may be arrays again.
class TENSOR_PAGER_EXPORT MetadataArray {
 public:
  using Elements = std::variant<PackedElements, StringArray, std::vector<MetadataArray>>;

  MetadataArray() = default;
  /// Numbers or booleans of a type with a fixed size.
  MetadataArray(MetadataType element_type, PackedElements&& elements)
      : element_type_(element_type), elements_(std::move(elements)) {}
  explicit MetadataArray(StringArray&& elements)
      : element_type_(MetadataType::string), elements_(std::move(elements)) {}
  explicit MetadataArray(std::vector<MetadataArray>&& elements)
      : element_type_(MetadataType::array), elements_(std::move(elements)) {}

  MetadataType element_type() const { return element_type_; }
  std::size_t size() const;
  const Elements& elements() const { return elements_; }

  /// Element `i` of an array of numbers; `T` must be the C++ type of element_type().
  template <class T>
  T packed(std::size_t i) const {
    T value;
    std::memcpy(&value, std::get<PackedElements>(elements_).data() + i * sizeof(T), sizeof(T));
    return value;
  }

 private:
  MetadataType element_type_ = MetadataType::uint8;
  Elements elements_;
};

/// The value of a key. The index of the alternative is the number of the type in the file.
using MetadataValue = std::variant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t,
                                   std::uint32_t, std::int32_t, float, bool, std::string,
                                   MetadataArray, std::uint64_t, std::int64_t, double>;
static_assert(std::variant_size_v<MetadataValue> == kMetadataTypeCount);

inline MetadataType type_of(const MetadataValue& value) {
  return static_cast<MetadataType>(value.index());
}

/// The keys and values of one GGUF file, with typed access.
///
/// `get` converts without loss: any integer type of the file to any requested one that can hold the
/// value, 32-bit floats to double, 64-bit floats to float. Everything else (a missing key, another
/// type, a value that does not fit) throws a GgufError that names the key, what was expected and
/// what was found.
class TENSOR_PAGER_EXPORT Metadata {
 public:
  struct Entry {
    MetadataValue value;
    std::uint64_t offset = 0;  ///< of the key in the file
  };

  Metadata() = default;
  /// `file` is what errors name.
  explicit Metadata(std::filesystem::path file) : file_(std::move(file)) {}

  /// Adds a key; throws GgufError if it is there already.
  void insert(std::string key, Entry entry);

  std::size_t size() const { return entries_.size(); }
  bool contains(std::string_view key) const { return entries_.contains(key); }
  /// All entries, sorted by key.
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }

  /// The value of `key` as `T`: bool, an integer or floating-point type, std::string, or a
  /// std::vector of one of these.
  template <class T>
  T get(std::string_view key) const;

  /// As `get`, but nothing if the key is not there. A key of another type is still an error.
  template <class T>
  std::optional<T> get_optional(std::string_view key) const {
    if (!contains(key)) return std::nullopt;
    return get<T>(key);
  }

  /// As `get`, but `fallback` if the key is not there. A key of another type is still an error.
  template <class T>
  T get_or(std::string_view key, T fallback) const {
    return contains(key) ? get<T>(key) : std::move(fallback);
  }

  /// An array of strings without a copy; valid as long as this object.
  const StringArray& strings(std::string_view key) const;

  /// True if the key is there and holds an array.
  bool is_array(std::string_view key) const;

  /// The error to throw for a value that has the right type but cannot be right.
  GgufError error(std::string_view key, const std::string& problem) const;

 private:
  const MetadataValue& at(std::string_view key) const;
  [[noreturn]] void wrong_type(std::string_view key, std::string_view expected) const;
  const MetadataArray& array(std::string_view key, std::string_view expected) const;

  std::filesystem::path file_;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace tensor_pager::loaders
