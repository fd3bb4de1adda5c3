// SPDX-License-Identifier: Apache-2.0
#include "kernels/instruction_set.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/error.hpp"

namespace tensor_pager::kernels::cpu {
namespace {

TEST(InstructionSet, ScalarIsAlwaysThereAndTheBestIsLast) {
  const auto sets = available_instruction_sets();
  ASSERT_FALSE(sets.empty());
  EXPECT_EQ(sets.front(), InstructionSet::scalar);
  EXPECT_EQ(sets.back(), best_instruction_set());
  EXPECT_TRUE(std::is_sorted(sets.begin(), sets.end()));
}

TEST(InstructionSet, OneThatDoesNotRunHereIsRefused) {
  std::vector<float> x(4);
  const MatrixView m{x.data(), 1, 4};
  const auto available = available_instruction_sets();
  for (const auto set : {InstructionSet::scalar, InstructionSet::avx2, InstructionSet::avx512,
                         InstructionSet::avx512_vnni}) {
    if (std::find(available.begin(), available.end(), set) != available.end()) {
      EXPECT_NO_THROW(swiglu(m, m, m, set)) << name(set);
    } else {
      EXPECT_THROW(swiglu(m, m, m, set), Error) << name(set);
    }
  }
}

}  // namespace
}  // namespace tensor_pager::kernels::cpu
