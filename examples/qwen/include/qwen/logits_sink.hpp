// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <vector>

#include "kernels/matrix_view.hpp"
#include "output/replacement_file.hpp"

namespace tensor_pager::qwen {

/// Takes the logits of a pass as they are computed, in pieces: the output matrix is read slice by
/// slice, and nobody has to hold all logits of a prompt at once.
class LogitsSink {
 public:
  LogitsSink() = default;
  virtual ~LogitsSink() = default;
  LogitsSink(const LogitsSink&) = delete;
  LogitsSink& operator=(const LogitsSink&) = delete;

  /// logits[i, j] belongs to wanted position `first + i` (0 is the first wanted one) and token
  /// `first_token + j`. Host memory, valid during the call. Every pair comes once.
  virtual void take(std::size_t first, std::size_t first_token,
                    const kernels::ConstMatrixView& logits) = 0;
};

/// For a pass whose logits nobody wants.
class NoLogits final : public LogitsSink {
 public:
  void take(std::size_t /*first*/, std::size_t /*first_token*/,
            const kernels::ConstMatrixView& /*logits*/) override {}
};

/// Keeps the logits of the last wanted position: what generation needs. Those of rows beyond the
/// vocabulary are left out.
class LastLogits final : public LogitsSink {
 public:
  /// `wanted` positions in all, `vocabulary` tokens.
  LastLogits(std::size_t wanted, std::size_t vocabulary) : last_(wanted - 1), values_(vocabulary) {}

  void take(std::size_t first, std::size_t first_token,
            const kernels::ConstMatrixView& logits) override;

  std::span<const float> values() const { return values_; }

 private:
  std::size_t last_;
  std::vector<float> values_;
};

/// Keeps the logits of all wanted positions, without those of rows beyond the vocabulary.
class EachLogits final : public LogitsSink {
 public:
  EachLogits(std::size_t wanted, std::size_t vocabulary)
      : vocabulary_(vocabulary), values_(wanted * vocabulary) {}

  void take(std::size_t first, std::size_t first_token,
            const kernels::ConstMatrixView& logits) override;

  std::span<const float> values(std::size_t wanted) const {
    return std::span(values_).subspan(wanted * vocabulary_, vocabulary_);
  }

 private:
  std::size_t vocabulary_;
  std::vector<float> values_;
};

/// Writes all logits to a file: float32, little-endian, [wanted positions, vocabulary]. It is in
/// its place once it is closed. What comes is passed on to `next`.
class LogitsFile final : public LogitsSink {
 public:
  /// Throws OutputError if the file cannot be written.
  LogitsFile(const std::filesystem::path& path, std::size_t vocabulary, LogitsSink& next)
      : file_(path), vocabulary_(vocabulary), next_(&next) {}

  /// Throws OutputError, as does close.
  void take(std::size_t first, std::size_t first_token,
            const kernels::ConstMatrixView& logits) override;
  void close() { file_.commit(); }

 private:
  output::ReplacementFile file_;
  std::size_t vocabulary_;
  LogitsSink* next_;
};

}  // namespace tensor_pager::qwen
