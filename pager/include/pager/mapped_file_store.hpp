// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "pager/backing_store.hpp"
#include "pager/export.hpp"

namespace tensor_pager {

/// Where file i begins in the image of a MappedFileStore: the sizes of the files before it, each
/// rounded up to this.
inline constexpr Bytes kFileAlignment{4096};

/// A stretch of a file, and where it lies in the image.
struct FilePiece {
  int descriptor = -1;  ///< the store's; open for reading for as long as the store lives
  Bytes offset;         ///< in the file
  ByteRange image;
};

/// The image is one or more files, laid out one after another, mapped read-only into one contiguous
/// host range.
///
/// `read` goes through the file descriptor, not the mapping: a file that was truncated or a disk
/// that fails is then an exception and not a SIGBUS. `data` is the mapping, for devices that read
/// pinned host memory.
class TENSOR_PAGER_EXPORT MappedFileStore final : public BackingStore {
 public:
  /// Throws StoreError if a file cannot be opened, is empty or cannot be mapped.
  explicit MappedFileStore(const std::vector<std::filesystem::path>& files);
  ~MappedFileStore() override;
  MappedFileStore(const MappedFileStore&) = delete;
  MappedFileStore& operator=(const MappedFileStore&) = delete;

  Bytes size() const override { return size_; }
  void read(Bytes offset, std::span<std::byte> out) const override;
  const std::byte* data() const override { return base_; }
  const std::byte* address(ByteRange range) const override;

  /// The stretches of files that the range consists of, in order, for those who map them elsewhere.
  /// What lies between a file's end and the next multiple of kFileAlignment is no file's.
  /// Throws StoreError if the range leaves the image.
  std::vector<FilePiece> pieces(ByteRange range) const;
  /// Throws StoreError if a file has become too short for the range since it was opened. It may
  /// still become so at any later moment, and reading a mapping of what is gone is a SIGBUS.
  void require_complete(ByteRange range) const;

  std::size_t file_count() const { return files_.size(); }
  /// Where file `i` lies in the image.
  ByteRange file_range(std::size_t i) const { return {files_.at(i).offset, files_.at(i).size}; }

 private:
  struct File {
    std::filesystem::path path;
    int descriptor = -1;
    Bytes offset;
    Bytes size;
  };

  void open_files(const std::vector<std::filesystem::path>& paths);
  void map_files();
  void close() noexcept;
  static std::string place(const File& file, Bytes offset, Bytes size);
  void require_inside(const char* what, ByteRange range) const;
  std::vector<File>::const_iterator file_at(Bytes offset) const;

  std::vector<File> files_;
  Bytes size_;
  std::byte* base_ = nullptr;
};

}  // namespace tensor_pager
