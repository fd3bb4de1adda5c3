// SPDX-License-Identifier: Apache-2.0
#include "gguf_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "header_reader.hpp"

namespace tensor_pager::loaders {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::uint32_t kOldestVersion = 2;
constexpr std::uint32_t kNewestVersion = 3;
// The least that an entry takes in the file: what bounds a count before anything is allocated for
// it.
constexpr std::uint64_t kMinKeyValueBytes = 8 + 4 + 1;  // length of the key, type, value
constexpr std::uint64_t kMinTensorBytes =
    8 + 4 + 8 + 4 + 8;  // length, dimensions, ne, type, offset
constexpr std::uint64_t kMinStringBytes = 8;
constexpr std::uint64_t kMinArrayBytes = 4 + 8;

void read_magic_and_version(HeaderReader& in) {
  if (in.read<std::uint32_t>("magic") != kMagic) {
    throw in.error("magic",
                   "not a GGUF file (it does not begin with \"GGUF\"); convert the model to GGUF");
  }
  const auto version = in.read<std::uint32_t>("version");
  if (version >= kOldestVersion && version <= kNewestVersion) return;
  if ((version & 0xffff) == 0) {
    throw in.error("version", "big-endian GGUF files are not supported; convert it");
  }
  throw in.error(
      "version",
      fmt::format("GGUF version {} is not supported; {} and {} are: convert the model again",
                  version, kOldestVersion, kNewestVersion));
}

MetadataType read_type(HeaderReader& in, const std::string& key) {
  const auto number = in.read<std::uint32_t>(key);
  if (number >= kMetadataTypeCount) {
    throw in.error(key,
                   fmt::format("unknown metadata type {}; the file is damaged or too new", number));
  }
  return static_cast<MetadataType>(number);
}

// A C++ bool that is neither 0 nor 1 is undefined behaviour to read, so booleans are checked as
// bytes.
void check_boolean(const HeaderReader& in, const std::string& key, std::byte value) {
  if (value > std::byte{1}) {
    throw in.error(key, fmt::format("boolean has the value {}; the file is damaged",
                                    std::to_integer<int>(value)));
  }
}

MetadataArray read_array(HeaderReader& in, const std::string& key, std::uint32_t depth);

MetadataArray read_packed(HeaderReader& in, const std::string& key, MetadataType type) {
  const std::uint64_t count = in.read_count(fixed_size(type), key);
  PackedElements bytes(static_cast<std::size_t>(count) * fixed_size(type));
  in.read_bytes(bytes, key);
  if (type == MetadataType::boolean) {
    for (const std::byte b : bytes) check_boolean(in, key, b);
  }
  return {type, std::move(bytes)};
}

MetadataArray read_strings(HeaderReader& in, const std::string& key) {
  const std::uint64_t count = in.read_count(kMinStringBytes, key);
  StringArray strings;
  strings.reserve(static_cast<std::size_t>(count));
  for (std::uint64_t i = 0; i < count; ++i) {
    strings.push_back(in.read_string(std::numeric_limits<std::uint64_t>::max(), key));
  }
  strings.shrink_to_fit();
  return MetadataArray(std::move(strings));
}

MetadataArray read_arrays(HeaderReader& in, const std::string& key, std::uint32_t depth) {
  // Not reserved ahead: an empty array takes a few bytes in the file and many more in memory.
  const std::uint64_t count = in.read_count(kMinArrayBytes, key);
  std::vector<MetadataArray> arrays;
  for (std::uint64_t i = 0; i < count; ++i) arrays.push_back(read_array(in, key, depth + 1));
  return MetadataArray(std::move(arrays));
}

MetadataArray read_array(HeaderReader& in, const std::string& key, std::uint32_t depth) {
  if (depth > kMaxArrayDepth) {
    throw in.error(
        key, fmt::format("arrays are nested deeper than {}; the file is damaged", kMaxArrayDepth));
  }
  const MetadataType type = read_type(in, key);
  if (type == MetadataType::string) return read_strings(in, key);
  if (type == MetadataType::array) return read_arrays(in, key, depth);
  return read_packed(in, key, type);
}

MetadataValue read_value(HeaderReader& in, const std::string& key) {
  switch (read_type(in, key)) {
    case MetadataType::uint8:
      return in.read<std::uint8_t>(key);
    case MetadataType::int8:
      return in.read<std::int8_t>(key);
    case MetadataType::uint16:
      return in.read<std::uint16_t>(key);
    case MetadataType::int16:
      return in.read<std::int16_t>(key);
    case MetadataType::uint32:
      return in.read<std::uint32_t>(key);
    case MetadataType::int32:
      return in.read<std::int32_t>(key);
    case MetadataType::float32:
      return in.read<float>(key);
    case MetadataType::uint64:
      return in.read<std::uint64_t>(key);
    case MetadataType::int64:
      return in.read<std::int64_t>(key);
    case MetadataType::float64:
      return in.read<double>(key);
    case MetadataType::boolean: {
      const auto value = in.read<std::byte>(key);
      check_boolean(in, key, value);
      return value != std::byte{0};
    }
    case MetadataType::string:
      return std::string(in.read_string(std::numeric_limits<std::uint64_t>::max(), key));
    case MetadataType::array:
      return read_array(in, key, 1);
  }
  throw in.error(key, "unknown metadata type; the file is damaged or too new");
}

void read_metadata(HeaderReader& in, std::uint64_t count, Metadata& metadata) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t offset = in.position();
    const std::string key(in.read_string(kMaxKeyLength, fmt::format("key of metadata {}", i)));
    if (key.empty())
      throw in.error(fmt::format("key of metadata {}", i), "the key is empty; the file is damaged");
    metadata.insert(key, {read_value(in, key), offset});
  }
}

