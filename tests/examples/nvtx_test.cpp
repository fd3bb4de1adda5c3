// SPDX-License-Identifier: Apache-2.0
// What a profiler sees of a run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "../temporary_directory.hpp"
#include "child_process.hpp"
#include "model_run.hpp"

namespace tensor_pager::qwen {
namespace {

using testing::Contains;
using testing::Each;
using testing::StartsWith;

struct Recording {
  std::vector<std::string> names;
  std::map<std::string, int> open;  // by id
};

Recording read_recording(const std::string& path) {
  Recording recording;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t space = line.find(' ');
    const std::string id = line.substr(1, space - 1);
    if (line.front() == '+') recording.names.push_back(line.substr(space + 1));
    recording.open[id] += line.front() == '+' ? 1 : -1;
  }
  return recording;
}

TEST(Nvtx, ShowsAcquiresCopiesAndStepsInADomainOfItsOwn) {
  const tests::TemporaryDirectory directory;
  const std::string file = directory / "spans";
  ASSERT_EQ(setenv("NVTX_INJECTION64_PATH", NVTX_RECORDER, 1), 0);
  ASSERT_EQ(setenv("NVTX_RECORD_TO", file.c_str(), 1), 0);
  const tests::ProcessResult run = tests::run_process(
      QWEN_PREFILL, {"--device", "host", "-q", "-m", test_data("models/tiny-qwen2-q4_k_m.gguf"),
                     "-p", "In the beginning", "-n", "2", "--arena", "25%"});
  ASSERT_EQ(run.status, 0) << run.err;

  const Recording recording = read_recording(file);
  EXPECT_THAT(recording.names, Each(StartsWith("tensor_pager/")));
  EXPECT_THAT(recording.names, Contains("tensor_pager/layer 0 attention_input"));
  EXPECT_THAT(recording.names, Contains("tensor_pager/acquire layer 1 ffn_down"));
  EXPECT_THAT(recording.names, Contains(StartsWith("tensor_pager/copy of pages ")));
  EXPECT_THAT(recording.names, Contains("tensor_pager/output"));
  for (const auto& [id, open] : recording.open) EXPECT_EQ(open, 0) << "span " << id;
}

}  // namespace
}  // namespace tensor_pager::qwen
