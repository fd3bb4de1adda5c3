// SPDX-License-Identifier: Apache-2.0
#include "qwen/product_factors.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <string>

#include "../temporary_directory.hpp"
#include "random_model.hpp"

namespace tensor_pager::qwen {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kScale = "blk.0.ffn_down.scale";

class ProductFactorsTest : public testing::Test {
 protected:
  // A random model of one layer whose matrices have scales, changed by `change`.
  std::string model(const std::function<void(std::string&)>& change = {}) {
    const std::filesystem::path path = directory_ / "made.gguf";
    make_gguf::write_random_model(path, {.type = "nvfp4", .layers = 1});
    std::ifstream in(path, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(in), {}};
    if (change) change(bytes);
    return directory_.write("m.gguf", bytes);
  }

  // Replaces a number behind a tensor's name in the tensor table: u32 dimensions at 0, u64 elements
  // at 4, u32 type at 12.
  template <class T>
  static std::function<void(std::string&)> entry(std::size_t offset, T value) {
    return [=](std::string& bytes) {
      const std::string name = kScale;
      std::memcpy(bytes.data() + bytes.find(name) + name.size() + offset, &value, sizeof(value));
    };
  }

  static std::string error(const std::string& path) {
    try {
      const auto model = loaders::GgufModel::open(path);
      const ProductFactors factors(model, loaders::build_graph(model));
      return "no error";
    } catch (const loaders::GgufError& e) {
      return e.what();
    }
  }

  static float factor(const loaders::GgufModel& model, std::string_view weight) {
    const loaders::TensorInfo* tensor = model.find(weight);
    return ProductFactors(model, loaders::build_graph(model))
        .of(static_cast<std::uint32_t>(tensor - model.tensors().data()));
  }

  tests::TemporaryDirectory directory_;
};

TEST_F(ProductFactorsTest, AreTheScalesBesideTheMatrices) {
  constexpr float kValue = 0.375F;
  std::uint64_t offset = 0;
  const std::string path = model();
  {
    const auto plain = loaders::GgufModel::open(path);
    offset = plain.find(kScale)->bytes.offset.count;
    EXPECT_EQ(factor(plain, "token_embd.weight"), 1.0F);
    EXPECT_EQ(factor(plain, "blk.0.attn_norm.weight"), 1.0F);
    EXPECT_NE(factor(plain, "blk.0.ffn_up.weight"), 1.0F);
  }
  const auto changed = loaders::GgufModel::open(model(
      [&](std::string& bytes) { std::memcpy(bytes.data() + offset, &kValue, sizeof(kValue)); }));
  EXPECT_EQ(factor(changed, "blk.0.ffn_down.weight"), kValue);
}

TEST_F(ProductFactorsTest, BadScalesAreNamed) {
  EXPECT_THAT(error(model(entry(4, std::uint64_t{2}))),
              AllOf(HasSubstr(kScale), HasSubstr("{2}"), HasSubstr("blk.0.ffn_down.weight")));
  EXPECT_THAT(error(model(entry(12, std::uint32_t{1}))),
              AllOf(HasSubstr(kScale), HasSubstr("F16")));
  const auto offset = loaders::GgufModel::open(model()).find(kScale)->bytes.offset.count;
  EXPECT_THAT(error(model([&](std::string& bytes) {
                const float value = std::numeric_limits<float>::infinity();
                std::memcpy(bytes.data() + offset, &value, sizeof(value));
              })),
              AllOf(HasSubstr(kScale), HasSubstr("finite")));
}

}  // namespace
}  // namespace tensor_pager::qwen
