// SPDX-License-Identifier: Apache-2.0
// Fuzz target of the GGUF reader and of the graph walker behind it: whatever the bytes, the result
// is a model or a GgufError.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "../temporary_directory.hpp"
#include "gguf_writer.hpp"
#include "loaders/graph.hpp"
#include "random_model.hpp"
#include "random_weights.hpp"

namespace {

using namespace tensor_pager;

// A file that begins with `bytes` and goes on with zeros up to `size`. Any other exception, and any
// fault, ends the program.
void read(const tests::TemporaryDirectory& directory, std::string_view bytes, std::size_t size) {
  const std::filesystem::path path = directory.write("fuzz.gguf", bytes);
  std::filesystem::resize_file(path, size);
  try {
    const auto model = loaders::GgufModel::open(path);
    const loaders::Graph graph = loaders::build_graph(model, {.max_step_bytes = KiB(100)});
    loaders::access_plan(graph, {.ubatches = 2});
  } catch (const loaders::GgufError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const tests::TemporaryDirectory directory;
  read(directory, std::string_view(reinterpret_cast<const char*>(data), size), size);
  return 0;
}

#ifndef TENSOR_PAGER_LIBFUZZER
namespace {

// The part of a file that is parsed, and the size of the whole file: the data behind it may as well
// be a hole.
struct Seed {
  std::string header;
  std::size_t size = 0;
};

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<Seed> seeds() {
  const tests::TemporaryDirectory directory;
  std::vector<Seed> out;
  for (const char* architecture : {"qwen2", "qwen3", "qwen2moe", "qwen3moe"}) {
    const make_gguf::RandomModelOptions options{
        .architecture = architecture, .type = "q2_k", .layers = 1, .tied = true};
    const auto written = make_gguf::write_random_model(directory / "seed.gguf", options);
    const std::string whole = read_file(written.files.front());
    const auto model = loaders::GgufModel::open(written.files.front());
    out.push_back({whole.substr(0, model.tensors().front().bytes.offset.count), whole.size()});
  }
  make_gguf::GgufHeader arrays;
  arrays.add_array<std::string_view>("strings", {"a", "bc", ""});
  arrays.add_array<std::int16_t>("numbers", {1, 2, 3});
  arrays.add("flag", true);
  out.push_back({arrays.serialise(), arrays.serialise().size()});
  return out;
}

// Numbers that lengths, counts and types go wrong at.
constexpr std::uint64_t kNasty[] = {
    0,      1,          4,          12,         13,         0x7f,       0xff,
    0xffff, 0x7fffffff, 0xffffffff, 1ull << 32, 1ull << 60, 1ull << 63, ~std::uint64_t{0}};

void mutate(Seed& seed, make_gguf::RandomStream& random) {
  std::string& bytes = seed.header;
  const std::uint64_t times = 1 + random.next() % 4;
  for (std::uint64_t i = 0; i < times; ++i) {
    const std::size_t at = random.next() % (bytes.size() - 8);
    switch (random.next() % 8) {
      case 0:
        seed.size = at;
        break;
      case 1:
      case 2:
      case 3:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << (random.next() % 8)));
        break;
      case 4:
      case 5:
        bytes[at] = static_cast<char>(random.next());
        break;
      default: {
        const std::uint64_t value = kNasty[random.next() % std::size(kNasty)];
        bytes.replace(at, 8, reinterpret_cast<const char*>(&value), 8);
      }
    }
  }
}

}  // namespace

// gguf_fuzz [COUNT] [FILE...]: replays FILEs, or COUNT mutations of the seeds.
int main(int argc, char** argv) {
  const std::uint64_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 5000;
  const tests::TemporaryDirectory directory;
  for (int i = 2; i < argc; ++i) {
    const std::string bytes = read_file(argv[i]);
    read(directory, bytes, bytes.size());
  }
  if (argc > 2) return 0;
  const std::vector<Seed> originals = seeds();
  for (std::uint64_t i = 0; i < count; ++i) {
    make_gguf::RandomStream random(i);
    Seed seed = originals[i % originals.size()];
    mutate(seed, random);
    read(directory, seed.header, seed.size);
  }
  std::printf("gguf_fuzz: %llu mutations of %zu seeds\n", static_cast<unsigned long long>(count),
              originals.size());
}
#endif
