// SPDX-License-Identifier: Apache-2.0
// What is said of a model's positions reaches it in every program that runs one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "../examples/child_process.hpp"

namespace tensor_pager::command_line {
namespace {

using testing::HasSubstr;
using Arguments = std::vector<std::string>;

constexpr const char* kModel = TEST_DATA_DIR "/models/tiny-qwen2-q4_k_m.gguf";  // of 4096 positions

struct Program {
  std::string path;
  Arguments always;  ///< besides a model, with a prompt longer than the model's context
};

class Positions : public testing::TestWithParam<Program> {
 protected:
  static tests::ProcessResult run(const Arguments& more) {
    Arguments all{"-m", kModel, "--device", "host", "-q"};
    all.insert(all.end(), GetParam().always.begin(), GetParam().always.end());
    all.insert(all.end(), more.begin(), more.end());
    return tests::run_process(GetParam().path, all);
  }
};

TEST_P(Positions, AreTheModelsUnlessTheyAreStretched) {
  const tests::ProcessResult as_it_is = run({});
  EXPECT_EQ(as_it_is.status, 1) << as_it_is.out;
  EXPECT_THAT(as_it_is.err, HasSubstr("context of 4096"));
  const tests::ProcessResult stretched = run({"--rope-scaling", "yarn", "--rope-scale", "2"});
  EXPECT_EQ(stretched.status, 0) << stretched.err;
}

TEST_P(Positions, OptionsThatContradictOneAnotherAreNamed) {
  const tests::ProcessResult nothing = run({"--rope-scaling", "linear"});
  EXPECT_EQ(nothing.status, 1);
  EXPECT_THAT(nothing.err, HasSubstr("give --rope-scale"));
  const tests::ProcessResult both = run({"--rope-scaling", "none", "--rope-scale", "4"});
  EXPECT_EQ(both.status, 2);
  EXPECT_THAT(both.err, HasSubstr("exclude one another"));
}

INSTANTIATE_TEST_SUITE_P(
    Programs, Positions,
    testing::Values(Program{QWEN_PREFILL, {"-p", "In the beginning", "-n", "1", "-c", "4100"}},
                    Program{PAGER_BENCH, {"-p", "4100", "-r", "1"}},
                    Program{PAGER_SIM, {"-p", "4100", "--machine", "h200"}}),
    [](const auto& instance) {
      const std::string& path = instance.param.path;
      return path.substr(path.rfind('/') + 1);
    });

}  // namespace
}  // namespace tensor_pager::command_line
