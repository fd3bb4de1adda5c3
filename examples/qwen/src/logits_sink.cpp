#include "qwen/logits_sink.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <system_error>
#include <utility>

#include "qwen/error.hpp"

namespace tensor_pager::qwen {

static_assert(std::endian::native == std::endian::little, "logits are written as they are");

void LastLogits::take(std::size_t first, std::size_t first_token,
                      const kernels::ConstMatrixView& logits) {
  if (last_ < first || last_ >= first + logits.rows || first_token >= values_.size()) return;
  std::copy_n(logits.row(last_ - first), std::min(logits.cols, values_.size() - first_token),
              values_.begin() + static_cast<std::ptrdiff_t>(first_token));
}

LogitsFile::LogitsFile(std::filesystem::path path, std::size_t vocabulary, LogitsSink& next)
    : path_(std::move(path)),
      vocabulary_(vocabulary),
      next_(&next),
      out_(path_, std::ios::binary | std::ios::trunc) {
  require_good();
}

void LogitsFile::take(std::size_t first, std::size_t first_token,
                      const kernels::ConstMatrixView& logits) {
  for (std::size_t r = 0; r < logits.rows; ++r) {
    const std::size_t at = ((first + r) * vocabulary_ + first_token) * sizeof(float);
    out_.seekp(static_cast<std::streamoff>(at));
    out_.write(reinterpret_cast<const char*>(logits.row(r)),
               static_cast<std::streamsize>(logits.cols * sizeof(float)));
  }
  require_good();
  next_->take(first, first_token, logits);
}

void LogitsFile::close() {
  out_.close();
  require_good();
}

void LogitsFile::require_good() const {
  if (out_.good()) return;
  throw Error(fmt::format("{}: cannot write the logits: {}; choose another --logits file",
                          path_.string(), std::generic_category().message(errno)));
}

}  // namespace tensor_pager::qwen
