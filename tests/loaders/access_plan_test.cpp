// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "../temporary_directory.hpp"
#include "loaders/graph.hpp"
#include "random_model.hpp"

namespace tensor_pager::loaders {
namespace {

using tests::TemporaryDirectory;

class AccessPlanTest : public testing::Test {
 protected:
  Graph graph(const std::string& architecture) {
    const make_gguf::RandomModelOptions options{.architecture = architecture, .type = "q8_0"};
    const auto written = make_gguf::write_random_model(directory_ / "m.gguf", options);
    return build_graph(GgufModel::open(written.files[0]), {.max_step_bytes = KiB(500)});
  }

  TemporaryDirectory directory_;
};

TEST_F(AccessPlanTest, ALayerIsFinishedForAllUbatchesBeforeTheNext) {
  const Graph g = graph("qwen2");
  constexpr std::uint32_t kUbatches = 3;
  const std::vector<ScheduledStep> order = schedule(g, kUbatches);
  std::size_t next = 0;
  for (std::uint32_t layer = 0; layer < g.config.block_count(); ++layer) {
    for (std::uint32_t ubatch = 0; ubatch < kUbatches; ++ubatch) {
      for (std::uint32_t step = 0; step < g.steps.size(); ++step) {
        if (g.steps[step].layer != layer) continue;
        ASSERT_LT(next, order.size());
        EXPECT_EQ(order[next].step, step);
        EXPECT_EQ(order[next].ubatch, ubatch);
        ++next;
      }
    }
  }
  for (; next < order.size(); ++next) EXPECT_EQ(g.steps[order[next].step].op, Op::output);
}

TEST_F(AccessPlanTest, OutputRunsOnce) {
  const Graph g = graph("qwen2");
  std::size_t output_steps = 0;
  for (const Step& step : g.steps) output_steps += step.op == Op::output ? 1u : 0u;
  EXPECT_EQ(schedule(g, 4).size(), 4 * (g.steps.size() - output_steps) + output_steps);
}

TEST_F(AccessPlanTest, EntriesMatchTheSchedule) {
  const Graph g = graph("qwen3");
  const AccessPlan plan = access_plan(g, {.ubatches = 2, .ubatch_tokens = 16});
  const std::vector<ScheduledStep> order = schedule(g, 2);
  ASSERT_EQ(plan.steps.size(), order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    EXPECT_EQ(plan.steps[i].reads, reads(g.steps[order[i].step]));
    EXPECT_TRUE(plan.steps[i].choices.empty());
    EXPECT_EQ(plan.steps[i].choose_at_most, 0u);
  }
}

TEST_F(AccessPlanTest, ExpertsAreChoices) {
  const Graph g = graph("qwen3moe");
  for (const std::uint32_t tokens : {1u, 2u, 100u}) {
    const AccessPlan plan = access_plan(g, {.ubatches = 1, .ubatch_tokens = tokens});
    for (std::size_t i = 0; i < g.steps.size(); ++i) {
      const Step& step = g.steps[i];
      if (step.op != Op::moe_experts) continue;
      EXPECT_TRUE(plan.steps[i].reads.empty());
      // Gate, up and down of an expert are in three places; each token uses two experts.
      EXPECT_EQ(plan.steps[i].choices.size(), 3 * step.experts.size());
      const std::size_t experts = std::min<std::size_t>(step.experts.size(), 2 * tokens);
      EXPECT_EQ(plan.steps[i].choose_at_most, 3 * experts);
    }
  }
}

}  // namespace
}  // namespace tensor_pager::loaders
