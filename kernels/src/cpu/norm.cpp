// SPDX-License-Identifier: Apache-2.0
#include "kernels/norm.hpp"

#include <array>
#include <atomic>
#include <cmath>

#include "cpu/parallel.hpp"
#include "cpu/shape_check.hpp"

namespace tensor_pager::kernels::cpu {
namespace {

// Eight partial sums, so that additions do not wait for each other.
double sum_of_squares(const float* x, std::size_t n) {
  std::array<double, 8> sums{};
  std::size_t i = 0;
  for (; i + sums.size() <= n; i += sums.size()) {
    for (std::size_t lane = 0; lane < sums.size(); ++lane) {
      const double value = x[i + lane];
      sums[lane] += value * value;
    }
  }
  for (; i < n; ++i) sums[i % sums.size()] += static_cast<double>(x[i]) * x[i];
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

}  // namespace

bool rms_norm(const ConstMatrixView& x, const float* weight, float epsilon, const MatrixView& out) {
  require_shape("rms_norm: x", x, x.rows, x.cols);
  require_shape("rms_norm: out", out, x.rows, x.cols);
  const double elements = static_cast<double>(x.cols) * static_cast<double>(x.rows);
  std::atomic<bool> all_finite = true;
  parallel_tasks(x.rows, 4 * elements, [&](std::size_t r) {
    const float* from = x.row(r);
    float* to = out.row(r);
    const double mean = sum_of_squares(from, x.cols) / static_cast<double>(x.cols);
    if (!std::isfinite(mean)) all_finite.store(false, std::memory_order_relaxed);
    const auto scale = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(epsilon)));
    for (std::size_t i = 0; i < x.cols; ++i) to[i] = from[i] * scale * weight[i];
  });
  return all_finite;
}

}  // namespace tensor_pager::kernels::cpu
