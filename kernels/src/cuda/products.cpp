// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/few_tokens.hpp"
#include "cuda/gemm.hpp"
#include "cuda/gemm_trial.hpp"
#include "cuda/launch.hpp"
#include "cuda/operand_rows.hpp"
#include "cuda/shapes.hpp"
#include "kernels/cuda/dequantize.hpp"
#include "kernels/cuda/matmul.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

constexpr std::size_t kAlignment = 256;  // of the parts of the scratch memory
constexpr std::size_t kFewestRows = 64;  // multiplied together when the scratch is small

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

std::size_t digits_bytes(std::size_t cols, std::size_t tokens) {
  return aligned(tokens * digits_stride(cols) * sizeof(float));
}

std::size_t input_bytes(std::size_t cols, std::size_t tokens) {
  return aligned(tokens * sizeof(float)) + aligned(tokens * operand_stride(cols) * sizeof(Operand));
}

std::size_t row_bytes_of(std::size_t cols) {
  return operand_stride(cols) * sizeof(Operand);
}

void require_scratch(const Scratch& scratch, std::size_t least, std::size_t rows, std::size_t cols,
                     std::size_t tokens) {
  if (scratch.bytes >= least && reinterpret_cast<std::uintptr_t>(scratch.data) % kAlignment == 0) {
    return;
  }
  throw Error("cuda matmul: [" + std::to_string(rows) + ", " + std::to_string(cols) + "] for " +
              std::to_string(tokens) + " tokens needs at least " + std::to_string(least) +
              " bytes of scratch memory at a multiple of 256, but has " +
              std::to_string(scratch.bytes));
}

// How the scratch memory of a product of operands is divided.
struct Parts {
  Scratch workspace;
  Operand* weights;
  std::size_t rows;  // of weights that are multiplied together
};

Parts divide(const Scratch& scratch, std::size_t rows, std::size_t cols, std::size_t tokens) {
  const std::size_t row = row_bytes_of(cols);
  require_scratch(scratch, Gemm::kWorkspace + std::min(rows, kFewestRows) * row, rows, cols,
                  tokens);
  const std::size_t fit = (scratch.bytes - Gemm::kWorkspace) / row;
  // Pieces of about equal size, in whole tiles.
  const std::size_t pieces = (rows + fit - 1) / fit;
  const std::size_t even = (rows + pieces - 1) / pieces;
  const std::size_t tiles = std::min((even + kFewestRows - 1) / kFewestRows, fit / kFewestRows);
  return {{scratch.data, Gemm::kWorkspace},
          reinterpret_cast<Operand*>(scratch.data + Gemm::kWorkspace),
          fit >= rows ? rows : tiles * kFewestRows};
}

}  // namespace

class Products::Library {
 public:
  /// multiply(weights, first row, rows, workspace) for all of w, in pieces.
  template <class Multiply>
  void for_pieces(const Weights& w, const OperandView& x, const Scratch& scratch,
                  cudaStream_t stream, const Multiply& multiply) {
    const Parts parts = divide(scratch, w.rows, w.cols, x.rows);
    if (rehearsing) fill_with_noise(x.data, x.rows * x.stride, stream);
    for (std::size_t first = 0; first < w.rows; first += parts.rows) {
      const std::size_t rows = std::min(parts.rows, w.rows - first);
      const std::size_t stride = operand_stride(w.cols);
      dequantize_rows(w.slice(first, rows), parts.weights, stride, stream);
      if (rehearsing) fill_with_noise(parts.weights, rows * stride, stream);
      multiply(parts.weights, first, rows, parts.workspace);
    }
  }

  /// `factor` times the product of operands; a bias that cuBLASLt cannot add is added afterwards.
  void multiply(const Operand* weights, std::size_t rows, const OperandView& x, const MatrixView& y,
                float factor, const MatmulOptions& options, const Scratch& workspace,
                cudaStream_t stream) {
    // It reads a bias sixteen bytes at a time.
    const bool fused =
        options.bias == nullptr || reinterpret_cast<std::uintptr_t>(options.bias) % 16 == 0;
    GemmOutput whole(y, options.bias, options.accumulate);
    whole.scale = factor;
    if (fused && gemm.multiply({weights, rows, x, whole}, workspace, stream)) return;
    GemmOutput without(y, nullptr, options.accumulate);
    without.scale = factor;
    gemm.multiply({weights, rows, x, without}, workspace, stream);
    finish_rows(y, nullptr, options.bias, stream);
  }

  Gemm gemm;
  bool rehearsing = false;
};

Products::Products() : library_(std::make_unique<Library>()) {}
Products::~Products() = default;
Products::Products(Products&&) noexcept = default;
Products& Products::operator=(Products&&) noexcept = default;

std::size_t Products::scratch_bytes(std::size_t rows, std::size_t cols, std::size_t tokens) {
  if (tokens == 1) return digits_bytes(cols, tokens);
  return aligned(input_bytes(cols, tokens) + operand_scratch_bytes(rows, cols));
}

std::size_t Products::operand_scratch_bytes(std::size_t rows, std::size_t cols) {
  return aligned(Gemm::kWorkspace + rows * row_bytes_of(cols));
}

void Products::rehearse(bool on) {
  library_->rehearsing = on;
  library_->gemm.try_algorithms(on);
}

