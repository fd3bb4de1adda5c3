// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "child_process.hpp"
#include "model_run.hpp"

namespace tensor_pager::qwen {
namespace {

// What llama-perplexity -c 512 says about heldout.txt, and how far from it is still right: weights
// are the same, but llama.cpp rounds activations of quantised models to 8 bits.
struct Reference {
  std::string model;
  double perplexity;
  double error;
  double tolerance;
};

class HeldoutText : public testing::TestWithParam<Reference> {};

TEST_P(HeldoutText, HasThePerplexityOfLlamaCpp) {
  const auto& [model, expected, expected_error, tolerance] = GetParam();
  // An arena of half the weights: paging is part of what is tested.
  const auto result =
      tests::run_process(QWEN_PREFILL, {"-m", test_data("models/" + model + ".gguf"), "-f",
                                        test_data("models/heldout.txt"), "--perplexity", "-c",
                                        "512", "--arena", "50%", "--device", "host", "-q"});
  ASSERT_EQ(result.status, 0) << result.err;
  double perplexity = 0;
  double error = 0;
  ASSERT_EQ(
      std::sscanf(result.out.c_str(), "Final estimate: PPL = %lf +/- %lf\n", &perplexity, &error),
      2)
      << result.out;
  EXPECT_NEAR(perplexity, expected, tolerance);
  EXPECT_NEAR(error, expected_error, 0.01);
}

INSTANTIATE_TEST_SUITE_P(TrainedModels, HeldoutText,
                         testing::Values(Reference{"tiny-qwen2-f16", 20.648, 0.468, 0.02},
                                         Reference{"tiny-qwen2-q4_k_m", 20.818, 0.471, 0.1},
                                         Reference{"tiny-qwen3-q8_0", 21.674, 0.511, 0.05}),
                         [](const auto& reference) {
                           std::string name = reference.param.model;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace tensor_pager::qwen
