// SPDX-License-Identifier: Apache-2.0
// Files that are damaged, or made to do damage: each must end in an error that says where and what.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include "../temporary_directory.hpp"
#include "gguf_writer.hpp"
#include "loaders/gguf.hpp"
#include "loaders/printable.hpp"

namespace tensor_pager::loaders {
namespace {

using make_gguf::append_value;
using make_gguf::GgufHeader;
using testing::HasSubstr;
using tests::TemporaryDirectory;

constexpr auto kString = static_cast<std::uint32_t>(MetadataType::string);
constexpr auto kArray = static_cast<std::uint32_t>(MetadataType::array);
constexpr std::uint64_t kHuge = std::uint64_t{1} << 60;

template <class... Values>
std::string bytes_of_values(Values... values) {
  std::string out;
  (append_value(out, values), ...);
  return out;
}

// Magic, version 3 and the two counts, then whatever.
std::string file(std::uint64_t tensors, std::uint64_t keys, const std::string& rest) {
  return "GGUF" + bytes_of_values(std::uint32_t{3}, tensors, keys) + rest;
}

std::string with_value(std::uint32_t type, const std::string& value) {
  GgufHeader header;
  header.add_raw("the.key", type, value);
  return header.serialise();
}

std::string with_tensor(const make_gguf::TensorDeclaration& tensor, std::size_t data = 4096) {
  GgufHeader header;
  header.declare(tensor);
  return header.serialise() + std::string(data, '\0');
}

std::string with_alignment(std::uint32_t alignment) {
  GgufHeader header;
  header.add("general.alignment", alignment);
  return header.serialise();
}

std::string nested_arrays(std::uint32_t depth) {
  std::string value;
  for (std::uint32_t i = 0; i < depth; ++i) value += bytes_of_values(kArray, std::uint64_t{1});
  return value + bytes_of_values(std::uint32_t{0}, std::uint64_t{0});
}

std::string twice(bool key) {
  GgufHeader header;
  for (int i = 0; i < 2; ++i) {
    if (key) {
      header.add("same.key", std::uint32_t{1});
    } else {
      header.declare({"same.tensor", {8}, 0, static_cast<std::uint64_t>(i) * 32});
    }
  }
  return header.serialise() + std::string(64, '\0');
}

std::string overlapping() {
  GgufHeader header;
  header.declare({"first", {16}, 0, 0});
  header.declare({"second", {8}, 0, 32});
  return header.serialise() + std::string(64, '\0');
}

struct HostileFile {
  std::string name;
  std::string bytes;
  std::vector<std::string> message;  // what the error must contain
};

void PrintTo(const HostileFile& hostile, std::ostream* out) {
  *out << hostile.name;
}

std::vector<HostileFile> structural_cases() {
  return {
      {"Empty", "", {"magic", "offset 0", "truncated"}},
      {"WrongMagic", "GGML" + std::string(100, '\0'), {"magic", "not a GGUF file"}},
      {"Version1", "GGUF" + bytes_of_values(std::uint32_t{1}, kHuge), {"version 1", "offset 4"}},
      {"Version4", "GGUF" + bytes_of_values(std::uint32_t{4}, kHuge), {"version 4"}},
      {"BigEndian", "GGUF" + bytes_of_values(std::uint32_t{0x03000000}, kHuge), {"big-endian"}},
      {"TensorCount", file(kHuge, 0, ""), {"tensor count", "1152921504606846976", "offset 8"}},
      {"MetadataCount", file(0, ~std::uint64_t{0}, std::string(100, '\0')), {"metadata count"}},
      {"KeyLengthBeyondFile",
       file(0, 1, bytes_of_values(kHuge) + std::string(100, 'x')),
       {"key of metadata 0", "length 1152921504606846976", "offset 24"}},
      {"KeyLengthBeyondLimit",
       file(0, 1, bytes_of_values(std::uint64_t{65536}) + std::string(70000, 'x')),
       {"key of metadata 0", "65535"}},
      {"EmptyKey",
       file(0, 1, bytes_of_values(std::uint64_t{0}) + std::string(100, '\0')),
       {"empty"}},
      {"DuplicateKey", twice(true), {"same.key", "duplicate key", "offset 24"}},
      {"DuplicateTensor", twice(false), {"same.tensor", "duplicate tensor"}},
      {"Alignment0", with_alignment(0), {"general.alignment", "alignment 0"}},
      {"Alignment4", with_alignment(4), {"alignment 4"}},
      {"Alignment48", with_alignment(48), {"alignment 48"}},
      {"AlignmentHuge", with_alignment(1u << 31), {"alignment 2147483648"}},
  };
}

std::vector<HostileFile> value_cases() {
  const std::string many(1000, '\1');
  return {
      {"UnknownValueType", with_value(13, many), {"the.key", "unknown metadata type 13"}},
      {"BooleanTwo", with_value(7, "\2"), {"the.key", "boolean", "2"}},
      {"BooleanTwoInArray",
       with_value(kArray,
                  bytes_of_values(std::uint32_t{7}, std::uint64_t{3}) + std::string("\1\0\7", 3)),
       {"the.key", "boolean"}},
      {"StringLength", with_value(kString, bytes_of_values(kHuge) + many), {"the.key", "length"}},
      {"StringLengthWraps",
       with_value(kString, bytes_of_values(~std::uint64_t{0}) + many),
       {"the.key", "length"}},
      {"ArrayCount",
       with_value(kArray, bytes_of_values(std::uint32_t{0}, kHuge) + many),
       {"the.key", "count"}},
      {"ArrayCountTimesSizeWraps",
       with_value(kArray, bytes_of_values(std::uint32_t{10}, (std::uint64_t{1} << 61) + 1) + many),
       {"the.key", "count"}},
      {"ArrayOfStringsCount",
       with_value(kArray, bytes_of_values(kString, kHuge) + many),
       {"the.key", "count"}},
      {"ArrayOfArraysCount",
       with_value(kArray, bytes_of_values(kArray, kHuge) + many),
       {"the.key", "count"}},
      {"ArrayOfUnknown",
       with_value(kArray, bytes_of_values(std::uint32_t{99}, std::uint64_t{1}) + many),
       {"the.key", "unknown metadata type 99"}},
      {"StringInArrayBeyondFile",
       with_value(kArray, bytes_of_values(kString, std::uint64_t{2}, std::uint64_t{1}) + "x" +
                              bytes_of_values(kHuge)),
       {"the.key", "length"}},
      {"DepthBomb", with_value(kArray, nested_arrays(100000)), {"the.key", "nested deeper than 8"}},
      {"KeyWithControlCharacters",
       file(0, 1,
            bytes_of_values(std::uint64_t{5}) + "a\n\x1b[m" +
                bytes_of_values(std::uint32_t{77}, kHuge)),
       {"a\\x0a\\x1b[m"}},
  };
}

std::vector<HostileFile> tensor_cases() {
  const std::string long_name(65, 'n');
  return {
      {"UnknownTensorType",
       with_tensor({"the.tensor", {32}, 4, 0}),
       {"the.tensor", "unknown tensor type 4", "offset"}},
      {"TensorTypeHuge",
       with_tensor({"the.tensor", {32}, 0xffffffff, 0}),
       {"the.tensor", "4294967295"}},
      {"NoDimensions", with_tensor({"the.tensor", {}, 0, 0}), {"the.tensor", "0 dimensions"}},
      {"FiveDimensions",
       with_tensor({"the.tensor", {1, 1, 1, 1, 1}, 0, 0}),
       {"the.tensor", "5 dimensions"}},
      {"DimensionZero",
       with_tensor({"the.tensor", {32, 0}, 0, 0}),
       {"the.tensor", "dimension 1 is 0"}},
      {"ProductOverflows",
       with_tensor({"the.tensor", {1u << 31, 1u << 31, 1u << 31}, 0, 0}),
       {"the.tensor", "overflows"}},
      {"ProductWrapsToSmall",
       with_tensor({"the.tensor", {std::uint64_t{1} << 32, std::uint64_t{1} << 32}, 0, 0}),
       {"the.tensor", "overflows"}},
      {"DimensionHuge",
       with_tensor({"the.tensor", {~std::uint64_t{0}}, 24, 0}),
       {"the.tensor", "overflows"}},
      {"BytesOverflow",
       with_tensor({"the.tensor", {std::uint64_t{1} << 62}, 28, 0}),
       {"the.tensor", "more bytes than the file"}},
      {"RowNotWholeBlocks",
       with_tensor({"the.tensor", {100, 4}, 12, 0}),
       {"the.tensor", "100", "Q4_K", "256"}},
      {"OffsetMisaligned",
       with_tensor({"the.tensor", {8}, 0, 16}),
       {"the.tensor", "offset 16", "alignment 32"}},
      {"OffsetBeyondFile",
       with_tensor({"the.tensor", {8}, 0, std::uint64_t{1} << 40}),
       {"the.tensor", "beyond the end"}},
      {"OffsetWraps",
       with_tensor({"the.tensor", {8}, 0, ~std::uint64_t{31}}),
       {"the.tensor", "beyond the end"}},
      {"DataBeyondFile",
       with_tensor({"the.tensor", {1000}, 0, 128}),
       {"the.tensor", "beyond the end"}},
      {"NameTooLong", with_tensor({long_name, {8}, 0, 0}), {"name of tensor 0", "65", "64"}},
      {"NameEmpty", with_tensor({"", {8}, 0, 0}), {"name of tensor 0", "empty"}},
      {"NameBeyondFile",
       file(1, 0, bytes_of_values(kHuge) + std::string(100, 'x')),
       {"name of tensor 0", "length"}},
      {"Overlap", overlapping(), {"second", "overlaps", "first"}},
  };
}

class HostileFileTest : public testing::TestWithParam<HostileFile> {};

TEST_P(HostileFileTest, IsRefusedWithAReason) {
  const TemporaryDirectory directory;
  const auto path = directory.write("hostile.gguf", GetParam().bytes);
  try {
    GgufModel::open(path);
    FAIL() << "the file was accepted";
  } catch (const GgufError& error) {
    const std::string message = error.what();
    EXPECT_THAT(message, HasSubstr("hostile.gguf"));
    EXPECT_EQ(message.find('\n'), std::string::npos);
    for (const std::string& part : GetParam().message) EXPECT_THAT(message, HasSubstr(part));
  }
}

const auto kName = [](const testing::TestParamInfo<HostileFile>& info) { return info.param.name; };
INSTANTIATE_TEST_SUITE_P(Structure, HostileFileTest, testing::ValuesIn(structural_cases()), kName);
INSTANTIATE_TEST_SUITE_P(Values, HostileFileTest, testing::ValuesIn(value_cases()), kName);
INSTANTIATE_TEST_SUITE_P(Tensors, HostileFileTest, testing::ValuesIn(tensor_cases()), kName);

TEST(HostileFileTest, ADirectoryAndAMissingFileAreNamed) {
  const TemporaryDirectory directory;
  EXPECT_THROW(GgufModel::open(directory / ""), GgufError);
  try {
    GgufModel::open(directory / "nowhere.gguf");
    FAIL();
  } catch (const GgufError& error) {
    EXPECT_THAT(error.what(), HasSubstr("nowhere.gguf: cannot open: No such file"));
  }
}

// Opening a pipe would wait for a writer for ever.
TEST(HostileFileTest, WhatIsNoFileIsRefusedAtOnce) {
  const TemporaryDirectory directory;
  ASSERT_EQ(::mkfifo((directory / "pipe.gguf").c_str(), 0600), 0);
  for (const std::filesystem::path& path :
       {directory / "pipe.gguf", directory / ".", std::filesystem::path("/dev/null")}) {
    try {
      GgufModel::open(path);
      FAIL() << path;
    } catch (const GgufError& error) {
      EXPECT_THAT(error.what(), HasSubstr("not a regular file"));
    }
  }
}

// A sparse file says that it is large, but a header that large is nobody's model.
TEST(HostileFileTest, ASparseFileDoesNotMakeTheReaderAllocateItsSize) {
  const TemporaryDirectory directory;
  const auto path =
      directory.write("sparse.gguf", file(0, 1,
                                          bytes_of_values(std::uint64_t{1}) + "k" +
                                              bytes_of_values(kString, std::uint64_t{1} << 40)));
  std::filesystem::resize_file(path, (std::uint64_t{1} << 40) + 4096);
  try {
    GgufModel::open(path);
    FAIL();
  } catch (const GgufError& error) {
    EXPECT_THAT(error.what(), HasSubstr("exceed"));
  }
}

TEST(PrintableTest, LeavesTextAndEscapesTheRest) {
  EXPECT_EQ(printable("Qwen \xc3\xbc \xe4\xb8\xad \xf0\x9f\x90\x8b"),
            "Qwen \xc3\xbc \xe4\xb8\xad \xf0\x9f\x90\x8b");
  EXPECT_EQ(printable("a\nb\x1b[2J\x7f"), "a\\x0ab\\x1b[2J\\x7f");
  EXPECT_EQ(printable("\xc2\x9b\xc2\xa0"), "\\xc2\\x9b\xc2\xa0");
  const std::string replacement = "\xef\xbf\xbd";
  EXPECT_EQ(printable("\xff|\xc3"), replacement + "|" + replacement);
  EXPECT_EQ(printable("\xed\xa0\x80"), replacement + replacement + replacement);  // a surrogate
  EXPECT_EQ(printable("\xc0\x80"), replacement + replacement);                    // overlong
}

GgufHeader small_model() {
  GgufHeader header;
  header.add("general.architecture", "qwen2");
  header.add("some.float", 1.5f);
  header.add_array<std::string_view>("some.strings", {"a", "bc", ""});
  header.add_array<std::uint16_t>("some.numbers", {1, 2, 3});
  header.declare({"a", {8, 2}, 0, 0});
  header.declare({"b", {32}, 8, 64});
  return header;
}

// Wherever a download stops, the result is an error; only the padding behind the last tensor may be
// missing.
TEST(TruncationTest, EveryLengthIsAnErrorUntilTheLastTensorIsThere) {
  const TemporaryDirectory directory;
  const std::string header = small_model().serialise();
  const std::string whole = header + std::string(64 + 64, '\0');
  const std::size_t needed = header.size() + 64 + 34;
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    const auto path = directory.write("cut.gguf", std::string_view(whole).substr(0, length));
    if (length < needed) {
      EXPECT_THROW(GgufModel::open(path), GgufError) << "at " << length << " of " << needed;
    } else {
      EXPECT_EQ(GgufModel::open(path).tensors().size(), 2u) << length;
    }
  }
}

}  // namespace
}  // namespace tensor_pager::loaders
