// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gguf_writer.hpp"
#include "loaders/tensor_type.hpp"

namespace tensor_pager::tests {

/// A GGUF file of one piece in memory, to be written again with something changed. Nothing is
/// checked: what comes out may be wrong in any way.
class EditedModel {
 public:
  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> ne;
    loaders::TensorType type;
    std::vector<std::byte> data;
  };

  explicit EditedModel(const std::filesystem::path& path);

  template <class T>
  EditedModel& set(const std::string& key, const T& value) {
    std::string bytes;
    make_gguf::append_value(bytes, value);
    keys_[key] = {static_cast<std::uint32_t>(make_gguf::metadata_type<T>()), bytes};
    return *this;
  }
  template <class T>
  EditedModel& set_array(const std::string& key, const std::vector<T>& values) {
    std::string bytes;
    make_gguf::GgufHeader::append_array(bytes, values);
    keys_[key] = {static_cast<std::uint32_t>(loaders::MetadataType::array), bytes};
    return *this;
  }
  EditedModel& erase(const std::string& key);

  const std::vector<Tensor>& tensors() const { return tensors_; }
  /// nullptr if there is none of that name.
  Tensor* find(const std::string& name);
  /// Throws std::out_of_range.
  Tensor& tensor(const std::string& name);
  /// A float32 tensor, at the end of the file.
  EditedModel& add(const std::string& name, std::vector<std::uint64_t> ne,
                   std::span<const float> values);
  EditedModel& remove(const std::string& name);

  /// Returns `path`.
  std::filesystem::path write(const std::filesystem::path& path) const;

 private:
  std::map<std::string, std::pair<std::uint32_t, std::string>> keys_;  // type and bytes
  std::vector<Tensor> tensors_;
};

}  // namespace tensor_pager::tests
