// SPDX-License-Identifier: Apache-2.0
#include "cpu/integer_matmul.hpp"

#include <tbb/enumerable_thread_specific.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "cpu/parallel.hpp"
#include "cpu/product_rows.hpp"

namespace tensor_pager::kernels::cpu {
namespace {

// Rows that are unpacked together: a chunk of them is 64 KiB and stays in the second-level cache
// while all tokens are multiplied with it.
constexpr std::size_t kTaskRows = 64;

// Tasks of a thread where weights are read straight from memory: how long one takes depends on what
// else the memory does, and the others wait for the last.
constexpr std::size_t kDirectTasks = 8;

// Tokens whose inputs of a chunk stay in the second-level cache beside it.
constexpr std::size_t kTokenBlock = 96;

struct Product {
  const IntegerKernels& kernels;
  const IntegerFormat& format;
  const Weights& w;
  const MatrixView& y;
  const MatmulOptions& options;
  std::size_t row_bytes;
  std::size_t blocks;     // of a token's inputs
  const RoundedBlock* x;  // [tokens, blocks]
  std::size_t task_rows;
};

struct alignas(64) Line {
  std::byte bytes[64];
};

// Memory that is not cleared: it may be much, and is written before it is read.
template <class T>
class Buffer {
 public:
  T* at_least(std::size_t count) {
    if (count > count_) {
      values_.reset(new T[count]);
      count_ = count;
    }
    return values_.get();
  }