std::uint64_t read_alignment(const Metadata& metadata) {
  constexpr std::string_view kKey = "general.alignment";
  const auto alignment = metadata.get_or<std::uint64_t>(kKey, kDefaultAlignment);
  if (!std::has_single_bit(alignment) || alignment < 8 || alignment > kMaxAlignment) {
    throw metadata.error(
        kKey,
        fmt::format("alignment {} is not a power of two between 8 and {}; convert the model again",
                    alignment, kMaxAlignment));
  }
  return alignment;
}

// Refuses a shape whose number of elements is not representable: later products need no checks.
void read_shape(HeaderReader& in, TensorInfo& tensor) {
  tensor.dimensions = in.read<std::uint32_t>(tensor.name);
  if (tensor.dimensions == 0 || tensor.dimensions > kMaxDimensions) {
    throw in.error(tensor.name,
                   fmt::format("has {} dimensions; 1 to {} are allowed: convert the model again",
                               tensor.dimensions, kMaxDimensions));
  }
  std::uint64_t elements = 1;
  for (std::uint32_t i = 0; i < tensor.dimensions; ++i) {
    const auto n = in.read<std::uint64_t>(tensor.name);
    if (n == 0)
      throw in.error(tensor.name, fmt::format("dimension {} is 0; the file is damaged", i));
    if (n > std::numeric_limits<std::int64_t>::max() / elements) {
      throw in.error(tensor.name, fmt::format("dimension {} is {}: the number of elements "
                                              "overflows; the file is damaged",
                                              i, n));
    }
    elements *= n;
    tensor.ne[i] = n;
  }
}

void read_tensor_type(HeaderReader& in, TensorInfo& tensor) {
  const auto number = in.read<std::uint32_t>(tensor.name);
  const auto type = tensor_type_from_number(number);
  if (!type)
    throw in.error(
        tensor.name,
        fmt::format("unknown tensor type {}; convert the model to another type", number));
  tensor.type = *type;
  const TensorTypeTraits& t = traits(*type);
  if (tensor.ne[0] % t.block_elements != 0) {
    throw in.error(tensor.name, fmt::format("row of {} elements is not a multiple of {}'s block "
                                            "of {}; convert the model to another type",
                                            tensor.ne[0], t.name, t.block_elements));
  }
  const std::uint64_t blocks = tensor.ne[0] / t.block_elements * tensor.rows();
  if (blocks > in.size() / t.block_bytes) {
    throw in.error(
        tensor.name,
        fmt::format("{} {} needs more bytes than the file has ({}); it is truncated or damaged",
                    t.name, shape_to_string(tensor), in.size()));
  }
  tensor.bytes.size = {blocks * t.block_bytes};
}

