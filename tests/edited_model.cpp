// SPDX-License-Identifier: Apache-2.0
#include "edited_model.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <variant>

#include "loaders/gguf.hpp"

namespace tensor_pager::tests {
namespace {

using loaders::MetadataArray;

std::string array_bytes(const MetadataArray& array) {
  std::string out;
  if (const auto* strings = std::get_if<loaders::StringArray>(&array.elements())) {
    std::vector<std::string_view> values;
    for (std::size_t i = 0; i < strings->size(); ++i) values.push_back((*strings)[i]);
    make_gguf::GgufHeader::append_array(out, values);
    return out;
  }
  const auto& packed = std::get<loaders::PackedElements>(array.elements());
  make_gguf::append_value(out, static_cast<std::uint32_t>(array.element_type()));
  make_gguf::append_value(out, static_cast<std::uint64_t>(array.size()));
  out.append(reinterpret_cast<const char*>(packed.data()), packed.size());
  return out;
}

std::string value_bytes(const loaders::MetadataValue& value) {
  return std::visit(
      [](const auto& held) {
        if constexpr (std::is_same_v<std::decay_t<decltype(held)>, MetadataArray>) {
          return array_bytes(held);
        } else {
          std::string out;
          make_gguf::append_value(out, held);
          return out;
        }
      },
      value);
}

}  // namespace

EditedModel::EditedModel(const std::filesystem::path& path) {
  const auto model = loaders::GgufModel::open(path);
  for (const auto& [key, entry] : model.metadata().entries()) {
    keys_[key] = {static_cast<std::uint32_t>(loaders::type_of(entry.value)),
                  value_bytes(entry.value)};
  }
  std::ifstream in(path, std::ios::binary);
  for (const loaders::TensorInfo& tensor : model.tensors()) {
    std::vector<std::byte> data(tensor.bytes.size.count);
    in.seekg(static_cast<std::streamoff>(tensor.bytes.offset.count));
    in.read(reinterpret_cast<char*>(data.data()), static_cast<std::streamsize>(data.size()));
    tensors_.push_back({tensor.name,
                        {tensor.ne.begin(), tensor.ne.begin() + tensor.dimensions},
                        tensor.type,
                        std::move(data)});
  }
  if (!in) throw std::runtime_error("cannot read " + path.string());
}

EditedModel& EditedModel::erase(const std::string& key) {
  keys_.erase(key);
  return *this;
}

EditedModel::Tensor* EditedModel::find(const std::string& name) {
  const auto found = std::ranges::find(tensors_, name, &Tensor::name);
  return found == tensors_.end() ? nullptr : &*found;
}

EditedModel::Tensor& EditedModel::tensor(const std::string& name) {
  Tensor* const found = find(name);
  if (found == nullptr) throw std::out_of_range("no tensor " + name);
  return *found;
}

EditedModel& EditedModel::add(const std::string& name, std::vector<std::uint64_t> ne,
                              std::span<const float> values) {
  const auto bytes = std::as_bytes(values);
  tensors_.push_back({name, std::move(ne), loaders::TensorType::f32, {bytes.begin(), bytes.end()}});
  return *this;
}

EditedModel& EditedModel::remove(const std::string& name) {
  std::erase_if(tensors_, [&](const Tensor& tensor) { return tensor.name == name; });
  return *this;
}

std::filesystem::path EditedModel::write(const std::filesystem::path& path) const {
  constexpr Bytes kAlignment{32};
  make_gguf::GgufHeader header;
  for (const auto& [key, value] : keys_) header.add_raw(key, value.first, value.second);
  std::string data;
  for (const Tensor& tensor : tensors_) {
    header.declare({tensor.name, tensor.ne, static_cast<std::uint32_t>(tensor.type), data.size()});
    data.append(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
    data.resize(round_up(Bytes{data.size()}, kAlignment).count);
  }
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << header.serialise(kAlignment) << data;
  if (!out.flush()) throw std::runtime_error("cannot write " + path.string());
  return path;
}

}  // namespace tensor_pager::tests