 private:
  std::unique_ptr<T[]> values_;
  std::size_t count_ = 0;
};

struct Scratch {
  Buffer<Line> panel;
  Buffer<float> totals;
};

double operations(std::size_t tokens, std::size_t rows, std::size_t cols) {
  return 2.0 * static_cast<double>(tokens) * static_cast<double>(rows) * static_cast<double>(cols);
}

void round_inputs(const IntegerKernels& kernels, const ConstMatrixView& x, std::size_t blocks,
                  RoundedBlock* out) {
  parallel_tasks(x.rows, 4.0 * static_cast<double>(x.rows * x.cols),
                 [&](std::size_t t) { kernels.round(x.row(t), x.cols, out + t * blocks); });
}

void write_totals(const Product& p, RowRange rows, const float* totals, std::size_t stride) {
  for (std::size_t t = 0; t < p.y.rows; ++t) {
    for (std::size_t r = 0; r < rows.count; ++r) {
      write_product(p.w, p.options, totals[t * stride + r], rows.first + r, p.y.row(t));
    }
  }
}

void multiply_directly(const Product& p, RowRange rows) {
  constexpr std::size_t kRows = 32;
  float totals[kDirectTokens * kRows];
  for (std::size_t done = 0; done < rows.count; done += kRows) {
    const RowRange some{rows.first + done, std::min(kRows, rows.count - done)};
    p.format.direct[p.y.rows - 1]({.rows = p.w.data + some.first * p.row_bytes,
                                   .row_bytes = p.row_bytes,
                                   .row_count = some.count,
                                   .cols = p.w.cols,
                                   .x = p.x,
                                   .totals = totals,
                                   .totals_stride = kRows});
    write_totals(p, some, totals, kRows);
  }
}

// A chunk of some rows as panels, one after another.
void unpack_chunk(const Product& p, RowRange rows, std::size_t first_block, std::size_t count,
                  std::byte* panels) {
  // Only where all tokens take a panel at once are the rows that come next few enough to wait in
  // the second-level cache.
  const std::byte* const ahead =
      p.y.rows <= kTokenBlock
          ? p.w.data + (rows.first + rows.count) * p.row_bytes +
                rows.count * row_bytes(p.w.type, std::min(first_block * kBlockInputs, p.w.cols))
          : nullptr;
  for (std::size_t r = 0; r < rows.count; r += p.kernels.panel_rows) {
    p.format.unpack({.rows = p.w.data + (rows.first + r) * p.row_bytes,
                     .row_bytes = p.row_bytes,
                     .row_count = std::min(p.kernels.panel_rows, rows.count - r),
                     .first_block = first_block,
                     .block_count = count,
                     .cols = p.w.cols,
                     .ahead = ahead},
                    panels);
    panels += count * p.format.panel_block_bytes;
  }
}

void multiply_chunk(const Product& p, RowRange rows, std::size_t first_block, std::size_t count,
                    const std::byte* panels, float* totals) {
  for (std::size_t t = 0; t < p.y.rows; t += kTokenBlock) {
    const std::byte* panel = panels;
    for (std::size_t r = 0; r < rows.count; r += p.kernels.panel_rows) {
      p.format.multiply({.panel = panel,
                         .block_count = count,
                         .x = p.x + t * p.blocks + first_block,
                         .x_stride = p.blocks,
                         .tokens = std::min(kTokenBlock, p.y.rows - t),
                         .totals = totals + t * kTaskRows + r,
                         .totals_stride = kTaskRows});
      panel += count * p.format.panel_block_bytes;
    }
  }
}

void multiply_some_panels(const Product& p, RowRange rows, Scratch& scratch) {
  const std::size_t panels = kTaskRows / p.kernels.panel_rows;
  std::byte* panel =
      scratch.panel.at_least(panels * kChunkBlocks * p.format.panel_block_bytes / sizeof(Line))
          ->bytes;
  const std::size_t count = p.y.rows * kTaskRows;
  float* totals = scratch.totals.at_least(count);
  std::fill(totals, totals + count, 0.0F);
  for (std::size_t b = 0; b < p.blocks; b += kChunkBlocks) {
    const std::size_t blocks = std::min(kChunkBlocks, p.blocks - b);
    unpack_chunk(p, rows, b, blocks, panel);
    multiply_chunk(p, rows, b, blocks, panel, totals);
  }
  write_totals(p, rows, totals, kTaskRows);
}

void multiply_panels(const Product& p, RowRange rows, Scratch& scratch) {
  // A single panel stays in the first-level cache, and rows are read from memory one after another;
  // but with more tokens than the second-level cache holds, several panels share their inputs.
  const std::size_t step = p.y.rows <= kTokenBlock ? p.kernels.panel_rows : kTaskRows;
  for (std::size_t done = 0; done < rows.count; done += step) {
    multiply_some_panels(p, {rows.first + done, std::min(step, rows.count - done)}, scratch);
  }
}

}  // namespace

void integer_matmul(const IntegerKernels& kernels, std::span<const IntegerProduct> products,
                    const ConstMatrixView& x) {
  const std::size_t blocks = (x.cols + kBlockInputs - 1) / kBlockInputs;
  const std::unique_ptr<RoundedBlock[]> rounded(new RoundedBlock[x.rows * blocks]);
  round_inputs(kernels, x, blocks, rounded.get());
  const bool direct = x.rows <= kDirectTokens;
  std::vector<Product> all;
  std::vector<std::size_t> first_task{0};  // of each product, and the end
  double work = 0;
  for (const IntegerProduct& one : products) {
    const std::size_t rows = one.w.rows;
    const std::size_t step = direct ? rows_per_task(rows, 8, rows + 8, kDirectTasks)
                                    : rows_per_task(rows, kernels.panel_rows, kTaskRows);
    all.push_back({kernels, one.format, one.w, one.y, one.options, row_bytes(one.w.type, x.cols),
                   blocks, rounded.get(), step});
    first_task.push_back(first_task.back() + (rows + step - 1) / step);
    work += operations(x.rows, rows, x.cols);
  }
  tbb::enumerable_thread_specific<Scratch> scratch;
  parallel_tasks(first_task.back(), work, [&](std::size_t task) {
    const auto next = std::upper_bound(first_task.begin(), first_task.end(), task);
    const auto i = static_cast<std::size_t>(next - first_task.begin()) - 1;
    const Product& p = all[i];
    const std::size_t first = (task - first_task[i]) * p.task_rows;
    const RowRange rows{first, std::min(p.task_rows, p.w.rows - first)};
    if (direct) {
      multiply_directly(p, rows);
    } else {
      multiply_panels(p, rows, scratch.local());
    }
  });
}

}  // namespace tensor_pager::kernels::cpu
