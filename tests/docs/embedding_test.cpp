// SPDX-License-Identifier: Apache-2.0
// The snippets of docs/embedding.md, compiled and run. What lies between "// [name]" and "// [end]"
// is in the document word for word, but for its indentation; the last test sees to that.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "../temporary_directory.hpp"
#include "pager/host_device.hpp"
#include "pager/mapped_file_store.hpp"
#include "pager/memory_store.hpp"
#include "pager/pager.hpp"
#ifdef TENSOR_PAGER_CUDA
#include "pager/cuda_device.hpp"
#include "pager/pinned_store.hpp"
#endif

namespace {

using namespace tensor_pager;

constexpr Bytes kMatrix = KiB(64);
constexpr std::uint32_t kMatrices = 16;

AccessPlan walk() {
  AccessPlan plan;
  for (std::uint32_t i = 0; i < kMatrices; ++i)
    plan.steps.push_back({.reads = {{kMatrix * i, kMatrix}}});
  return plan;
}

std::vector<std::byte> image() {
  std::vector<std::byte> bytes(kMatrix.count * kMatrices);
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(i / kMatrix.count);
  return bytes;
}

int sum(const std::byte* matrix) {
  int total = 0;
  for (std::uint64_t i = 0; i < kMatrix.count; ++i) total += std::to_integer<int>(matrix[i]);
  return total;
}

TEST(Embedding, PagesFilesWithAPlan) {
  const tests::TemporaryDirectory directory;
  const auto bytes = image();
  const auto path =
      directory.write("weights.bin", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  std::vector<int> sums;
  // [files]
  auto store = std::make_shared<MappedFileStore>(std::vector{path});
  Pager pager(make_host_device(), store, {.arena = KiB(256), .page = KiB(16)});

  AccessPlan plan;
  for (std::uint32_t i = 0; i < kMatrices; ++i) {
    plan.steps.push_back(
        {.reads = {{kMatrix * i, kMatrix}}, .name = "matrix " + std::to_string(i)});
  }
  pager.set_plan(plan);

  for (std::uint32_t i = 0; i < kMatrices; ++i) {
    const Lease lease = pager.acquire(StepIndex{i});
    sums.push_back(sum(pager.address(kMatrix * i)));
  }
  // [end]
  for (int i = 0; i < static_cast<int>(kMatrices); ++i) {
    EXPECT_EQ(sums[static_cast<std::size_t>(i)], i * static_cast<int>(kMatrix.count));
  }
}

TEST(Embedding, ServesFilesInPlace) {
  const tests::TemporaryDirectory directory;
  const auto bytes = image();
  const auto path =
      directory.write("weights.bin", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  // [in place]
  auto store = std::make_shared<const MappedFileStore>(std::vector{path});
  Pager pager(make_in_place_device(store), store, {.arena = KiB(256), .page = KiB(16)});
  // [end]
  const std::vector<ByteRange> second = {{kMatrix, kMatrix}};
  const Lease lease = pager.acquire(second);
  EXPECT_EQ(sum(pager.address(kMatrix)), static_cast<int>(kMatrix.count));
}

TEST(Embedding, StreamsRunAheadOfTheirPages) {
  const auto bytes = image();
  Pager pager(make_host_device(), std::make_shared<MemoryStore>(bytes),
              {.arena = KiB(256), .page = KiB(16)});
  pager.set_plan(walk());
  int total = 0;
  // [streams]
  HostStream stream;  // on a GPU: StreamRef{cudaStream_t}
  for (std::uint32_t i = 0; i < kMatrices; ++i) {
    const Lease lease = pager.acquire(StepIndex{i}, {}, stream.ref());  // the stream waits, not you
    stream.launch([&, i] { total += sum(pager.address(kMatrix * i)); });
  }  // the lease ends: its pages may go once what was launched is done
  stream.synchronize();
  // [end]
  EXPECT_EQ(total, 120 * static_cast<int>(kMatrix.count));
}

TEST(Embedding, ChoosesRangesAtRunTime) {
  const auto bytes = image();
  Pager pager(make_host_device(), std::make_shared<MemoryStore>(bytes),
              {.arena = KiB(256), .page = KiB(16)});
  const std::size_t chosen = 7;
  // [choices]
  PlanStep experts;
  for (std::uint32_t i = 0; i < kMatrices; ++i) experts.choices.push_back({kMatrix * i, kMatrix});
  experts.choose_at_most = 2;
  pager.set_plan({.steps = {experts}});

  const std::vector<ByteRange> wanted = {experts.choices[chosen]};
  const Lease lease = pager.acquire(StepIndex{0}, wanted);
  // [end]
  EXPECT_EQ(sum(pager.address(kMatrix * chosen)), 7 * static_cast<int>(kMatrix.count));
}

TEST(Embedding, SaysTheExactMinimum) {
  const auto bytes = image();
  const auto store = std::make_shared<MemoryStore>(bytes);
  // [errors]
  Pager pager(make_host_device(), store, {.arena = KiB(16), .page = KiB(16)});
  try {
    pager.set_plan(walk());
  } catch (const BudgetError& error) {
    std::fprintf(stderr, "%s\n", error.what());
    pager.set_arena(error.minimum());  // the smallest that can run the plan
    pager.set_plan(walk());
  }
  // [end]
  EXPECT_EQ(pager.statistics().arena, KiB(64));
}

TEST(Embedding, ChangesTheArenaAndShowsWhatItDid) {
  const auto bytes = image();
  Trace trace;
  Pager pager(make_host_device({.trace = &trace}), std::make_shared<MemoryStore>(bytes),
              {.arena = KiB(512), .page = KiB(16), .trace = &trace});
  pager.set_plan(walk());
  std::ostringstream file;
  // [statistics]
  pager.set_arena(KiB(128));  // returns when the memory that was given up is free
  for (std::uint32_t i = 0; i < kMatrices; ++i) pager.acquire(StepIndex{i});
  pager.settle();  // copies for steps to come have ended, too
  const Statistics statistics = pager.statistics();
  std::printf("%llu pages copied; Belady's rule: %llu\n",
              static_cast<unsigned long long>(statistics.core.loads),
              static_cast<unsigned long long>(statistics.core.optimal_loads));
  trace.write(file);  // for Perfetto
  // [end]
  EXPECT_EQ(statistics.memory.current, KiB(128));
  EXPECT_GE(statistics.core.loads, statistics.core.optimal_loads);
  EXPECT_NE(file.str().find("traceEvents"), std::string::npos);
}

TEST(Embedding, ChecksAStream) {
  const auto bytes = image();
  Pager pager(make_host_device(), std::make_shared<MemoryStore>(bytes),
              {.arena = KiB(64), .page = KiB(16)});
  pager.set_plan(walk());
  HostStream stream;
  int total = 0;
  {
    // [check]
    const Lease lease = pager.acquire(StepIndex{1}, {}, stream.ref());
    stream.launch([&] { total = sum(pager.address(kMatrix)); });
    stream.synchronize();
    pager.check(stream.ref());  // from here on `total` can be relied on
    // [end]
  }
  EXPECT_NE(total, 0);
}

#ifdef TENSOR_PAGER_CUDA
TEST(Embedding, UsesAGpu) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no GPU on this machine";
  const tests::TemporaryDirectory directory;
  const auto bytes = image();
  const auto path =
      directory.write("weights.bin", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  // [cuda]
  const PinnedStore pinned = make_pinned_store({path}, {.gpu = 0});
  Pager pager(make_cuda_device({.gpu = 0}), pinned.store, {.arena = MiB(64)});
  std::printf("weights come from a %s\n", pinned.description.c_str());
  // [end]
  pager.set_plan(walk());
  EXPECT_NO_THROW(pager.acquire(StepIndex{0}));
}
#endif

std::string without_indentation(const std::string& line) {
  return line.substr(std::min(line.find_first_not_of(' '), line.size()));
}

std::string without_indentation(std::istream&& in) {
  std::string out;
  for (std::string line; std::getline(in, line);) out += without_indentation(line) + "\n";
  return out;
}

// What lies between the marks, by name.
std::map<std::string, std::string> snippets(std::istream&& in) {
  std::map<std::string, std::string> all;
  std::string name;
  for (std::string line; std::getline(in, line);) {
    const std::string text = without_indentation(line);
    if (text.starts_with("// [")) {
      name = text == "// [end]" ? "" : text;
    } else if (!name.empty()) {
      all[name] += text + "\n";
    }
  }
  return all;
}

// "Suite.Name" of every test in the folder, and "Suite." of every suite.
std::set<std::string> tests_of(const std::filesystem::path& folder) {
  std::set<std::string> tests;
  const std::regex test(R"(TEST(?:_F|_P)?\((\w+), (\w+)\))");
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::stringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    // A macro whose second argument went to the next line.
    const std::string source = std::regex_replace(text.str(), std::regex(R"(,\s+)"), ", ");
    for (std::sregex_iterator it(source.begin(), source.end(), test), end; it != end; ++it) {
      tests.insert((*it)[1].str() + "." + (*it)[2].str());
      tests.insert((*it)[1].str() + ".");
    }
  }
  return tests;
}

// The second column of the promises: `Suite.Name`, `Suite.Begin*`, or `.Name` of the suite before.
TEST(Embedding, EveryPromiseNamesTestsThatExist) {
  const std::set<std::string> tests = tests_of(PAGER_TESTS);
  std::ifstream page(EMBEDDING_PAGE);
  const std::regex name(R"(`(\w*)(?:\.([\w]*)(\*)?)?`)");
  std::size_t promises = 0;
  for (std::string line; std::getline(page, line);) {
    if (!line.starts_with("| ") || line.starts_with("| promise")) continue;
    const std::string column = line.substr(line.rfind(" | "));
    std::string suite;
    for (std::sregex_iterator it(column.begin(), column.end(), name), end; it != end; ++it) {
      if ((*it)[1].length() != 0) suite = (*it)[1];
      const std::string wanted = suite + "." + (*it)[2].str();
      const auto found = tests.lower_bound(wanted);
      const bool there =
          found != tests.end() && ((*it)[3].matched ? found->starts_with(wanted)
                                                    : *found == wanted || (*it)[2].length() == 0);
      EXPECT_TRUE(there) << wanted << " is promised, and there is no such test";
    }
    EXPECT_FALSE(suite.empty()) << "no test is named for: " << line;
    ++promises;
  }
  EXPECT_GE(promises, 15U);
}

TEST(Embedding, DocumentQuotesTheseSnippets) {
  const std::string page = without_indentation(std::ifstream(EMBEDDING_PAGE));
  const auto quoted = snippets(std::ifstream(EMBEDDING_SNIPPETS));
  EXPECT_EQ(quoted.size(), 8U);
  for (const auto& [name, snippet] : quoted) {
    EXPECT_NE(page.find(snippet), std::string::npos) << name << " is not in docs/embedding.md:\n"
                                                     << snippet;
  }
}

}  // namespace
