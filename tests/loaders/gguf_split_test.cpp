// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "../temporary_directory.hpp"
#include "gguf_writer.hpp"
#include "loaders/gguf.hpp"
#include "random_model.hpp"

namespace tensor_pager::loaders {
namespace {

using make_gguf::GgufHeader;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using tests::TemporaryDirectory;

std::string read_range(const GgufModel& model, const TensorInfo& tensor) {
  const ModelFile& file = model.files()[tensor.file];
  std::ifstream in(file.path, std::ios::binary);
  in.seekg(static_cast<std::streamoff>((tensor.bytes.offset - file.base).count));
  std::string bytes(tensor.bytes.size.count, '\0');
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  EXPECT_TRUE(in.good());
  return bytes;
}

class SplitModelTest : public testing::Test {
 protected:
  // A piece with one small tensor of its own.
  void write_piece(int number, int of, std::uint16_t no, std::uint16_t count, int tensors,
                   const std::string& tensor) {
    GgufHeader header;
    if (number == 1) header.add("general.architecture", "qwen2");
    header.add("split.no", no);
    header.add("split.count", count);
    header.add("split.tensors.count", static_cast<std::int32_t>(tensors));
    header.declare({tensor, {8}, 0, 0});
    directory_.write(name(number, of), header.serialise() + std::string(32, '\0'));
  }
  static std::string name(int number, int of) {
    return "m-0000" + std::to_string(number) + "-of-0000" + std::to_string(of) + ".gguf";
  }
  void write_three() {
    write_piece(1, 3, 0, 3, 3, "a");
    write_piece(2, 3, 1, 3, 3, "b");
    write_piece(3, 3, 2, 3, 3, "c");
  }
  std::string error_of(const std::string& file) {
    try {
      GgufModel::open(directory_ / file);
    } catch (const GgufError& error) {
      return error.what();
    }
    return "no error";
  }

  TemporaryDirectory directory_;
};

TEST_F(SplitModelTest, HasTheSameTensorsAsTheWholeModel) {
  const make_gguf::RandomModelOptions whole{.type = "q4_0", .layers = 1};
  make_gguf::RandomModelOptions split = whole;
  split.pieces = 4;
  make_gguf::write_random_model(directory_ / "whole.gguf", whole);
  const auto written = make_gguf::write_random_model(directory_ / "split.gguf", split);
  ASSERT_EQ(written.files.size(), 4u);

  const GgufModel one = GgufModel::open(directory_ / "whole.gguf");
  const GgufModel four = GgufModel::open(written.files.front());
  EXPECT_EQ(four.files().size(), 4u);
  EXPECT_EQ(four.paths(), written.files);
  ASSERT_EQ(four.tensors().size(), one.tensors().size());
  for (std::size_t i = 0; i < one.tensors().size(); ++i) {
    const TensorInfo& a = one.tensors()[i];
    const TensorInfo& b = four.tensors()[i];
    EXPECT_EQ(a.name, b.name);
    EXPECT_EQ(read_range(one, a), read_range(four, b)) << a.name;
  }
}

TEST_F(SplitModelTest, FilesBeginAtMultiplesOf4096OfTheImage) {
  write_three();
  const GgufModel model = GgufModel::open(directory_ / name(1, 3));
  ASSERT_EQ(model.files().size(), 3u);
  EXPECT_EQ(model.files()[0].base, Bytes{0});
  EXPECT_EQ(model.files()[1].base, Bytes{4096});
  EXPECT_EQ(model.files()[2].base, Bytes{8192});
  EXPECT_EQ(model.image_bytes(), Bytes{8192} + model.files()[2].size);
  EXPECT_EQ(model.find("b")->file, 1u);
  EXPECT_EQ(model.find("b")->bytes.end(), model.files()[1].base + model.files()[1].size);
}

TEST_F(SplitModelTest, OpeningALaterFileNamesTheFirst) {
  write_three();
  EXPECT_THAT(error_of(name(2, 3)), AllOf(HasSubstr("file 2 of 3"), HasSubstr(name(1, 3))));
}

TEST_F(SplitModelTest, AMissingFileIsNamed) {
  write_three();
  std::filesystem::remove(directory_ / name(2, 3));
  EXPECT_THAT(error_of(name(1, 3)), AllOf(HasSubstr(name(2, 3)), HasSubstr("missing")));
}

// Files that have one another's names; people count them from 1.
TEST_F(SplitModelTest, FilesThatWereSwappedAreBothNamed) {
  write_three();
  write_piece(2, 3, 2, 3, 3, "c");
  write_piece(3, 3, 1, 3, 3, "b");
  const std::string second = name(2, 3) + " has what belongs to " + name(3, 3);
  const std::string third = name(3, 3) + " has what belongs to " + name(2, 3);
  EXPECT_THAT(error_of(name(1, 3)), AllOf(HasSubstr("split.no"), HasSubstr(second)));
  EXPECT_THAT(error_of(name(2, 3)), HasSubstr(second));
  EXPECT_THAT(error_of(name(3, 3)), HasSubstr(third));
}

TEST_F(SplitModelTest, AFirstFileThatWasSwappedIsNotSaidToBeTheOneToOpen) {
  write_three();
  write_piece(1, 3, 1, 3, 3, "b");
  write_piece(2, 3, 0, 3, 3, "a");
  const std::string first = name(1, 3) + " has what belongs to " + name(2, 3);
  EXPECT_THAT(error_of(name(1, 3)), AllOf(HasSubstr(first), Not(HasSubstr("instead"))));
}

TEST_F(SplitModelTest, AFileBeyondTheirNumberIsRefused) {
  write_three();
  write_piece(2, 3, 6, 3, 3, "b");
  EXPECT_THAT(error_of(name(1, 3)), AllOf(HasSubstr(name(2, 3)), HasSubstr("number 7 of only 3")));
}

TEST_F(SplitModelTest, CountsMustAgree) {
  write_three();
  write_piece(3, 3, 2, 4, 3, "c");
  EXPECT_THAT(error_of(name(1, 3)), AllOf(HasSubstr(name(3, 3)), HasSubstr("split.count")));
  write_piece(3, 3, 2, 3, 3, "c");
  write_piece(1, 3, 0, 3, 5, "a");
  EXPECT_THAT(error_of(name(1, 3)), AllOf(HasSubstr("split.tensors.count"), HasSubstr("5")));
}

TEST_F(SplitModelTest, ATensorInTwoFilesIsRefused) {
  write_three();
  write_piece(3, 3, 2, 3, 3, "a");
  EXPECT_THAT(error_of(name(1, 3)), AllOf(HasSubstr(name(3, 3)), HasSubstr("duplicate tensor")));
}

TEST_F(SplitModelTest, ANameWithoutNumbersIsRefused) {
  write_three();
  std::filesystem::rename(directory_ / name(1, 3), directory_ / "renamed.gguf");
  EXPECT_THAT(error_of("renamed.gguf"), AllOf(HasSubstr("split.count"), HasSubstr("-of-00003")));
}

}  // namespace
}  // namespace tensor_pager::loaders
