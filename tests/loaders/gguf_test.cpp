// SPDX-License-Identifier: Apache-2.0
#include "loaders/gguf.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "../temporary_directory.hpp"
#include "gguf_writer.hpp"

namespace tensor_pager::loaders {
namespace {

using make_gguf::append_value;
using make_gguf::GgufHeader;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using tests::TemporaryDirectory;

// The message of the GgufError that `f` throws, or "" if it throws none.
template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const GgufError& error) {
    return error.what();
  }
  return "";
}

class GgufTest : public testing::Test {
 protected:
  GgufModel open(const GgufHeader& header, std::size_t data_bytes = 0, Bytes alignment = {32}) {
    return GgufModel::open(directory_.write(
        "model.gguf", header.serialise(alignment) + std::string(data_bytes, '\0')));
  }

  TemporaryDirectory directory_;
};

TEST_F(GgufTest, ReadsEveryScalarType) {
  GgufHeader header;
  header.add("u8", std::uint8_t{200});
  header.add("i8", std::int8_t{-100});
  header.add("u16", std::uint16_t{60000});
  header.add("i16", std::int16_t{-30000});
  header.add("u32", std::uint32_t{4000000000});
  header.add("i32", std::int32_t{-2000000000});
  header.add("u64", std::uint64_t{1} << 63);
  header.add("i64", std::numeric_limits<std::int64_t>::min());
  header.add("f32", 1.5f);
  header.add("f64", 0.1);
  header.add("yes", true);
  header.add("no", false);
  header.add("text", std::string("a\0b", 3));
  const GgufModel model = open(header);
  const Metadata& metadata = model.metadata();
  EXPECT_EQ(metadata.size(), 13u);
  EXPECT_EQ(metadata.get<std::uint8_t>("u8"), 200);
  EXPECT_EQ(metadata.get<std::int8_t>("i8"), -100);
  EXPECT_EQ(metadata.get<std::uint16_t>("u16"), 60000);
  EXPECT_EQ(metadata.get<std::int16_t>("i16"), -30000);
  EXPECT_EQ(metadata.get<std::uint32_t>("u32"), 4000000000);
  EXPECT_EQ(metadata.get<std::int32_t>("i32"), -2000000000);
  EXPECT_EQ(metadata.get<std::uint64_t>("u64"), std::uint64_t{1} << 63);
  EXPECT_EQ(metadata.get<std::int64_t>("i64"), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(metadata.get<float>("f32"), 1.5f);
  EXPECT_EQ(metadata.get<double>("f64"), 0.1);
  EXPECT_TRUE(metadata.get<bool>("yes"));
  EXPECT_FALSE(metadata.get<bool>("no"));
  EXPECT_EQ(metadata.get<std::string>("text"), std::string("a\0b", 3));
}

TEST_F(GgufTest, ReadsArraysOfEveryType) {
  GgufHeader header;
  header.add_array<std::uint8_t>("u8", {1, 255});
  header.add_array<std::int8_t>("i8", {-1});
  header.add_array<std::uint16_t>("u16", {65535});
  header.add_array<std::int16_t>("i16", {-1, 2, -3});
  header.add_array<std::uint32_t>("u32", {7});
  header.add_array<std::int32_t>("i32", {-7, 7});
  header.add_array<std::uint64_t>("u64", {1});
  header.add_array<std::int64_t>("i64", {-1});
  header.add_array<float>("f32", {0.5f, -2});
  header.add_array<double>("f64", {0.25});
  header.add_array<bool>("bool", {true, false, true});
  header.add_array<std::string_view>("text", {"one", "", "three"});
  header.add_array<std::int32_t>("empty", {});
  const GgufModel model = open(header);
  const Metadata& metadata = model.metadata();
  EXPECT_THAT(metadata.get<std::vector<std::int32_t>>("u8"), ElementsAre(1, 255));
  EXPECT_THAT(metadata.get<std::vector<std::int64_t>>("i8"), ElementsAre(-1));
  EXPECT_THAT(metadata.get<std::vector<std::uint32_t>>("u16"), ElementsAre(65535));
  EXPECT_THAT(metadata.get<std::vector<std::int32_t>>("i16"), ElementsAre(-1, 2, -3));
  EXPECT_THAT(metadata.get<std::vector<std::uint64_t>>("u32"), ElementsAre(7));
  EXPECT_THAT(metadata.get<std::vector<std::int32_t>>("i32"), ElementsAre(-7, 7));
  EXPECT_THAT(metadata.get<std::vector<std::uint32_t>>("u64"), ElementsAre(1));
  EXPECT_THAT(metadata.get<std::vector<std::int32_t>>("i64"), ElementsAre(-1));
  EXPECT_THAT(metadata.get<std::vector<float>>("f32"), ElementsAre(0.5f, -2));
  EXPECT_THAT(metadata.get<std::vector<float>>("f64"), ElementsAre(0.25f));
  EXPECT_THAT(metadata.get<std::vector<bool>>("bool"), ElementsAre(true, false, true));
  EXPECT_THAT(metadata.get<std::vector<std::string>>("text"), ElementsAre("one", "", "three"));
  EXPECT_EQ(metadata.strings("text")[2], "three");
  EXPECT_TRUE(metadata.get<std::vector<float>>("f32").size() == 2);
  EXPECT_TRUE(metadata.get<std::vector<std::int32_t>>("empty").empty());
}

TEST_F(GgufTest, ReadsNestedArrays) {
  std::string bytes;
  append_value(bytes, static_cast<std::uint32_t>(MetadataType::array));
  append_value(bytes, std::uint64_t{2});
  GgufHeader::append_array<std::int32_t>(bytes, {1, 2});
  GgufHeader::append_array<std::string_view>(bytes, {"x"});
  GgufHeader header;
  header.add_raw("nested", static_cast<std::uint32_t>(MetadataType::array), bytes);
  header.add("after", std::uint32_t{5});
  const GgufModel model = open(header);
  const auto& value = std::get<MetadataArray>(model.metadata().entries().at("nested").value);
  const auto& arrays = std::get<std::vector<MetadataArray>>(value.elements());
  ASSERT_EQ(value.size(), 2u);
  EXPECT_EQ(arrays[0].packed<std::int32_t>(1), 2);
  EXPECT_EQ(std::get<StringArray>(arrays[1].elements())[0], "x");
  EXPECT_EQ(model.metadata().get<std::uint32_t>("after"), 5u);
}

TEST_F(GgufTest, IntegersAreConvertedWithoutLossOrNotAtAll) {
  GgufHeader header;
  header.add("u8", std::uint8_t{200});
  header.add("minus", std::int64_t{-1});
  header.add_array<std::int32_t>("list", {3, -4});
  const GgufModel model = open(header);
  const Metadata& metadata = model.metadata();
  EXPECT_EQ(metadata.get<std::int64_t>("u8"), 200);
  EXPECT_EQ(metadata.get<std::int8_t>("minus"), -1);
  EXPECT_THAT(error_of([&] { metadata.get<std::int8_t>("u8"); }),
              AllOf(HasSubstr("u8"), HasSubstr("200"), HasSubstr("[-128, 127]")));
  EXPECT_THAT(error_of([&] { metadata.get<std::uint64_t>("minus"); }), HasSubstr("-1"));
  EXPECT_THAT(error_of([&] { metadata.get<std::vector<std::uint32_t>>("list"); }),
              AllOf(HasSubstr("element 1 is -4"), HasSubstr("list")));
}

TEST_F(GgufTest, ErrorsOfAccessNameKeyExpectedAndFoundType) {
  GgufHeader header;
  header.add("number", std::uint32_t{1});
  header.add("text", "hello");
  header.add("flag", true);
  header.add_array<float>("list", {1, 2});
  const GgufModel model = open(header);
  const Metadata& metadata = model.metadata();
  EXPECT_THAT(error_of([&] { metadata.get<std::string>("number"); }),
              AllOf(HasSubstr("model.gguf"), HasSubstr("number"), HasSubstr("expected string"),
                    HasSubstr("found uint32")));
  EXPECT_THAT(error_of([&] { metadata.get<std::uint32_t>("text"); }),
              AllOf(HasSubstr("expected integer"), HasSubstr("found string")));
  EXPECT_THAT(error_of([&] { metadata.get<std::uint32_t>("flag"); }), HasSubstr("found bool"));
  EXPECT_THAT(error_of([&] { metadata.get<float>("number"); }), HasSubstr("expected float"));
  EXPECT_THAT(error_of([&] { metadata.get<float>("list"); }),
              HasSubstr("found array of 2 float32"));
  EXPECT_THAT(error_of([&] { metadata.strings("list"); }), HasSubstr("expected array of string"));
  EXPECT_THAT(error_of([&] { metadata.get<std::vector<std::int32_t>>("list"); }),
              HasSubstr("expected array of integer"));
  EXPECT_THAT(error_of([&] { metadata.get<std::vector<float>>("number"); }),
              HasSubstr("expected array of float"));
  EXPECT_THAT(error_of([&] { metadata.get<bool>("nothing"); }),
              AllOf(HasSubstr("nothing"), HasSubstr("missing")));
  EXPECT_EQ(metadata.get_or<std::uint32_t>("nothing", 9), 9u);
  EXPECT_EQ(metadata.get_optional<std::uint32_t>("nothing"), std::nullopt);
  EXPECT_NE(error_of([&] { (void)metadata.get_or<std::uint32_t>("text", 9); }), "");
}

TEST_F(GgufTest, TensorsAreWhereTheTableSays) {
  for (const std::uint32_t version : {2u, 3u}) {
    GgufHeader header(version);
    header.add("general.alignment", std::uint32_t{64});
    header.declare({"b", {32, 3}, 2, 64});  // Q4_0: 3 rows of 18 bytes
    header.declare({"a", {4}, 0, 0});
    header.declare({"c", {2, 3, 5, 7}, 24, 128});  // I8
    const GgufModel model = open(header, 128 + 210, {64});
    const std::uint64_t begin = header.serialise({64}).size();
    ASSERT_EQ(model.tensors().size(), 3u);
    const TensorInfo& b = model.tensors()[0];
    EXPECT_EQ(b.name, "b");
    EXPECT_EQ(b.type, TensorType::q4_0);
    EXPECT_EQ(b.rows(), 3u);
    EXPECT_EQ(b.row_bytes(), Bytes{18});
    EXPECT_EQ(b.bytes, (ByteRange{{begin + 64}, {54}}));
    EXPECT_EQ(shape_to_string(b), "{32, 3}");
    EXPECT_EQ(model.find("a")->bytes, (ByteRange{{begin}, {16}}));
    EXPECT_EQ(model.find("c")->bytes, (ByteRange{{begin + 128}, {210}}));
    EXPECT_EQ(model.find("c")->rows(), 105u);
    EXPECT_EQ(model.find("d"), nullptr);
    EXPECT_EQ(model.weights_bytes(), Bytes{54 + 16 + 210});
    EXPECT_EQ(model.image_bytes(), Bytes{begin + 338});
  }
}

// Bits per weight as published for each type: an independent check of the table's block sizes.
TEST(TensorTypeTest, SizesAreTheFormats) {
  const struct {
    std::uint32_t number;
    std::string_view name;
    double bits;
  } types[] = {
      {0, "F32", 32},         {1, "F16", 16},          {2, "Q4_0", 4.5},
      {3, "Q4_1", 5},         {6, "Q5_0", 5.5},        {7, "Q5_1", 6},
      {8, "Q8_0", 8.5},       {9, "Q8_1", 9},          {10, "Q2_K", 2.625},
      {11, "Q3_K", 3.4375},   {12, "Q4_K", 4.5},       {13, "Q5_K", 5.5},
      {14, "Q6_K", 6.5625},   {15, "Q8_K", 9.125},     {16, "IQ2_XXS", 2.0625},
      {17, "IQ2_XS", 2.3125}, {18, "IQ3_XXS", 3.0625}, {19, "IQ1_S", 1.5625},
      {20, "IQ4_NL", 4.5},    {21, "IQ3_S", 3.4375},   {22, "IQ2_S", 2.5625},
      {23, "IQ4_XS", 4.25},   {24, "I8", 8},           {25, "I16", 16},
      {26, "I32", 32},        {27, "I64", 64},         {28, "F64", 64},
      {29, "IQ1_M", 1.75},    {30, "BF16", 16},        {34, "TQ1_0", 1.6875},
      {35, "TQ2_0", 2.0625},  {39, "MXFP4", 4.25},     {40, "NVFP4", 4.5},
      {41, "Q1_0", 1.125},    {42, "Q2_0", 2.25},
  };
  std::uint32_t known = 0;
  for (std::uint32_t number = 0; number < 1000; ++number) {
    if (tensor_type_from_number(number)) ++known;
  }
  EXPECT_EQ(known, std::size(types));
  for (const auto& expected : types) {
    const auto type = tensor_type_from_number(expected.number);
    ASSERT_TRUE(type) << expected.name;
    EXPECT_EQ(to_string(*type), expected.name);
    EXPECT_EQ(8.0 * traits(*type).block_bytes / traits(*type).block_elements, expected.bits)
        << expected.name;
  }
}

// A type that nothing can compute with is no reason not to read the file.
TEST_F(GgufTest, EveryKnownTensorTypeIsRead) {
  for (std::uint32_t number = 0; number < 64; ++number) {
    const auto type = tensor_type_from_number(number);
    if (!type) continue;
    GgufHeader header;
    header.declare({"t", {256, 2}, number, 0});
    const GgufModel model = open(header, 4096);
    EXPECT_EQ(model.tensors()[0].type, *type);
    EXPECT_EQ(model.tensors()[0].bytes.size, bytes_of(*type, 256) * 2);
  }
}

TEST_F(GgufTest, VocabulariesCostTheirCharacters) {
  constexpr std::size_t kTokens = 152064;
  std::vector<std::string> tokens;
  for (std::size_t i = 0; i < kTokens; ++i) tokens.push_back("token" + std::to_string(i));
  GgufHeader header;
  header.add_array<std::string_view>("tokens", {tokens.begin(), tokens.end()});
  const GgufModel model = open(header);
  const StringArray& read = model.metadata().strings("tokens");
  ASSERT_EQ(read.size(), kTokens);
  for (std::size_t i = 0; i < kTokens; i += 997) EXPECT_EQ(read[i], tokens[i]);
  EXPECT_EQ(read[kTokens - 1], tokens.back());
}

}  // namespace
}  // namespace tensor_pager::loaders
