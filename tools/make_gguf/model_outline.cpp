// SPDX-License-Identifier: Apache-2.0
#include "model_outline.hpp"

#include <algorithm>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gguf_writer.hpp"
#include "pager/errors.hpp"
#include "random_weights.hpp"

namespace tensor_pager::make_gguf {
namespace {

constexpr std::uint64_t kTemplateBlocks = 1 << 15;
constexpr Bytes kPool = MiB(64);
constexpr float kDeviation = 0.02F;

// Whole blocks, some of them many times.
std::vector<std::byte> make_pool(loaders::TensorType type) {
  RandomStream random(static_cast<std::uint64_t>(type) + 1);
  const std::vector<std::byte> some = random_blocks(random, type, kTemplateBlocks, kDeviation);
  std::vector<std::byte> pool;
  while (pool.size() < kPool.count) pool.insert(pool.end(), some.begin(), some.end());
  return pool;
}

class RandomWeights final : public BackingStore {
 public:
  explicit RandomWeights(const loaders::GgufModel& model) : size_(model.image_bytes()) {
    for (const loaders::TensorInfo& tensor : model.tensors()) {
      tensors_.emplace(tensor.bytes.offset, &tensor);
      if (can_make(tensor.type)) pools_.try_emplace(tensor.type);
    }
    for (auto& [type, pool] : pools_) pool = make_pool(type);
  }

  Bytes size() const override { return size_; }

  void read(Bytes offset, std::span<std::byte> out) const override {
    const ByteRange range{offset, {out.size()}};
    if (range.end() > size_) {
      throw StoreError("read of " + std::to_string(out.size()) + " bytes at " +
                       std::to_string(offset.count) + " leaves the image of " +
                       std::to_string(size_.count) + " bytes");
    }
    std::ranges::fill(out, std::byte{0});
    auto next = tensors_.upper_bound(offset);
    if (next != tensors_.begin()) --next;
    for (; next != tensors_.end() && next->first < range.end(); ++next) {
      fill(*next->second, range, out);
    }
  }

 private:
  void fill(const loaders::TensorInfo& tensor, ByteRange range, std::span<std::byte> out) const {
    const auto pool = pools_.find(tensor.type);
    Bytes at = std::max(tensor.bytes.offset, range.offset);
    const Bytes end = std::min(tensor.bytes.end(), range.end());
    while (pool != pools_.end() && at < end) {
      const std::size_t from = (at - tensor.bytes.offset).count % pool->second.size();
      const std::size_t count = std::min(pool->second.size() - from, (end - at).count);
      std::copy_n(pool->second.begin() + static_cast<std::ptrdiff_t>(from), count,
                  out.begin() + static_cast<std::ptrdiff_t>((at - range.offset).count));
      at += Bytes{count};
    }
  }

  Bytes size_;
  std::map<Bytes, const loaders::TensorInfo*> tensors_;
  std::map<loaders::TensorType, std::vector<std::byte>> pools_;
};

}  // namespace

loaders::GgufModel model_outline(const ModelDesign& design, const std::filesystem::path& name) {
  const std::vector<RandomTensor> tensors = tensors_of(design);
  GgufHeader header;
  add_metadata(header, design);
  const Bytes data = declare(header, tensors);
  const std::string begin = header.serialise(kAlignment);
  return loaders::GgufModel::outline(name, std::as_bytes(std::span(begin)),
                                     Bytes{begin.size()} + data);
}

std::unique_ptr<BackingStore> random_weights_of(const loaders::GgufModel& model) {
  return std::make_unique<RandomWeights>(model);
}

}  // namespace tensor_pager::make_gguf
