// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "loaders/tensor_type.hpp"
#include "pager/types.hpp"

namespace tensor_pager::make_gguf {

/// Options that contradict one another or name something unknown.
class RandomModelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct RandomModelOptions {
  std::string architecture = "qwen2";  ///< one of architecture_names()
  std::string type = "f16";            ///< one of type_names()
  std::string preset = "tiny";         ///< one of preset_names()
  std::uint32_t layers = 0;            ///< 0: as the preset has
  std::uint64_t seed = 1;
  bool tied = false;         ///< no output.weight; presets whose models have none have none anyway
  std::uint32_t pieces = 1;  ///< files to split the model into
  std::string vocabulary{};  ///< "bytes", a GGUF file that has one, or none
};

std::vector<std::string> architecture_names();
std::vector<std::string> type_names();
std::vector<std::string> preset_names();
/// Those that a dense model of that architecture can have.
std::vector<std::string> preset_names(const std::string& architecture);

/// One tensor of a random model.
struct RandomTensor {
  std::string name;
  std::vector<std::uint64_t> ne;  ///< shape, GGUF order
  loaders::TensorType type;
  float mean;
  float deviation;
};

/// What a model will consist of, in the order of the file. Throws RandomModelError.
std::vector<RandomTensor> random_model_tensors(const RandomModelOptions& options);

/// What was written.
struct WrittenModel {
  std::vector<std::filesystem::path> files;  ///< the first is the one to open
  Bytes bytes;
  std::size_t tensors = 0;
};

/// Called now and then with the bytes written so far and the bytes there will be.
using WriteProgress = std::function<void(Bytes done, Bytes total)>;

/// The file of a model's piece, counted from 0, of so many. One piece is `path` itself.
std::filesystem::path piece_path(const std::filesystem::path& path, std::uint32_t piece,
                                 std::uint32_t pieces);

/// Writes a valid model with random weights: standard deviation near 1/sqrt(inputs), a tokenizer if
/// asked for. The bytes depend on the options only. Large matrices repeat 32768 blocks in random
/// order, since making every block would take minutes. With `pieces` > 1 and `path` DIR/NAME.gguf
/// the files are DIR/NAME-00001-of-0000N.gguf and so on. Throws RandomModelError, or
/// output::OutputError; then there are no files that were not there before.
WrittenModel write_random_model(const std::filesystem::path& path,
                                const RandomModelOptions& options,
                                const WriteProgress& progress = {});

}  // namespace tensor_pager::make_gguf
