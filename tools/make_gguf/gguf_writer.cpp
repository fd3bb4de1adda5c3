// SPDX-License-Identifier: Apache-2.0
#include "gguf_writer.hpp"

#include <algorithm>

namespace tensor_pager::make_gguf {

void GgufHeader::add_raw(std::string_view key, std::uint32_t type, std::string_view bytes) {
  append_value(metadata_, key);
  append_value(metadata_, type);
  metadata_ += bytes;
  ++metadata_count_;
}

void GgufHeader::declare(const TensorDeclaration& tensor) {
  append_value(tensors_, tensor.name);
  append_value(tensors_, static_cast<std::uint32_t>(tensor.ne.size()));
  for (const std::uint64_t n : tensor.ne) append_value(tensors_, n);
  append_value(tensors_, tensor.type);
  append_value(tensors_, tensor.offset);
  ++tensor_count_;
}

std::string GgufHeader::serialise(Bytes alignment) const {
  std::string out = "GGUF";
  append_value(out, version_);
  append_value(out, tensor_count_);
  append_value(out, metadata_count_);
  out += metadata_;
  out += tensors_;
  out.resize(round_up({out.size()}, alignment).count, '\0');
  return out;
}

Bytes tensor_bytes(loaders::TensorType type, const std::vector<std::uint64_t>& ne) {
  Bytes bytes = loaders::bytes_of(type, ne.front());
  std::for_each(ne.begin() + 1, ne.end(), [&](std::uint64_t n) { bytes = bytes * n; });
  return bytes;
}

}  // namespace tensor_pager::make_gguf
