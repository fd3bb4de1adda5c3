// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <tbb/task_arena.h>

#include <algorithm>
#include <cstddef>

#include "kernels/matmul.hpp"

namespace tensor_pager::kernels::cpu {

struct RowRange {
  std::size_t first;
  std::size_t count;
};

/// Rows of a product that one task computes: a multiple of `group`, at most `most`, and so few that
/// there are enough tasks, `share` for each thread, for threads to finish together.
inline std::size_t rows_per_task(std::size_t rows, std::size_t group, std::size_t most,
                                 std::size_t share = 4) {
  const std::size_t tasks =
      share * static_cast<std::size_t>(tbb::this_task_arena::max_concurrency());
  const std::size_t wanted = (rows + tasks - 1) / tasks;
  return std::clamp((wanted + group - 1) / group * group, group, most);
}

/// What becomes of the sum for row `row` of `w` and one token, whose outputs are at `y`.
inline void write_product(const Weights& w, const MatmulOptions& options, float total,
                          std::size_t row, float* y) {
  total *= w.factor;
  if (options.bias) total += options.bias[row];
  y[row] = options.accumulate ? y[row] + total : total;
}

}  // namespace tensor_pager::kernels::cpu
