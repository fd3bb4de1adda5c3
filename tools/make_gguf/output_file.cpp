// SPDX-License-Identifier: Apache-2.0
#include "output_file.hpp"

namespace tensor_pager::make_gguf {
namespace {

constexpr std::size_t kBufferBytes = 4 << 20;

}  // namespace

OutputFile::OutputFile(const std::filesystem::path& path) : file_(path) {
  buffer_.reserve(kBufferBytes);
}

void OutputFile::write(std::span<const std::byte> bytes) {
  if (buffer_.size() + bytes.size() > kBufferBytes) flush();
  if (bytes.size() >= kBufferBytes) {
    file_.write(bytes);
  } else {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  }
  size_ += {bytes.size()};
}

void OutputFile::pad(Bytes alignment) {
  const std::vector<std::byte> zeros((round_up(size_, alignment) - size_).count);
  write(zeros);
}

void OutputFile::flush() {
  file_.write(buffer_);
  buffer_.clear();
}

void OutputFile::commit() {
  flush();
  file_.commit();
}

}  // namespace tensor_pager::make_gguf