TensorInfo read_tensor(HeaderReader& in, std::uint64_t number, std::uint64_t alignment) {
  TensorInfo tensor;
  tensor.table_offset = in.position();
  const std::string field = fmt::format("name of tensor {}", number);
  tensor.name = in.read_string(kMaxTensorNameLength, field);
  if (tensor.name.empty()) throw in.error(field, "the name is empty; the file is damaged");
  read_shape(in, tensor);
  read_tensor_type(in, tensor);
  tensor.bytes.offset = {in.read<std::uint64_t>(tensor.name)};
  if (tensor.bytes.offset.count % alignment != 0) {
    throw in.error(
        tensor.name,
        fmt::format("data offset {} is not a multiple of the alignment {}; convert the model again",
                    tensor.bytes.offset.count, alignment));
  }
  if (tensor.bytes.offset.count > in.size()) {
    throw in.error(
        tensor.name,
        fmt::format("data offset {} is beyond the end of the file ({}); it is truncated or damaged",
                    tensor.bytes.offset.count, in.size()));
  }
  return tensor;
}

// Offsets in the table count from the end of the header; from here on they count from the beginning
// of the file.
void place_tensors(const HeaderReader& in, std::uint64_t alignment,
                   std::vector<TensorInfo>& tensors) {
  const Bytes data_begin = round_up({in.position()}, {alignment});
  for (TensorInfo& tensor : tensors) {
    tensor.bytes.offset += data_begin;
    if (tensor.bytes.end().count > in.size()) {
      throw in.error_at(
          tensor.table_offset, tensor.name,
          fmt::format("data at [{}, {}) is beyond the end of the file ({}); the file "
                      "is truncated or damaged",
                      tensor.bytes.offset.count, tensor.bytes.end().count, in.size()));
    }
  }
}

void check_overlap(const HeaderReader& in, const std::vector<TensorInfo>& tensors) {
  std::vector<const TensorInfo*> by_offset;
  by_offset.reserve(tensors.size());
  for (const TensorInfo& tensor : tensors) by_offset.push_back(&tensor);
  std::ranges::sort(by_offset, {}, [](const TensorInfo* t) { return t->bytes; });
  for (std::size_t i = 1; i < by_offset.size(); ++i) {
    const TensorInfo& before = *by_offset[i - 1];
    const TensorInfo& after = *by_offset[i];
    if (before.bytes.end() <= after.bytes.offset) continue;
    throw in.error_at(
        after.table_offset, after.name,
        fmt::format("its data overlaps that of {}; convert the model again", before.name));
  }
}

GgufFile parse(HeaderReader& in) {
  read_magic_and_version(in);
  const std::uint64_t tensor_count = in.read_count(kMinTensorBytes, "tensor count");
  const std::uint64_t metadata_count = in.read_count(kMinKeyValueBytes, "metadata count");
  GgufFile file{Metadata(in.path()), {}, {in.size()}};
  read_metadata(in, metadata_count, file.metadata);
  const std::uint64_t alignment = read_alignment(file.metadata);
  for (std::uint64_t i = 0; i < tensor_count; ++i) {
    file.tensors.push_back(read_tensor(in, i, alignment));
  }
  place_tensors(in, alignment, file.tensors);
  check_overlap(in, file.tensors);
  return file;
}

}  // namespace

GgufFile parse_gguf_file(const std::filesystem::path& path) {
  HeaderReader in(path);
  return parse(in);
}

GgufFile parse_gguf_outline(const std::filesystem::path& name, std::span<const std::byte> header,
                            Bytes size) {
  HeaderReader in(name, header, size.count);
  return parse(in);
}

}  // namespace tensor_pager::loaders
