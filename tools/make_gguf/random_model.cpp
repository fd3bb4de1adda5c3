// SPDX-License-Identifier: Apache-2.0
#include "random_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <span>
#include <utility>

#include "gguf_writer.hpp"
#include "model_design.hpp"
#include "output_file.hpp"
#include "random_weights.hpp"

namespace tensor_pager::make_gguf {
namespace {

// Matrices of large models repeat this many blocks in random order.
constexpr std::uint64_t kTemplateBlocks = 1 << 15;

// Tensors [begin, end) of the list, which one file holds.
struct PieceRange {
  std::size_t begin = 0;
  std::size_t end = 0;
};

// About the same number of bytes for each piece, and at least one tensor.
std::vector<PieceRange> cut(const std::vector<RandomTensor>& tensors, std::uint32_t pieces) {
  if (pieces > tensors.size()) {
    throw RandomModelError(fmt::format("cannot split {0} tensors into {1} files; give at most {0}",
                                       tensors.size(), pieces));
  }
  Bytes total;
  for (const RandomTensor& tensor : tensors) total += padded_bytes(tensor);
  std::vector<PieceRange> out;
  std::size_t next = 0;
  Bytes done;
  for (std::uint32_t piece = 0; piece < pieces; ++piece) {
    const std::size_t begin = next;
    const Bytes target{total.count / pieces * (piece + 1)};
    const std::size_t latest = tensors.size() - (pieces - piece - 1);
    do {
      done += padded_bytes(tensors[next++]);
    } while (next < latest && (done < target || piece + 1 == pieces));
    out.push_back({begin, next});
  }
  return out;
}

class ModelWriter {
 public:
  ModelWriter(const RandomModelOptions& options, const WriteProgress& progress)
      : options_(options),
        progress_(progress),
        design_(make_design(options)),
        tensors_(tensors_of(design_)) {
    for (const RandomTensor& tensor : tensors_) total_ += padded_bytes(tensor);
  }

  WrittenModel write(const std::filesystem::path& path) {
    WrittenModel written;
    written.tensors = tensors_.size();
    const std::vector<PieceRange> ranges = cut(tensors_, options_.pieces);
    std::vector<std::unique_ptr<OutputFile>> files;
    for (std::uint32_t piece = 0; piece < options_.pieces; ++piece) {
      written.files.push_back(piece_path(path, piece, options_.pieces));
      OutputFile& file = *files.emplace_back(std::make_unique<OutputFile>(written.files.back()));
      write_piece(file, piece, ranges[piece]);
      file.flush();
      written.bytes += file.size();
    }
    for (const auto& file : files) file->commit();  // all or none, but for what renames may do
    return written;
  }

 private:
  void write_piece(OutputFile& file, std::uint32_t piece, PieceRange range) {
    GgufHeader header;
    if (piece == 0) add_metadata(header, design_);
    if (options_.pieces > 1) {
      header.add("split.no", static_cast<std::uint16_t>(piece));
      header.add("split.count", static_cast<std::uint16_t>(options_.pieces));
      header.add("split.tensors.count", static_cast<std::int32_t>(tensors_.size()));
    }
    declare(header, std::span(tensors_).subspan(range.begin, range.end - range.begin));
    file.write(header.serialise(kAlignment));
    for (std::size_t i = range.begin; i < range.end; ++i) write_tensor(file, i);
  }

  void write_tensor(OutputFile& file, std::size_t index) {
    const RandomTensor& tensor = tensors_[index];
    // Every tensor has a stream of its own, so that it does not depend on the ones before it.
    RandomStream random(options_.seed * 1000003 + index + 1);
    const Bytes block{loaders::traits(tensor.type).block_bytes};
    const std::uint64_t blocks = tensor_bytes(tensor.type, tensor.ne) / block;
    if (tensor.ne.size() == 1) {
      const std::vector<std::byte> values =
          random_vector(random, blocks, tensor.mean, tensor.deviation);
      file.write(values);
      report({values.size()});
    } else {
      write_matrix(file, random, tensor, blocks);
    }
    const Bytes before = file.size();
    file.pad(kAlignment);
    report(file.size() - before);
  }

  void write_matrix(OutputFile& file, RandomStream& random, const RandomTensor& tensor,
                    std::uint64_t blocks) {
    const std::size_t size = loaders::traits(tensor.type).block_bytes;
    const std::uint64_t made = design_.is_tiny() ? blocks : std::min(blocks, kTemplateBlocks);
    const std::vector<std::byte> pool = random_blocks(random, tensor.type, made, tensor.deviation);
    for (std::uint64_t done = 0; done < blocks;) {
      const std::uint64_t start = done == 0 ? 0 : random.next() % made;
      const std::uint64_t count = std::min(blocks - done, made - start);
      file.write(std::span(pool).subspan(start * size, count * size));
      report({count * size});
      done += count;
    }
  }

  void report(Bytes written) {
    done_ += written;
    if (progress_ && written > Bytes{}) progress_(done_, total_);
  }

  const RandomModelOptions& options_;
  const WriteProgress& progress_;
  ModelDesign design_;
  std::vector<RandomTensor> tensors_;
  Bytes total_;
  Bytes done_;
};

}  // namespace

std::vector<RandomTensor> random_model_tensors(const RandomModelOptions& options) {
  return tensors_of(make_design(options));
}

std::filesystem::path piece_path(const std::filesystem::path& path, std::uint32_t piece,
                                 std::uint32_t pieces) {
  if (pieces == 1) return path;
  std::filesystem::path name = path.filename();
  if (name.extension() == ".gguf") name = name.stem();
  return path.parent_path() /
         fmt::format("{}-{:05}-of-{:05}.gguf", name.string(), piece + 1, pieces);
}

WrittenModel write_random_model(const std::filesystem::path& path,
                                const RandomModelOptions& options, const WriteProgress& progress) {
  return ModelWriter(options, progress).write(path);
}

}  // namespace tensor_pager::make_gguf
