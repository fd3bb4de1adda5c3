// SPDX-License-Identifier: Apache-2.0
// Files that are damaged in every place: the program ends by itself with 0 or 1, says why in one
// line, and leaves nothing behind. Each runs in this process, since thousands of them do. Models
// that the program refuses for their experts are read as far as a plan of their passes.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <new>
#include <string>
#include <tuple>
#include <vector>

#include "../edited_model.hpp"
#include "../temporary_directory.hpp"
#include "command_line/run_program.hpp"
#include "loaders/gguf.hpp"
#include "loaders/graph.hpp"
#include "model_run.hpp"
#include "program.hpp"
#include "random_weights.hpp"

namespace {

std::atomic<std::size_t> largest_allocation;

void* allocate(std::size_t size) {
  std::size_t largest = largest_allocation;
  while (size > largest && !largest_allocation.compare_exchange_weak(largest, size)) {
  }
  if (void* memory = std::malloc(std::max<std::size_t>(size, 1))) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t size) {
  return allocate(size);
}
void* operator new[](std::size_t size) {
  return allocate(size);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace tensor_pager::qwen_prefill {
namespace {

using make_gguf::RandomStream;
using tests::EditedModel;

enum class Part { header, metadata, tensor_table, data };

constexpr std::uint64_t kFiles = 1000;  // of each kind
constexpr unsigned kLongestRun = 60;    // seconds
// What a reader of 400 KB may ask for at once.
constexpr std::size_t kLargestAllocation = std::size_t{8} << 20;

const std::vector<std::string>& architectures() {
  static const std::vector<std::string> all = {"qwen2", "qwen3", "qwen2moe", "qwen3moe"};
  return all;
}

loaders::Architecture architecture_of(const std::string& name) {
  using enum loaders::Architecture;
  for (const auto known : {qwen2, qwen3, qwen2moe, qwen3moe}) {
    if (loaders::to_string(known) == name) return known;
  }
  throw std::invalid_argument(name);
}

// One layer of 32 columns under the vocabulary of a trained model: runs take a millisecond.
EditedModel small_model(const std::string& architecture) {
  EditedModel model(qwen::test_data("models/tiny-qwen2-q4_k_m.gguf"));
  const auto old = model.tensors();
  for (const auto& tensor : old) model.remove(tensor.name);
  for (const char* key : {"rope.dimension_count", "attention.key_length", "attention.value_length",
                          "vocab_size", "rope.freq_base", "block_count", "context_length",
                          "embedding_length", "feed_forward_length", "attention.head_count",
                          "attention.head_count_kv", "attention.layer_norm_rms_epsilon"}) {
    model.erase(std::string("qwen2.") + key);
  }
  const auto set = [&](const std::string& key, auto value) {
    model.set(architecture + "." + key, value);
  };
  model.set("general.architecture", architecture);
  set("block_count", std::uint32_t{1});
  set("context_length", std::uint32_t{64});
  set("embedding_length", std::uint32_t{32});
  set("feed_forward_length", std::uint32_t{64});
  set("attention.head_count", std::uint32_t{2});
  set("attention.head_count_kv", std::uint32_t{1});
  set("attention.layer_norm_rms_epsilon", 1e-6F);
  set("rope.freq_base", 1e6F);
  set("rope.scaling.type", "yarn");
  set("rope.scaling.factor", 2.0F);

  const loaders::ArchitectureTraits& traits = loaders::traits(architecture_of(architecture));
  if (traits.experts) {
    set("expert_count", std::uint32_t{4});
    set("expert_used_count", std::uint32_t{2});
    set("expert_feed_forward_length", std::uint32_t{32});
    if (traits.shared_expert) set("expert_shared_feed_forward_length", std::uint32_t{64});
  }

  RandomStream random(5);
  const auto add = [&](const std::string& name, std::vector<std::uint64_t> ne) {
    std::uint64_t size = 1;
    for (const std::uint64_t length : ne) size *= length;
    std::vector<float> values(size);
    for (float& value : values) value = 0.2F * random.normal();
    model.add(name, ne, values);
  };
  add("token_embd.weight", {32, 2048});
  add("output_norm.weight", {32});
  add("blk.0.attn_norm.weight", {32});
  add("blk.0.attn_q.weight", {32, 32});
  add("blk.0.attn_q.bias", {32});
  add("blk.0.attn_k.weight", {32, 16});
  add("blk.0.attn_k.bias", {16});
  add("blk.0.attn_v.weight", {32, 16});
  add("blk.0.attn_v.bias", {16});
  add("blk.0.attn_output.weight", {32, 32});
  if (traits.qk_norm) {
    add("blk.0.attn_q_norm.weight", {16});
    add("blk.0.attn_k_norm.weight", {16});
  }
  add("blk.0.ffn_norm.weight", {32});
  if (traits.experts) {
    add("blk.0.ffn_gate_inp.weight", {32, 4});
    add("blk.0.ffn_gate_exps.weight", {32, 32, 4});
    add("blk.0.ffn_up_exps.weight", {32, 32, 4});
    add("blk.0.ffn_down_exps.weight", {32, 32, 4});
  }
  if (traits.shared_expert) add("blk.0.ffn_gate_inp_shexp.weight", {32});
  if (!traits.experts || traits.shared_expert) {
    const std::string suffix = traits.experts ? "_shexp.weight" : ".weight";
    add("blk.0.ffn_gate" + suffix, {32, 64});
    add("blk.0.ffn_up" + suffix, {32, 64});
    add("blk.0.ffn_down" + suffix, {64, 32});
  }
  add("rope_freqs.weight", {8});
  for (float& factor :
       std::span(reinterpret_cast<float*>(model.tensor("rope_freqs.weight").data.data()), 8)) {
    factor = 2;
  }
  return model;
}

std::string content(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::ptrdiff_t entries(const char* folder) {
  return std::distance(std::filesystem::directory_iterator(folder), {});
}

// Numbers that lengths, counts, types and weights go wrong at.
constexpr std::uint64_t kNasty[] = {0,
                                    1,
                                    0x7fffffff,
                                    0xffffffff,
                                    std::uint64_t{1} << 32,
                                    std::uint64_t{1} << 60,
                                    ~std::uint64_t{0},
                                    0x7fc000007fc00000,   // not numbers
                                    0x7f8000007f800000};  // infinite

class DamagedFiles : public testing::TestWithParam<std::tuple<std::string, Part>> {
 protected:
  void SetUp() override {
    const auto& [architecture, part] = GetParam();
    const auto path = small_model(architecture).write(directory_ / "m.gguf");
    good_ = content(path);
    const auto model = loaders::GgufModel::open(path);
    const std::size_t data = model.tensors().front().bytes.offset.count;
    const std::size_t table = model.tensors().front().table_offset;
    switch (part) {
      case Part::header:
        places_ = {0, 24};
        break;
      case Part::metadata:  // key by key, since nearly all bytes are those of the vocabulary
        for (const auto& [key, entry] : model.metadata().entries()) places_.push_back(entry.offset);
        std::ranges::sort(places_);
        places_.push_back(table);
        break;
      case Part::tensor_table:
        for (const auto& tensor : model.tensors()) places_.push_back(tensor.table_offset);
        places_.push_back(data);
        break;
      case Part::data:
        for (const auto& tensor : model.tensors()) places_.push_back(tensor.bytes.offset.count);
        places_.push_back(good_.size());
        break;
    }
  }

  // Somewhere in an entry of the part, most often near its beginning.
  std::size_t place(RandomStream& random) const {
    const std::size_t entry = random.next() % (places_.size() - 1);
    std::size_t size = places_[entry + 1] - places_[entry];
    if (random.next() % 4 != 0) size = std::min<std::size_t>(size, 80);
    return places_[entry] + random.next() % size;
  }

  std::string damaged(std::uint64_t seed) const {
    RandomStream random(seed);
    std::string bytes = good_;
    for (std::uint64_t times = 1 + random.next() % 3; times > 0; --times) {
      const std::size_t at = place(random);
      const auto write = [&](const auto& value) {
        const std::size_t size = std::min(sizeof(value), bytes.size() - at);
        bytes.replace(at, size, reinterpret_cast<const char*>(&value), size);
      };
      const std::uint64_t nasty = kNasty[random.next() % std::size(kNasty)];
      switch (random.next() % 8) {
        case 0:
          bytes.resize(at);
          return bytes;
        case 1:
          write(static_cast<std::uint32_t>(nasty));
          break;
        case 2:
          write(nasty);
          break;
        case 3:
          write(static_cast<std::uint8_t>(random.next()));
          break;
        case 4:  // something is missing
          bytes.erase(at, 1 + random.next() % 16);
          return bytes;
        case 5:  // a stretch of another part
          for (std::size_t i = 0; i < 16 && at + i < bytes.size(); ++i) {
            bytes[at + i] = good_[(random.next() % good_.size())];
          }
          break;
        default:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << (random.next() % 8)));
      }
    }
    return bytes;
  }

  static Options options(const std::filesystem::path& model) {
    Options options;
    options.model = model;
    options.prompt = PromptText{"In the beginning"};
    options.predict = 2;
    options.device = DeviceKind::host;
    options.vram = GiB(1);
    options.arena = qwen::Percent{50};
    options.quiet = true;
    return options;
  }

  struct Ending {
    int status = 0;
    std::string out;
    std::string err;
  };
  static Ending ending_of(const std::function<void()>& work) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    ::alarm(kLongestRun);  // ends the test
    Ending ending;
    ending.status = command_line::run_program("qwen_prefill", work);
    ::alarm(0);
    std::fflush(stdout);
    ending.out = testing::internal::GetCapturedStdout();
    ending.err = testing::internal::GetCapturedStderr();
    return ending;
  }
  static Ending run_on(const std::filesystem::path& model) {
    return ending_of([&] { run(options(model)); });
  }
  // From the file to the plan of a pass, which knows of experts.
  static Ending plan_for(const std::filesystem::path& path) {
    return ending_of([&] {
      const auto model = loaders::GgufModel::open(path);
      loaders::access_plan(loaders::build_graph(model), {.ubatches = 2});
    });
  }

  tests::TemporaryDirectory directory_;
  std::string good_;
  std::vector<std::size_t> places_;  // where the entries of the part begin, and where it ends
};

TEST_P(DamagedFiles, EndWithOneLineAndLeaveNothingBehind) {
  const bool runs = !loaders::traits(architecture_of(std::get<0>(GetParam()))).experts;
  const auto path = directory_.write("damaged.gguf", good_);
  ASSERT_EQ(run_on(path).status, runs ? 0 : 1);
  ASSERT_EQ(plan_for(path).status, 0);
  const std::ptrdiff_t files = entries("/proc/self/fd");
  const std::ptrdiff_t threads = entries("/proc/self/task");
  std::uint64_t failed = 0;
  for (std::uint64_t seed = 0; seed < kFiles; ++seed) {
    directory_.write("damaged.gguf", damaged(seed));
    largest_allocation = 0;
    const Ending ending = runs ? run_on(path) : plan_for(path);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + ending.err);
    EXPECT_LT(largest_allocation, kLargestAllocation);
    ASSERT_TRUE(ending.status == 0 || ending.status == 1);
    const auto lines = std::ranges::count(ending.err, '\n');
    if (ending.status == 0) {
      EXPECT_EQ(lines, 0);
    } else {
      EXPECT_EQ(lines, 1);
      EXPECT_TRUE(ending.err.starts_with("qwen_prefill: "));
      EXPECT_FALSE(
          std::ranges::any_of(ending.err, [](char c) { return c != '\n' && c < 0x20 && c >= 0; }));
      ++failed;
    }
    EXPECT_EQ(entries("/proc/self/fd"), files);
    EXPECT_LE(entries("/proc/self/task"), threads);
  }
  RecordProperty("failed", std::to_string(failed));
  EXPECT_GT(failed, kFiles / 20);
}

std::string kind_name(const testing::TestParamInfo<std::tuple<std::string, Part>>& instance) {
  constexpr const char* kParts[] = {"Header", "Metadata", "TensorTable", "Data"};
  const auto& [architecture, part] = instance.param;
  return architecture + kParts[static_cast<std::size_t>(part)];
}

INSTANTIATE_TEST_SUITE_P(Kinds, DamagedFiles,
                         testing::Combine(testing::ValuesIn(architectures()),
                                          testing::Values(Part::header, Part::metadata,
                                                          Part::tensor_table, Part::data)),
                         kind_name);

// The message for another architecture lists those that run: all but the models with experts.
TEST(DamagedFilesOf, AreOfAllKnownArchitectures) {
  const tests::TemporaryDirectory directory;
  EditedModel model = small_model("qwen2");
  model.set("general.architecture", std::string("another"));
  std::string listed;
  for (const std::string& name : architectures()) {
    if (!name.ends_with("moe")) listed += (listed.empty() ? "" : ", ") + name;
  }
  const auto gguf = loaders::GgufModel::open(model.write(directory / "m.gguf"));
  try {
    loaders::read_model_config(gguf);
    FAIL();
  } catch (const loaders::GgufError& error) {
    EXPECT_TRUE(std::string(error.what()).ends_with(": " + listed)) << error.what();
  }
}

}  // namespace
}  // namespace tensor_pager::qwen_prefill
