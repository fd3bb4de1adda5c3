// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/gguf_error.hpp"
#include "loaders/metadata.hpp"
#include "loaders/tensor_type.hpp"
#include "pager/export.hpp"
#include "pager/types.hpp"

namespace tensor_pager::loaders {

/// Limits that no sane file exceeds. They bound what a hostile file can make the reader do.
inline constexpr std::uint32_t kMaxDimensions = 4;
inline constexpr std::uint64_t kMaxKeyLength = 65535;
inline constexpr std::uint64_t kMaxTensorNameLength = 64;
inline constexpr std::uint32_t kMaxArrayDepth = 8;
inline constexpr std::uint64_t kDefaultAlignment = 32;
inline constexpr std::uint64_t kMaxAlignment = 1 << 20;
/// Metadata and tensor table of one file.
inline constexpr Bytes kMaxHeaderSize = GiB(1);

/// One tensor of the model. Rows are contiguous: `ne[0]` elements each, `rows()` of them.
struct TensorInfo {
  std::string name;
  /// Shape in GGUF order: {in, out, ...}; unused dimensions are 1.
  std::array<std::uint64_t, kMaxDimensions> ne{1, 1, 1, 1};
  std::uint32_t dimensions = 1;
  TensorType type = TensorType::f32;
  /// Where the data is in the model's image.
  ByteRange bytes;
  /// Which of GgufModel::files() holds it.
  std::uint32_t file = 0;
  /// Where that file's tensor table describes it; for errors.
  std::uint64_t table_offset = 0;

  std::uint64_t rows() const { return ne[1] * ne[2] * ne[3]; }
  Bytes row_bytes() const { return bytes_of(type, ne[0]); }
};

/// "{256, 512}": the shape of a tensor, for people to read.
TENSOR_PAGER_EXPORT std::string shape_to_string(const TensorInfo& tensor);

/// One file of a model and its place in the image.
struct ModelFile {
  std::filesystem::path path;
  /// Offset in the image at which the file begins, a multiple of tensor_pager::kFileAlignment.
  Bytes base;
  Bytes size;
};

/// The metadata and the tensor table of a GGUF model, version 2 or 3, little-endian.
///
/// The model's image is its files one after another, each beginning at a multiple of
/// kFileAlignment, which is the layout of MappedFileStore; a file's own bytes are not changed, so a
/// tensor's offset in the image is base + offset in file. Only headers are read here. Every count,
/// length and offset is checked against the size of the file before it is used, so a damaged or
/// hostile file ends in a GgufError. Tensors that overlap are refused.
class TENSOR_PAGER_EXPORT GgufModel {
 public:
  /// Opens a model; for a split model `path` is its first file and the others are found beside it
  /// by name. Throws GgufError.
  static GgufModel open(const std::filesystem::path& path);

  /// The outline of a model of one file that need not be there: `header` is what the file begins
  /// with, up to its data, and `size` its size. Errors call it `name`, and so does files(). Throws
  /// GgufError as `open` does.
  static GgufModel outline(const std::filesystem::path& name, std::span<const std::byte> header,
                           Bytes size);

  /// Keys of the (first) file.
  const Metadata& metadata() const { return metadata_; }
  /// In the order of the files.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  /// The tensor of that name, or nullptr.
  const TensorInfo* find(std::string_view name) const;
  const std::vector<ModelFile>& files() const { return files_; }
  /// The files' paths, as MappedFileStore takes them.
  std::vector<std::filesystem::path> paths() const;

  /// Size of the image: the end of the last file.
  Bytes image_bytes() const;
  /// Bytes of all tensors together.
  Bytes weights_bytes() const;

  /// The error to throw for a tensor that cannot be used.
  GgufError error(const TensorInfo& tensor, const std::string& problem) const;
  /// The error to throw for a tensor that should be there.
  GgufError missing_tensor(std::string_view name) const;

 private:
  struct Piece;

  void open_pieces(const std::filesystem::path& first);
  void append(Piece piece);

  Metadata metadata_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::vector<ModelFile> files_;
};

}  // namespace tensor_pager::loaders
