// SPDX-License-Identifier: Apache-2.0
#include "loaders/metadata.hpp"

#include <fmt/format.h>

#include <array>
#include <limits>

namespace tensor_pager::loaders {
namespace {

struct TypeTraits {
  std::string_view name;
  std::size_t size;
};
constexpr std::array<TypeTraits, kMetadataTypeCount> kTypes = {{
    {"uint8", 1},
    {"int8", 1},
    {"uint16", 2},
    {"int16", 2},
    {"uint32", 4},
    {"int32", 4},
    {"float32", 4},
    {"bool", 1},
    {"string", 0},
    {"array", 0},
    {"uint64", 8},
    {"int64", 8},
    {"float64", 8},
}};

template <class T>
constexpr bool kIsInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;

template <class T>
std::string_view expected_name() {
  if constexpr (std::is_same_v<T, bool>) return "bool";
  if constexpr (kIsInteger<T>) return "integer";
  if constexpr (std::is_floating_point_v<T>) return "float";
  if constexpr (std::is_same_v<T, std::string>) return "string";
}

// Whether a value stored as From may be asked for as To at all.
template <class To, class From>
constexpr bool kConvertible =
    (kIsInteger<To> && kIsInteger<From>) ||
    (std::is_floating_point_v<To> && std::is_floating_point_v<From>) || std::is_same_v<To, From>;

template <class To, class From>
bool fits(const From& value) {
  if constexpr (kIsInteger<To> && kIsInteger<From>) return std::in_range<To>(value);
  return true;
}

std::string describe(const MetadataValue& value) {
  const auto* array = std::get_if<MetadataArray>(&value);
  if (array == nullptr) return std::string(to_string(type_of(value)));
  return fmt::format("array of {} {}", array->size(), to_string(array->element_type()));
}

// Calls f(T{}) with the C++ type that elements of `type` have in the file.
template <class F>
void with_packed_type(MetadataType type, F f) {
  switch (type) {
    case MetadataType::uint8:
      return f(std::uint8_t{});
    case MetadataType::int8:
      return f(std::int8_t{});
    case MetadataType::uint16:
      return f(std::uint16_t{});
    case MetadataType::int16:
      return f(std::int16_t{});
    case MetadataType::uint32:
      return f(std::uint32_t{});
    case MetadataType::int32:
      return f(std::int32_t{});
    case MetadataType::float32:
      return f(float{});
    case MetadataType::boolean:
      return f(bool{});
    case MetadataType::uint64:
      return f(std::uint64_t{});
    case MetadataType::int64:
      return f(std::int64_t{});
    case MetadataType::float64:
      return f(double{});
    case MetadataType::string:
    case MetadataType::array:
      return;
  }
}

template <class T>
struct ElementOf {
  using Type = void;
};
template <class T>
struct ElementOf<std::vector<T>> {
  using Type = T;
};

}  // namespace

std::string_view to_string(MetadataType type) {
  return kTypes.at(static_cast<std::uint32_t>(type)).name;
}

std::size_t fixed_size(MetadataType type) {
  return kTypes.at(static_cast<std::uint32_t>(type)).size;
}

std::size_t MetadataArray::size() const {
  if (const auto* packed = std::get_if<PackedElements>(&elements_)) {
    return packed->size() / fixed_size(element_type_);
  }
  if (const auto* strings = std::get_if<StringArray>(&elements_)) return strings->size();
  return std::get<std::vector<MetadataArray>>(elements_).size();
}

void Metadata::insert(std::string key, Entry entry) {
  const auto found = entries_.find(key);
  if (found != entries_.end()) {
    throw GgufError(file_, key, entry.offset,
                    fmt::format("duplicate key, first seen at offset {}; convert the model again",
                                found->second.offset));
  }
  entries_.emplace(std::move(key), std::move(entry));
}

const MetadataValue& Metadata::at(std::string_view key) const {
  const auto found = entries_.find(key);
  if (found == entries_.end()) {
    throw GgufError(file_, std::string(key), std::nullopt,
                    "required metadata key is missing; convert the model again");
  }
  return found->second.value;
}

GgufError Metadata::error(std::string_view key, const std::string& problem) const {
  const auto found = entries_.find(key);
  std::optional<std::uint64_t> offset;
  if (found != entries_.end()) offset = found->second.offset;
  return {file_, std::string(key), offset, problem};
}

void Metadata::wrong_type(std::string_view key, std::string_view expected) const {
  throw error(key, fmt::format("expected {}, found {}; convert the model again", expected,
                               describe(at(key))));
}

const MetadataArray& Metadata::array(std::string_view key, std::string_view expected) const {
  const auto* value = std::get_if<MetadataArray>(&at(key));
  if (value == nullptr) wrong_type(key, fmt::format("array of {}", expected));
  return *value;
}

const StringArray& Metadata::strings(std::string_view key) const {
  const auto* found = std::get_if<StringArray>(&array(key, "string").elements());
  if (found == nullptr) wrong_type(key, "array of string");
  return *found;
}

bool Metadata::is_array(std::string_view key) const {
  const auto found = entries_.find(key);
  return found != entries_.end() && std::holds_alternative<MetadataArray>(found->second.value);
}

template <class T>
T Metadata::get(std::string_view key) const {
  using Element = typename ElementOf<T>::Type;
  if constexpr (std::is_void_v<Element>) {
    return std::visit(
        [&](const auto& value) -> T {
          using Stored = std::remove_cvref_t<decltype(value)>;
          if constexpr (kConvertible<T, Stored>) {
            if (fits<T>(value)) return static_cast<T>(value);
            throw error(key,
                        fmt::format("value {} is outside [{}, {}]; convert the model again", value,
                                    std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
          } else {
            wrong_type(key, expected_name<T>());
          }
        },
        at(key));
  } else if constexpr (std::is_same_v<Element, std::string>) {
    const StringArray& found = strings(key);
    T out;
    out.reserve(found.size());
    for (std::size_t i = 0; i < found.size(); ++i) out.emplace_back(found[i]);
    return out;
  } else {
    const MetadataArray& found = array(key, expected_name<Element>());
    T out;
    out.reserve(found.size());
    bool converted = false;
    with_packed_type(found.element_type(), [&]<class Stored>(Stored) {
      if constexpr (kConvertible<Element, Stored>) {
        converted = true;
        for (std::size_t i = 0; i < found.size(); ++i) {
          const Stored value = found.packed<Stored>(i);
          if (!fits<Element>(value)) {
            throw error(
                key, fmt::format("element {} is {}, outside [{}, {}]; convert the model again", i,
                                 value, std::numeric_limits<Element>::min(),
                                 std::numeric_limits<Element>::max()));
          }
          out.push_back(static_cast<Element>(value));
        }
      }
    });
    if (!converted) wrong_type(key, fmt::format("array of {}", expected_name<Element>()));
    return out;
  }
}

template bool Metadata::get<bool>(std::string_view) const;
template std::uint8_t Metadata::get<std::uint8_t>(std::string_view) const;
template std::int8_t Metadata::get<std::int8_t>(std::string_view) const;
template std::uint16_t Metadata::get<std::uint16_t>(std::string_view) const;
template std::int16_t Metadata::get<std::int16_t>(std::string_view) const;
template std::uint32_t Metadata::get<std::uint32_t>(std::string_view) const;
template std::int32_t Metadata::get<std::int32_t>(std::string_view) const;
template std::uint64_t Metadata::get<std::uint64_t>(std::string_view) const;
template std::int64_t Metadata::get<std::int64_t>(std::string_view) const;
template float Metadata::get<float>(std::string_view) const;
template double Metadata::get<double>(std::string_view) const;
template std::string Metadata::get<std::string>(std::string_view) const;
template std::vector<bool> Metadata::get<std::vector<bool>>(std::string_view) const;
template std::vector<std::int32_t> Metadata::get<std::vector<std::int32_t>>(std::string_view) const;
template std::vector<std::uint32_t> Metadata::get<std::vector<std::uint32_t>>(
    std::string_view) const;
template std::vector<std::int64_t> Metadata::get<std::vector<std::int64_t>>(std::string_view) const;
template std::vector<std::uint64_t> Metadata::get<std::vector<std::uint64_t>>(
    std::string_view) const;
template std::vector<float> Metadata::get<std::vector<float>>(std::string_view) const;
template std::vector<double> Metadata::get<std::vector<double>>(std::string_view) const;
template std::vector<std::string> Metadata::get<std::vector<std::string>>(std::string_view) const;

}  // namespace tensor_pager::loaders