void Products::multiply(const Operand* weights, std::size_t rows, const OperandView& x,
                        const MatrixView& y, const MatmulOptions& options, const Scratch& workspace,
                        cudaStream_t stream) {
  require_shape("cuda multiply: y", y, x.rows, rows);
  library_->multiply(weights, rows, x, y, 1.0F, options, workspace, stream);
}

void Products::matmul(const Weights& w, const OperandView& x, const MatrixView& y,
                      const MatmulOptions& options, const Scratch& scratch, cudaStream_t stream) {
  require_operand("cuda matmul: x", x, x.rows, w.cols);
  require_shape("cuda matmul: y", y, x.rows, w.rows);
  if (x.rows == 0 || w.rows == 0) return;
  if (x.factors != nullptr && options.accumulate) divide_rows(y, x.factors, stream);
  // A bias is added after the rows have been scaled back.
  const float* bias = x.factors == nullptr ? options.bias : nullptr;
  library_->for_pieces(
      w, x, scratch, stream,
      [&](const Operand* weights, std::size_t first, std::size_t rows, const Scratch& workspace) {
        library_->multiply(
            weights, rows, x, {y.data + first, x.rows, rows, y.stride}, w.factor,
            {.bias = bias == nullptr ? nullptr : bias + first, .accumulate = options.accumulate},
            workspace, stream);
      });
  if (x.factors != nullptr) finish_rows(y, x.factors, options.bias, stream);
}

void Products::matmul(const Weights& w, const OperandView& x, const OperandView& y,
                      const Scratch& scratch, cudaStream_t stream) {
  require_operand("cuda matmul: x", x, x.rows, w.cols);
  require_operand("cuda matmul: y", y, x.rows, w.rows);
  if (x.factors != nullptr) {
    throw Error("cuda matmul: a product of rows with factors cannot be kept as operands");
  }
  if (x.rows == 0 || w.rows == 0) return;
  library_->for_pieces(
      w, x, scratch, stream,
      [&](const Operand* weights, std::size_t first, std::size_t rows, const Scratch& workspace) {
        GemmOutput out(OperandView{y.data + first, x.rows, rows, y.stride});
        out.scale *= w.factor;
        library_->gemm.multiply({weights, rows, x, out}, workspace, stream);
      });
}

void Products::matmul(const Weights& w, const ConstMatrixView& x, const MatrixView& y,
                      const MatmulOptions& options, const Scratch& scratch, cudaStream_t stream) {
  require_shape("cuda matmul: x", x, x.rows, w.cols);
  require_shape("cuda matmul: y", y, x.rows, w.rows);
  if (x.rows == 0 || w.rows == 0) return;
  if (x.rows == 1) {
    require_scratch(scratch, digits_bytes(w.cols, 1), w.rows, w.cols, 1);
    const DigitsView digits{scratch.data, 1, w.cols};
    split_digits(x, digits, stream);
    const FewTokensProduct product{w, y, options.bias, options.accumulate};
    return matmul({&product, 1}, digits, stream);
  }

  const std::size_t inputs = input_bytes(w.cols, x.rows);
  const std::size_t least =
      inputs + Gemm::kWorkspace + std::min(w.rows, kFewestRows) * row_bytes_of(w.cols);
  require_scratch(scratch, least, w.rows, w.cols, x.rows);
  OperandView rounded{
      .data = reinterpret_cast<Operand*>(scratch.data + aligned(x.rows * sizeof(float))),
      .rows = x.rows,
      .cols = w.cols};
  if (options.scale_rows) rounded.factors = reinterpret_cast<float*>(scratch.data);
  round_rows(x, rounded, stream);
  matmul(w, rounded, y, options, {scratch.data + inputs, scratch.bytes - inputs}, stream);
}

namespace {

// The first ones, which can be multiplied together.
std::span<const FewTokensProduct> alike_at_front(std::span<const FewTokensProduct> products) {
  std::size_t count = 0;
  while (count < std::min<std::size_t>(products.size(), kMostTogether) &&
         products[count].w.type == products.front().w.type) {
    ++count;
  }
  return products.first(count);
}

}  // namespace

void Products::matmul(std::span<const FewTokensProduct> products, const DigitsView& x,
                      cudaStream_t stream) {
  if (x.rows > kMostFewTokens || reinterpret_cast<std::uintptr_t>(x.data) % 16 != 0) {
    throw Error("cuda matmul: digits of " + std::to_string(x.rows) + " tokens; there may be " +
                std::to_string(kMostFewTokens) + ", which begin at a multiple of 16");
  }
  std::vector<FewTokensProduct> used;
  for (const FewTokensProduct& product : products) {
    require_shape("cuda matmul: y", product.y, x.rows, product.w.rows);
    if (product.w.cols != x.cols) {
      throw Error("cuda matmul: digits of " + std::to_string(x.cols) + " columns for weights of " +
                  std::to_string(product.w.cols));
    }
    if (x.rows != 0 && product.w.rows != 0) used.push_back(product);
  }
  for (std::span<const FewTokensProduct> left = used; !left.empty();) {
    const auto alike = alike_at_front(left);
    left = left.subspan(alike.size());
    const auto others = alike_at_front(left);
    if (multiply_few_of_two(alike, others, x, stream)) {
      left = left.subspan(others.size());
    } else {
      multiply_few(alike, x, stream);
    }
  }
}

}  // namespace tensor_pager::kernels::cuda
