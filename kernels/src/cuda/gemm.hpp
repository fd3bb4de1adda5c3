// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <tuple>
#include <vector>

#include "kernels/cuda/matmul.hpp"
#include "kernels/cuda/operand.hpp"
#include "kernels/matrix_view.hpp"

namespace tensor_pager::kernels::cuda {

/// Where a product goes, and as what.
struct GemmOutput {
  void* data;
  cudaDataType_t type;
  std::size_t stride;
  float scale = 1.0F;
  const float* bias = nullptr;
  bool accumulate = false;

  explicit GemmOutput(const MatrixView& y, const float* bias_of_y = nullptr, bool add_to_y = false);
  /// Times kProductScale.
  explicit GemmOutput(const OperandView& y);

  std::size_t element() const;
  /// 16, or what an element has.
  std::uint32_t alignment() const;
};

/// y[t, r] = scale * sum over k of weights[r, k] * x[t, k], for k up to operand_stride(x.cols).
struct GemmProblem {
  const Operand* weights;  ///< [rows, operand_stride(x.cols)]
  std::size_t rows;
  OperandView x;
  GemmOutput y;
};

/// Products of operands by cuBLASLt, whose bits depend neither on the tokens multiplied together
/// nor on how rows are sliced. All shapes with the same number of columns are multiplied by one
/// algorithm, the usual one, or by others that are faster and have been seen to give its bits.
class Gemm {
 public:
  /// Device memory that algorithms work with.
  static constexpr std::size_t kWorkspace = std::size_t{4} << 20;

  Gemm();
  ~Gemm();
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  /// False if there is no kernel that adds the bias.
  bool multiply(const GemmProblem& p, const Scratch& workspace, cudaStream_t stream);

  /// While this is on, the algorithms for a shape that is new are tried, which takes milliseconds
  /// and makes the host wait; otherwise it gets the usual one.
  void try_algorithms(bool on) { trying_ = on; }

 private:
  class Description;
  struct Trial;
  using Algorithm = std::optional<cublasLtMatmulAlgo_t>;
  // Columns, output type, bias, workspace.
  using UsualKey = std::tuple<std::size_t, cudaDataType_t, bool, std::size_t>;

  struct Key {
    std::size_t rows, cols, tokens, x_stride, y_stride;
    cudaDataType_t y_type;
    std::uint32_t y_alignment;
    bool bias;
    std::size_t workspace;
    auto operator<=>(const Key&) const = default;
  };

  void call(const GemmProblem& p, Description& d, const cublasLtMatmulAlgo_t& algorithm,
            bool accumulate, const Scratch& workspace, cudaStream_t stream);
  Algorithm usual_or_best(const Key& key, Description& d);
  Algorithm usual_algorithm(const Key& key);
  Algorithm fastest(const Key& key, const GemmProblem& problem, const Scratch& workspace,
                    cudaStream_t stream);
  Trial try_one(const GemmProblem& p, Description& d, const cublasLtMatmulAlgo_t& algorithm,
                const Scratch& workspace, cudaStream_t stream);
  bool works(const cublasLtMatmulAlgo_t& algorithm, Description& d, std::size_t workspace);
  std::vector<cublasLtMatmulAlgo_t> candidates(const Key& key, Description& d);

  cublasLtHandle_t handle_ = nullptr;
  bool trying_ = false;
  std::map<Key, Algorithm> algorithms_;
  std::map<UsualKey, Algorithm> usual_;
};

}  // namespace tensor_pager::kernels::cuda
