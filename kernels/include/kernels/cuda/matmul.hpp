// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <span>

#include "kernels/cuda/digits.hpp"
#include "kernels/cuda/operand.hpp"
#include "kernels/export.hpp"
#include "kernels/matmul.hpp"
#include "kernels/matrix_view.hpp"

namespace tensor_pager::kernels::cuda {

struct MatmulOptions {
  const float* bias = nullptr;  ///< [rows] in device memory, added to every token's product
  bool accumulate = false;      ///< y += product
  /// Inputs may lie outside the range of half: a token whose largest |x| is not in [2^-8, 2^15) is
  /// multiplied by a power of two first, and its product divided by it, which loses nothing.
  /// Without it, |x| above 65504 becomes infinite.
  bool scale_rows = false;
};

/// Device memory that a product may use while it is queued. Work in one stream can share it.
struct Scratch {
  std::byte* data = nullptr;  ///< at a multiple of 256
  std::size_t bytes = 0;
};

/// A product of a few tokens: y[t, r] = factor * w[r] . x[t] (+ bias[r]) (+ y[t, r]).
struct FewTokensProduct {
  Weights w;
  MatrixView y;
  const float* bias = nullptr;
  bool accumulate = false;
};

/// Matrix products on one device.
class TENSOR_PAGER_EXPORT Products {
 public:
  /// Throws Error if cuBLASLt cannot be initialised.
  Products();
  ~Products();
  Products(Products&&) noexcept;
  Products& operator=(Products&&) noexcept;

  /// Scratch with which a product of this shape is done in one piece; a product of fewer rows or
  /// tokens needs no more. With less, down to that of 64 rows, its rows are multiplied in several
  /// pieces, with the same bits.
  [[nodiscard]] static std::size_t scratch_bytes(std::size_t rows, std::size_t cols,
                                                 std::size_t tokens);

  /// As cpu::matmul: y[t, r] = factor * sum over k of w[r, k] * x[t, k] (+ bias[r]) (+ y[t, r]).
  ///
  /// One token is multiplied as digits (below). For more, weights and inputs are rounded to half,
  /// and the products summed in float32 by one algorithm for all shapes with the same number of
  /// columns, or by others that give its bits (rehearse), so that the bits of y[t, r] depend
  /// neither on the tokens multiplied together nor on how the rows are sliced into calls. (A y
  /// whose rows are not at multiples of 16 bytes gets another algorithm, chosen for its shape.)
  ///
  /// Throws Error if the shapes do not agree, if the scratch is too small (naming the minimum), or
  /// if a call fails.
  void matmul(const Weights& w, const ConstMatrixView& x, const MatrixView& y,
              const MatmulOptions& options, const Scratch& scratch, cudaStream_t stream);

  /// Products of up to kMostFewTokens tokens, as digits, with each of some matrices that have x's
  /// columns: straight from the weights' blocks, with nothing rounded to less than float32. The
  /// bits of y[t, r] depend on row r and token t only. What is asked for together takes less time.
  ///
  /// Weights are read sixteen bytes at a time, each at a multiple of sixteen: those around a
  /// matrix's first and last byte, too, which are in the same pages. They must not be what a kernel
  /// before this in the stream writes: from Hopper on they are asked for while that one still runs.
  void matmul(std::span<const FewTokensProduct> products, const DigitsView& x, cudaStream_t stream);

  /// Between on and off, products choose the fastest algorithm for their shape among those that
  /// give the same bits. Their results are of no use then, their inputs that are operands are
  /// overwritten, and the host waits for them.
  void rehearse(bool on);

  /// Scratch for the same with inputs that are operands already.
  [[nodiscard]] static std::size_t operand_scratch_bytes(std::size_t rows, std::size_t cols);

  /// The same for inputs that are operands, with their factors if they have them;
  /// options.scale_rows has no effect.
  void matmul(const Weights& w, const OperandView& x, const MatrixView& y,
              const MatmulOptions& options, const Scratch& scratch, cudaStream_t stream);
  /// The product times kProductScale, kept as operands; x has no factors.
  void matmul(const Weights& w, const OperandView& x, const OperandView& y, const Scratch& scratch,
              cudaStream_t stream);

  /// The product alone, of weights [rows, operand_stride(x.cols)] that are operands already, too.
  /// Factors and options.scale_rows have no effect.
  void multiply(const Operand* weights, std::size_t rows, const OperandView& x, const MatrixView& y,
                const MatmulOptions& options, const Scratch& workspace, cudaStream_t stream);

 private:
  class Library;
  std::unique_ptr<Library> library_;
};

}  // namespace tensor_pager::kernels::cuda
