// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/metadata.hpp"
#include "loaders/tensor_type.hpp"
#include "pager/types.hpp"

namespace tensor_pager::make_gguf {

/// An entry of the tensor table, as it will be in the file. Nothing is checked, so that tests can
/// write what is wrong.
struct TensorDeclaration {
  std::string name;
  /// Shape in GGUF order; its length becomes the number of dimensions.
  std::vector<std::uint64_t> ne;
  std::uint32_t type = 0;
  /// From the beginning of the data section.
  std::uint64_t offset = 0;
};

/// The number in the file of the metadata type that `T` is written as.
template <class T>
constexpr loaders::MetadataType metadata_type() {
  using enum loaders::MetadataType;
  if constexpr (std::same_as<T, std::uint8_t>) return uint8;
  if constexpr (std::same_as<T, std::int8_t>) return int8;
  if constexpr (std::same_as<T, std::uint16_t>) return uint16;
  if constexpr (std::same_as<T, std::int16_t>) return int16;
  if constexpr (std::same_as<T, std::uint32_t>) return uint32;
  if constexpr (std::same_as<T, std::int32_t>) return int32;
  if constexpr (std::same_as<T, float>) return float32;
  if constexpr (std::same_as<T, bool>) return boolean;
  if constexpr (std::same_as<T, std::uint64_t>) return uint64;
  if constexpr (std::same_as<T, std::int64_t>) return int64;
  if constexpr (std::same_as<T, double>) return float64;
  if constexpr (std::convertible_to<T, std::string_view>) return string;
}

/// Appends the bytes of a value as GGUF stores it: numbers little-endian, strings behind their
/// 64-bit length.
template <class T>
void append_value(std::string& out, const T& value) {
  if constexpr (std::convertible_to<T, std::string_view>) {
    const std::string_view text = value;
    append_value(out, static_cast<std::uint64_t>(text.size()));
    out += text;
  } else {
    out.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
}

/// Everything of a GGUF file that comes before the tensors' data: magic, version, metadata, tensor
/// table, padding.
class GgufHeader {
 public:
  explicit GgufHeader(std::uint32_t version = 3) : version_(version) {}

  /// A number, a bool or a string, with the metadata type that belongs to `T`.
  template <class T>
  void add(std::string_view key, const T& value) {
    std::string bytes;
    append_value(bytes, value);
    add_raw(key, static_cast<std::uint32_t>(metadata_type<T>()), bytes);
  }

  template <class T>
  void add_array(std::string_view key, const std::vector<T>& values) {
    std::string bytes;
    append_array(bytes, values);
    add_raw(key, static_cast<std::uint32_t>(loaders::MetadataType::array), bytes);
  }

  /// The bytes of an array value: element type, count, elements.
  template <class T>
  static void append_array(std::string& out, const std::vector<T>& values) {
    append_value(out, static_cast<std::uint32_t>(metadata_type<T>()));
    append_value(out, static_cast<std::uint64_t>(values.size()));
    for (const auto& value : values) append_value<T>(out, value);
  }

  /// A value of any type number with any bytes.
  void add_raw(std::string_view key, std::uint32_t type, std::string_view bytes);

  void declare(const TensorDeclaration& tensor);

  /// The header, padded to `alignment`.
  std::string serialise(Bytes alignment = {32}) const;

 private:
  std::uint32_t version_;
  std::uint64_t metadata_count_ = 0;
  std::uint64_t tensor_count_ = 0;
  std::string metadata_;
  std::string tensors_;
};

/// Bytes of a tensor's data. `ne[0]` must be a whole number of the type's blocks.
Bytes tensor_bytes(loaders::TensorType type, const std::vector<std::uint64_t>& ne);

}  // namespace tensor_pager::make_gguf
