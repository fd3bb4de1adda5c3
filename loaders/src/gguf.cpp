// SPDX-License-Identifier: Apache-2.0
#include "loaders/gguf.hpp"

#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <system_error>
#include <utility>

#include "gguf_file.hpp"
#include "pager/mapped_file_store.hpp"

namespace tensor_pager::loaders {
namespace {

constexpr std::string_view kSplitCount = "split.count";
constexpr std::string_view kSplitNumber = "split.no";
constexpr std::string_view kSplitTensors = "split.tensors.count";

// "PREFIX-00001-of-00003.gguf", taken apart.
struct SplitName {
  std::string prefix;
  std::uint32_t number = 0;  // from 1
  std::uint32_t count = 0;

  std::string piece(std::uint32_t n) const {
    return fmt::format("{}-{:05}-of-{:05}.gguf", prefix, n, count);
  }
};

std::optional<std::uint32_t> five_digits(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.size() != 5 || code != std::errc{} || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

std::optional<SplitName> parse_split_name(const std::string& file_name) {
  constexpr std::string_view kPattern = "-00000-of-00000.gguf";
  if (file_name.size() <= kPattern.size()) return std::nullopt;
  const std::size_t prefix = file_name.size() - kPattern.size();
  const std::string_view tail = std::string_view(file_name).substr(prefix);
  const auto number = five_digits(tail.substr(1, 5));
  const auto count = five_digits(tail.substr(10, 5));
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-" || tail.substr(15) != ".gguf" || !number ||
      !count) {
    return std::nullopt;
  }
  return SplitName{file_name.substr(0, prefix), *number, *count};
}

SplitName require_split_name(const std::filesystem::path& path, const Metadata& metadata,
                             std::uint32_t count) {
  const auto name = parse_split_name(path.filename().string());
  if (!name || name->count != count) {
    throw metadata.error(
        kSplitCount,
        fmt::format("the model is split into {} files, but this one is not named "
                    "PREFIX-00001-of-{:05}.gguf, so the others cannot be found; rename it",
                    count, count));
  }
  return *name;
}

void require_count(const Metadata& metadata, std::uint32_t count) {
  const auto its_count = metadata.get<std::uint16_t>(kSplitCount);
  if (its_count == count) return;
  throw metadata.error(
      kSplitCount,
      fmt::format("the first file says {}, this one says {}; get all files of one version", count,
                  its_count));
}

// People count files from 1, as their names do; keys count from 0.
void require_number(const Metadata& metadata, const SplitName& name, std::uint32_t number) {
  const std::uint32_t held = metadata.get<std::uint16_t>(kSplitNumber) + 1U;
  if (held == number) return;
  if (held > name.count) {
    throw metadata.error(
        kSplitNumber,
        fmt::format(
            "what is in this file is number {} of only {} files; get all files of one version",
            held, name.count));
  }
  throw metadata.error(
      kSplitNumber,
      fmt::format("{} has what belongs to {}: were files renamed? Give both their own names",
                  name.piece(number), name.piece(held)));
}

}  // namespace

struct GgufModel::Piece {
  std::filesystem::path path;
  GgufFile file;
};

std::string shape_to_string(const TensorInfo& tensor) {
  std::string text = "{";
  for (std::uint32_t i = 0; i < tensor.dimensions; ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : ", ", tensor.ne[i]);
  }
  return text + "}";
}

GgufModel GgufModel::open(const std::filesystem::path& path) {
  GgufModel model;
  model.open_pieces(path);
  return model;
}

GgufModel GgufModel::outline(const std::filesystem::path& name, std::span<const std::byte> header,
                             Bytes size) {
  GgufModel model;
  Piece piece{name, parse_gguf_outline(name, header, size)};
  model.metadata_ = piece.file.metadata;
  model.append(std::move(piece));
  return model;
}

void GgufModel::open_pieces(const std::filesystem::path& first) {
  Piece piece{first, parse_gguf_file(first)};
  metadata_ = piece.file.metadata;
  const auto count = metadata_.get_or<std::uint16_t>(kSplitCount, 1);
  if (count <= 1) return append(std::move(piece));

  const SplitName name = require_split_name(first, metadata_, count);
  require_number(metadata_, name, name.number);
  if (name.number != 1) {
    throw metadata_.error(kSplitNumber,
                          fmt::format("this is file {} of {} of a split model; open {} instead",
                                      name.number, count, name.piece(1)));
  }
  append(std::move(piece));
  for (std::uint32_t number = 2; number <= count; ++number) {
    const std::filesystem::path path = first.parent_path() / name.piece(number);
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored)) {
      throw GgufError(
          path, "", std::nullopt,
          fmt::format("file {} of {} of the split model is missing; put it beside the others",
                      number, count));
    }
    Piece next{path, parse_gguf_file(path)};
    require_count(next.file.metadata, count);
    require_number(next.file.metadata, name, number);
    append(std::move(next));
  }
  const auto expected = metadata_.get<std::uint64_t>(kSplitTensors);
  if (tensors_.size() != expected) {
    throw metadata_.error(kSplitTensors, fmt::format("the model should have {} tensors, but its "
                                                     "files have {}; get all files of one version",
                                                     expected, tensors_.size()));
  }
}

void GgufModel::append(Piece piece) {
  const auto number = static_cast<std::uint32_t>(files_.size());
  const Bytes base = round_up(image_bytes(), kFileAlignment);
  files_.push_back({std::move(piece.path), base, piece.file.size});
  for (TensorInfo& tensor : piece.file.tensors) {
    tensor.bytes.offset += base;
    tensor.file = number;
    const auto [other, inserted] = index_.emplace(tensor.name, tensors_.size());
    if (!inserted) {
      const TensorInfo& first = tensors_[other->second];
      throw error(
          tensor,
          fmt::format(
              "duplicate tensor name, first seen in {} at offset {}; convert the model again",
              files_[first.file].path.string(), first.table_offset));
    }
    tensors_.push_back(std::move(tensor));
  }
}

const TensorInfo* GgufModel::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

std::vector<std::filesystem::path> GgufModel::paths() const {
  std::vector<std::filesystem::path> out;
  for (const ModelFile& file : files_) out.push_back(file.path);
  return out;
}

Bytes GgufModel::image_bytes() const {
  return files_.empty() ? Bytes{} : files_.back().base + files_.back().size;
}

Bytes GgufModel::weights_bytes() const {
  Bytes sum;
  for (const TensorInfo& tensor : tensors_) sum += tensor.bytes.size;
  return sum;
}

GgufError GgufModel::error(const TensorInfo& tensor, const std::string& problem) const {
  return {files_.at(tensor.file).path, tensor.name, tensor.table_offset, problem};
}

GgufError GgufModel::missing_tensor(std::string_view name) const {
  return {files_.front().path, std::string(name), std::nullopt,
          "required tensor is missing; convert the model again"};
}

}  // namespace tensor_pager::loaders
