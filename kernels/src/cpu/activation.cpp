// SPDX-License-Identifier: Apache-2.0
#include "kernels/activation.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "cpu/kernel_table.hpp"
#include "cpu/parallel.hpp"
#include "cpu/shape_check.hpp"

namespace tensor_pager::kernels::cpu {
namespace {

double elements(const ConstMatrixView& m) {
  return static_cast<double>(m.rows) * static_cast<double>(m.cols);
}

}  // namespace

void swiglu(const ConstMatrixView& gate, const ConstMatrixView& up, const MatrixView& out,
            InstructionSet instruction_set) {
  require_shape("swiglu: gate", gate, out.rows, out.cols);
  require_shape("swiglu: up", up, out.rows, out.cols);
  require_shape("swiglu: out", out, out.rows, out.cols);
  const KernelTable& table = kernel_table(instruction_set);
  parallel_tasks(out.rows, 20 * elements(out), [&](std::size_t r) {
    table.swiglu(gate.row(r), up.row(r), out.row(r), out.cols);
  });
}

void add(const ConstMatrixView& a, const ConstMatrixView& b, const MatrixView& out) {
  require_shape("add: a", a, out.rows, out.cols);
  require_shape("add: b", b, out.rows, out.cols);
  require_shape("add: out", out, out.rows, out.cols);
  parallel_tasks(out.rows, elements(out), [&](std::size_t r) {
    const float* first = a.row(r);
    const float* second = b.row(r);
    float* to = out.row(r);
    for (std::size_t i = 0; i < out.cols; ++i) to[i] = first[i] + second[i];
  });
}

void softmax_rows(const MatrixView& x) {
  require_shape("softmax_rows: x", x, x.rows, x.cols);
  if (x.cols == 0) return;
  parallel_tasks(x.rows, 40 * elements(x), [&](std::size_t r) {
    float* row = x.row(r);
    const float largest = *std::max_element(row, row + x.cols);
    double sum = 0.0;
    for (std::size_t i = 0; i < x.cols; ++i) {
      row[i] = std::exp(row[i] - largest);
      sum += static_cast<double>(row[i]);
    }
    for (std::size_t i = 0; i < x.cols; ++i) {
      row[i] = static_cast<float>(static_cast<double>(row[i]) / sum);
    }
  });
}

void top_k(std::span<const float> values, std::span<std::size_t> indices) {
  if (indices.size() > values.size()) {
    throw Error("top_k: " + std::to_string(indices.size()) + " asked of " +
                std::to_string(values.size()) + " values");
  }
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto middle = order.begin() + static_cast<std::ptrdiff_t>(indices.size());
  std::partial_sort(order.begin(), middle, order.end(), [&](std::size_t a, std::size_t b) {
    return values[a] != values[b] ? values[a] > values[b] : a < b;
  });
  std::copy(order.begin(), middle, indices.begin());
}

}  // namespace tensor_pager::kernels::cpu
