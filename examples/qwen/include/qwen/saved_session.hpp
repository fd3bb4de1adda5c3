// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "loaders/tokenizer.hpp"
#include "output/replacement_file.hpp"
#include "qwen/inference.hpp"

namespace tensor_pager::qwen {

/// Writes a sequence: its tokens, their keys and values as the device has them, what they belong to
/// (the model, the settings of its positions), and a checksum. The caller commits the file. Throws
/// OutputError, and what the device or the store throws.
void save_session(Inference& inference, SequenceId sequence, output::ReplacementFile& file);

/// A file that save_session wrote. All that can be known without the model is checked when it is
/// opened, from the first bytes and the file's size: nothing of a large file is read in vain.
class SavedSession {
 public:
  /// Throws Error, in one line, if it cannot be read, or is no such file, or another version's, or
  /// not as long as it says.
  explicit SavedSession(std::filesystem::path path);

  std::size_t tokens() const { return static_cast<std::size_t>(header_.tokens); }

  /// Reads all of it once. Throws Error if the file belongs to another model or other settings,
  /// does not fit the context or is damaged.
  void verify(const Inference& inference);
  /// Makes an empty sequence the one that was saved. Throws what verify throws; the sequence is
  /// empty then.
  void load(Inference& inference, SequenceId sequence);

 private:
  struct Header {
    std::uint64_t magic = 0;
    std::uint32_t version = 0;
    std::uint32_t cache_type = 0;  ///< kernels::WeightType
    std::uint64_t belongs_to = 0;
    std::uint64_t tokens = 0;
    std::uint64_t cache_bytes = 0;
  };
  friend void save_session(Inference&, SequenceId, output::ReplacementFile&);

  [[noreturn]] void fail(const std::string& problem) const;
  void read(std::span<std::byte> bytes) const;
  void require_belongs_to(const Inference& inference) const;
  void require_total(std::uint64_t sum) const;

  std::filesystem::path path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  Header header_;
};

}  // namespace tensor_pager::qwen
