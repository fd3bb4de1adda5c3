// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul.hpp"

#include <tbb/enumerable_thread_specific.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cpu/integer_matmul.hpp"
#include "cpu/kernel_table.hpp"
#include "cpu/parallel.hpp"
#include "cpu/product_rows.hpp"
#include "cpu/shape_check.hpp"
#include "kernels/products.hpp"

namespace tensor_pager::kernels {

Weights Weights::slice(std::size_t first, std::size_t count) const {
  if (first > rows || count > rows - first) {
    throw Error("rows " + std::to_string(first) + " to " + std::to_string(first + count) +
                " asked of a weight matrix of " + std::to_string(rows) + " rows");
  }
  return {type, data + first * row_bytes(type, cols), count, cols, factor};
}

namespace cpu {
namespace {

// A panel of kPanelRows rows times kChunk inputs, dequantised, is 128 KiB: it stays in the
// second-level cache while all tokens are multiplied with it.
constexpr std::size_t kPanelRows = 64;

// Tokens that take unquantised weights directly: converting these again costs less than writing
// them to a panel, up to here. Other types have to be worth unpacking once.
constexpr std::size_t kTokensWithoutPanel = 6;

struct Product {
  const KernelTable& table;
  const FormatKernels& format;
  const Weights& w;
  const ConstMatrixView& x;
  const MatrixView& y;
  const MatmulOptions& options;
  std::size_t row_bytes;
};

void write(const Product& p, std::size_t token, std::size_t row, float total) {
  write_product(p.w, p.options, total, row, p.y.row(token));
}

// Products of up to kRowGroup rows with a token's inputs.
void dot_group(const Product& p, RowRange rows, const float* x, float (&totals)[kRowGroup]) {
  const std::byte* const first = p.w.data + rows.first * p.row_bytes;
  if (rows.count == kRowGroup) {
    p.format.dot_rows(first, p.row_bytes, x, p.w.cols, totals);
    return;
  }
  for (std::size_t i = 0; i < rows.count; ++i) {
    float same_row[kRowGroup];
    p.format.dot_rows(first + i * p.row_bytes, 0, x, p.w.cols, same_row);
    totals[i] = same_row[0];
  }
}

// Weights go from their blocks straight into the sums. Further tokens find a group of rows in the
// first two caches.
void multiply_directly(const Product& p, RowRange rows) {
  for (std::size_t r = 0; r < rows.count; r += kRowGroup) {
    const std::size_t count = std::min(kRowGroup, rows.count - r);
    for (std::size_t t = 0; t < p.x.rows; ++t) {
      float totals[kRowGroup];
      dot_group(p, {rows.first + r, count}, p.x.row(t), totals);
      for (std::size_t i = 0; i < count; ++i) write(p, t, rows.first + r + i, totals[i]);
    }
  }
}

// Inputs [start, start + count) of the rows, as float32, each row followed by zeros up to a
// multiple of 16.
void fill_panel(const Product& p, RowRange rows, std::size_t start, std::size_t count,
                float* panel) {
  const std::size_t offset = row_bytes(p.w.type, start);
  for (std::size_t r = 0; r < rows.count; ++r) {
    float* out = panel + r * kChunk;
    p.format.dequantize(p.w.data + (rows.first + r) * p.row_bytes + offset, out, count);
    std::fill(out + count, out + (count + 15) / 16 * 16, 0.0F);
  }
}

struct Scratch {
  AlignedFloats panel;   // [kPanelRows, kChunk]
  AlignedFloats totals;  // [tokens, kPanelRows]
};

void multiply_tokens(const Product& p, RowRange rows, Scratch& scratch) {
  scratch.panel.resize(kPanelRows * kChunk);
  scratch.totals.assign(p.x.rows * kPanelRows, 0.0F);
  for (std::size_t start = 0; start < p.w.cols; start += kChunk) {
    const std::size_t count = std::min(kChunk, p.w.cols - start);
    fill_panel(p, rows, start, count, scratch.panel.data());
    for (std::size_t t = 0; t < p.x.rows; t += p.table.token_tile) {
      // The tokens' inputs stay in the first-level cache over this loop. Rows past the last one are
      // leftovers whose totals nobody reads.
      for (std::size_t r = 0; r < rows.count; r += kRowGroup) {
        p.table.dot_tile({.weights = scratch.panel.data() + r * kChunk,
                          .x = p.x.row(t) + start,
                          .x_stride = p.x.stride,
                          .elements = count,
                          .tokens = std::min(p.table.token_tile, p.x.rows - t),
                          .totals = scratch.totals.data() + t * kPanelRows + r,
                          .totals_stride = kPanelRows});
      }
    }
  }
  for (std::size_t t = 0; t < p.x.rows; ++t) {
    for (std::size_t r = 0; r < rows.count; ++r) {
      write(p, t, rows.first + r, scratch.totals[t * kPanelRows + r]);
    }
  }
}

void require_shapes(const Weights& w, const ConstMatrixView& x, const MatrixView& y) {
  require_shape("matmul: x", x, x.rows, w.cols);
  require_shape("matmul: y", y, x.rows, w.rows);
}

// Products of floats.
void float_matmul(const Weights& w, const ConstMatrixView& x, const MatrixView& y,
                  const MatmulOptions& options) {
  const KernelTable& table = kernel_table(options.instruction_set);
  const Product product{table,   format_kernels(table, w.type), w, x, y,
                        options, row_bytes(w.type, w.cols)};
  const std::size_t step = rows_per_task(w.rows, kRowGroup, kPanelRows);
  const bool direct = x.rows == 1 || (block_elements(w.type) == 1 && x.rows <= kTokensWithoutPanel);
  const double operations =
      2.0 * static_cast<double>(w.rows) * static_cast<double>(w.cols) * static_cast<double>(x.rows);
  tbb::enumerable_thread_specific<Scratch> scratch;
  parallel_tasks((w.rows + step - 1) / step, operations, [&](std::size_t task) {
    const std::size_t first = task * step;
    const RowRange rows{first, std::min(step, w.rows - first)};
    if (direct) {
      multiply_directly(product, rows);
    } else {
      multiply_tokens(product, rows, scratch.local());
    }
  });
}

}  // namespace

void matmul(std::span<const SharedProduct> products, const ConstMatrixView& x) {
  if (products.empty()) return;
  const InstructionSet set = products.front().options.instruction_set;
  const IntegerKernels* const integers = integer_kernels(set);
  std::vector<IntegerProduct> of_integers;
  for (const SharedProduct& product : products) {
    require_shapes(product.w, x, product.y);
    if (product.options.instruction_set != set)
      throw Error("matmul: products of the same inputs ask for different instruction sets");
    if (x.rows == 0 || product.w.rows == 0) continue;
    const IntegerFormat* const format =
        integers != nullptr ? integer_format(*integers, product.w.type) : nullptr;
    if (format != nullptr) {
      of_integers.push_back({*format, product.w, product.y, product.options});
    } else {
      float_matmul(product.w, x, product.y, product.options);
    }
  }
  if (!of_integers.empty()) integer_matmul(*integers, of_integers, x);
}

void matmul(const Weights& w, const ConstMatrixView& x, const MatrixView& y,
            const MatmulOptions& options) {
  const SharedProduct alone{w, y, options};
  matmul(std::span(&alone, 1), x);
}

}  // namespace cpu
}  // namespace tensor_pager::kernels
