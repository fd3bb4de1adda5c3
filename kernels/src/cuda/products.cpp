#include <cublasLt.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "cuda/launch.hpp"
#include "cuda/matvec.hpp"
#include "cuda/operand_rows.hpp"
#include "cuda/shapes.hpp"
#include "kernels/cuda/dequantize.hpp"
#include "kernels/cuda/matmul.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

constexpr std::size_t kAlignment = 256;  // of the parts of the scratch memory
constexpr std::size_t kWorkspace = std::size_t{4} << 20;
constexpr std::size_t kFewestRows = 64;  // multiplied together when the scratch is small
constexpr cudaDataType_t kOperandType = kBfloatOperands ? CUDA_R_16BF : CUDA_R_16F;

// The shape whose best algorithm is used for all shapes with the same number of columns.
constexpr std::size_t kUsualRows = 8192;
constexpr std::size_t kUsualTokens = 2048;

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

void check(cublasStatus_t status, const char* call, std::initializer_list<std::size_t> sizes) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  std::string text = std::string(call) + "(";
  const char* separator = "";
  for (const std::size_t size : sizes) {
    text += separator + std::to_string(size);
    separator = ", ";
  }
  throw Error(text + ") failed: " + cublasLtGetStatusName(status));
}

std::size_t input_bytes(std::size_t cols, std::size_t tokens) {
  return aligned(tokens * sizeof(float)) + aligned(tokens * operand_stride(cols) * sizeof(Operand));
}

std::size_t row_bytes_of(std::size_t cols) {
  return operand_stride(cols) * sizeof(Operand);
}

// How the scratch memory of a product of operands is divided.
struct Parts {
  Scratch workspace;
  Operand* weights;
  std::size_t rows;  // of weights that are multiplied together
};

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

Parts divide(const Scratch& scratch, std::size_t rows, std::size_t cols, std::size_t tokens) {
  const std::size_t row = row_bytes_of(cols);
  require_scratch(scratch, kWorkspace + std::min(rows, kFewestRows) * row, rows, cols, tokens);
  const std::size_t fit = (scratch.bytes - kWorkspace) / row;
  // Pieces of about equal size, in whole tiles.
  const std::size_t pieces = (rows + fit - 1) / fit;
  const std::size_t even = (rows + pieces - 1) / pieces;
  const std::size_t tiles = std::min((even + kFewestRows - 1) / kFewestRows, fit / kFewestRows);
  return {{scratch.data, kWorkspace},
          reinterpret_cast<Operand*>(scratch.data + kWorkspace),
          fit >= rows ? rows : tiles * kFewestRows};
}

// Where a product goes, and as what.
struct Output {
  void* data;
  cudaDataType_t type;
  std::size_t stride;
  float scale = 1.0F;

  explicit Output(const MatrixView& y) : data(y.data), type(CUDA_R_32F), stride(y.stride) {}
  explicit Output(const OperandView& y)
      : data(y.data), type(kOperandType), stride(y.stride), scale(kProductScale) {}

  std::uint32_t alignment() const {
    const std::size_t element = type == CUDA_R_32F ? sizeof(float) : sizeof(Operand);
    const bool whole = (reinterpret_cast<std::uintptr_t>(data) | stride * element) % 16 == 0;
    return whole ? 16U : static_cast<std::uint32_t>(element);
  }
};

// A product as cuBLASLt sees it. Its matrices are column-major, so that the weights are a
// transposed [cols, rows], the inputs [cols, tokens] and the output [rows, tokens].
class Description {
 public:
  Description(std::size_t rows, std::size_t cols, std::size_t tokens, std::size_t x_stride,
              const Output& out, const float* bias) {
    const auto k = static_cast<std::uint64_t>(cols);
    const auto ld = [](std::size_t stride) { return static_cast<std::int64_t>(stride); };
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check(cublasLtMatmulDescInit(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "MatmulDescInit", {});
    set(CUBLASLT_MATMUL_DESC_TRANSA, transposed);
    if (bias != nullptr) {
      const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
      const cudaDataType_t type = CUDA_R_32F;
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    }
    check(cublasLtMatrixLayoutInit(&weights, kOperandType, k, rows, ld(cols)), "MatrixLayoutInit",
          {});
    check(cublasLtMatrixLayoutInit(&x, kOperandType, k, tokens, ld(x_stride)), "MatrixLayoutInit",
          {});
    check(cublasLtMatrixLayoutInit(&y, out.type, rows, tokens, ld(out.stride)), "MatrixLayoutInit",
          {});
  }

  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t weights;
  cublasLtMatrixLayoutOpaque_t x;
  cublasLtMatrixLayoutOpaque_t y;

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check(cublasLtMatmulDescSetAttribute(&operation, attribute, &value, sizeof value),
          "MatmulDescSetAttribute", {});
  }
};

template <class T>
T config(const cublasLtMatmulAlgo_t& algorithm, cublasLtMatmulAlgoConfigAttributes_t attribute) {
  T value{};
  std::size_t written = 0;
  check(cublasLtMatmulAlgoConfigGetAttribute(&algorithm, attribute, &value, sizeof value, &written),
        "AlgoConfigGetAttribute", {});
  return value;
}

// One block sums a product from its first column to its last: nothing is added in an order that
// depends on the shape.
bool sums_in_order(const cublasLtMatmulAlgo_t& algorithm) {
  return config<std::int32_t>(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM) <= 1 &&
         config<std::uint32_t>(algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME) ==
             CUBLASLT_REDUCTION_SCHEME_NONE;
}

}  // namespace

class Products::Library {
 public:
  Library() { check(cublasLtCreate(&handle_), "cublasLtCreate", {}); }
  ~Library() { cublasLtDestroy(handle_); }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  /// False if the library has no kernel that adds this bias.
  bool multiply(const Operand* weights, std::size_t rows, const OperandView& x, const Output& y,
                const MatmulOptions& options, const Scratch& workspace, cudaStream_t stream) {
    const Key key{rows,
                  operand_stride(x.cols),
                  x.rows,
                  x.stride,
                  y.stride,
                  y.type,
                  y.alignment(),
                  options.bias != nullptr,
                  std::min(workspace.bytes, kWorkspace)};
    Description d(rows, key.cols, key.tokens, key.x_stride, y, options.bias);
    const auto found = algorithms_.find(key);
    const std::optional<cublasLtMatmulAlgo_t> algorithm =
        found != algorithms_.end() ? found->second
                                   : algorithms_.emplace(key, choose(key, d)).first->second;
    if (!algorithm) {
      if (options.bias != nullptr) return false;
      throw Error("cuda matmul: cuBLASLt has no algorithm for [" + std::to_string(rows) + ", " +
                  std::to_string(key.cols) + "] and " + std::to_string(key.tokens) + " tokens");
    }
    const float beta = options.accumulate ? 1.0F : 0.0F;
    check(cublasLtMatmul(handle_, &d.operation, &y.scale, weights, &d.weights, x.data, &d.x, &beta,
                         y.data, &d.y, y.data, &d.y, &*algorithm, workspace.data, key.workspace,
                         stream),
          "cublasLtMatmul", {rows, key.cols, key.tokens});
    return true;
  }

 private:
  struct Key {
    std::size_t rows, cols, tokens, x_stride, y_stride;
    cudaDataType_t y_type;
    std::uint32_t y_alignment;
    bool bias;
    std::size_t workspace;
    auto operator<=>(const Key&) const = default;
  };
  using Algorithm = std::optional<cublasLtMatmulAlgo_t>;

  // The algorithm of the usual shape, or if it cannot do this one, the best for this one.
  Algorithm choose(const Key& key, Description& d) {
    if (key.y_alignment == 16) {
      const Algorithm usual = usual_algorithm(key);
      if (usual && works(*usual, d, key.workspace)) return usual;
    }
    return best(key, d);
  }

  Algorithm usual_algorithm(const Key& key) {
    const std::tuple usual{key.cols, key.y_type, key.bias, key.workspace};
    const auto found = usual_.find(usual);
    if (found != usual_.end()) return found->second;
    // The heuristic does not read the bias, but wants an address.
    const float* bias = key.bias ? reinterpret_cast<const float*>(kAlignment) : nullptr;
    Output y(MatrixView{nullptr, kUsualTokens, kUsualRows, kUsualRows});
    y.type = key.y_type;
    Description d(kUsualRows, key.cols, kUsualTokens, key.cols, y, bias);
    return usual_.emplace(usual, best(key, d)).first->second;
  }

  bool works(const cublasLtMatmulAlgo_t& algorithm, Description& d, std::size_t workspace) {
    cublasLtMatmulHeuristicResult_t result{};
    const cublasStatus_t status = cublasLtMatmulAlgoCheck(handle_, &d.operation, &d.weights, &d.x,
                                                          &d.y, &d.y, &algorithm, &result);
    return status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= workspace;
  }

  Algorithm best(const Key& key, Description& d) {
    cublasLtMatmulPreferenceOpaque_t preference;
    check(cublasLtMatmulPreferenceInit(&preference), "MatmulPreferenceInit", {});
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      check(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value),
            "MatmulPreferenceSetAttribute", {});
    };
    const std::uint32_t no_reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, key.workspace);
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, no_reduction);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.y_alignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.y_alignment);
    std::vector<cublasLtMatmulHeuristicResult_t> results(32);
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_, &d.operation, &d.weights, &d.x, &d.y, &d.y, &preference,
        static_cast<int>(results.size()), results.data(), &count);
    if (status != CUBLAS_STATUS_SUCCESS) return std::nullopt;
    for (int i = 0; i < count; ++i) {
      const auto& result = results[static_cast<std::size_t>(i)];
      if (result.state == CUBLAS_STATUS_SUCCESS && sums_in_order(result.algo)) return result.algo;
    }
    return std::nullopt;
  }

  cublasLtHandle_t handle_ = nullptr;
  std::map<Key, Algorithm> algorithms_;
  std::map<std::tuple<std::size_t, cudaDataType_t, bool, std::size_t>, Algorithm> usual_;
};

Products::Products() : library_(std::make_unique<Library>()) {}
Products::~Products() = default;
Products::Products(Products&&) noexcept = default;
Products& Products::operator=(Products&&) noexcept = default;

std::size_t Products::scratch_bytes(std::size_t rows, std::size_t cols, std::size_t tokens) {
  return aligned(input_bytes(cols, tokens) + operand_scratch_bytes(rows, cols));
}

std::size_t Products::operand_scratch_bytes(std::size_t rows, std::size_t cols) {
  return aligned(kWorkspace + rows * row_bytes_of(cols));
}

void Products::multiply(const Operand* weights, std::size_t rows, const OperandView& x,
                        const MatrixView& y, const MatmulOptions& options, const Scratch& workspace,
                        cudaStream_t stream) {
  require_shape("cuda multiply: y", y, x.rows, rows);
  // The library reads a bias sixteen bytes at a time.
  const bool fused =
      options.bias == nullptr || reinterpret_cast<std::uintptr_t>(options.bias) % 16 == 0;
  if (fused && library_->multiply(weights, rows, x, Output(y), options, workspace, stream)) return;
  MatmulOptions without = options;
  without.bias = nullptr;
  library_->multiply(weights, rows, x, Output(y), without, workspace, stream);
  finish_rows(y, nullptr, options.bias, stream);
}

void Products::matmul(const Weights& w, const OperandView& x, const MatrixView& y,
                      const MatmulOptions& options, const Scratch& scratch, cudaStream_t stream) {
  require_operand("cuda matmul: x", x, x.rows, w.cols);
  require_shape("cuda matmul: y", y, x.rows, w.rows);
  if (x.rows == 0 || w.rows == 0) return;
  const Parts parts = divide(scratch, w.rows, w.cols, x.rows);
  if (x.factors != nullptr && options.accumulate) divide_rows(y, x.factors, stream);
  // A bias is added after the rows have been scaled back.
  const float* bias = x.factors == nullptr ? options.bias : nullptr;
  for (std::size_t first = 0; first < w.rows; first += parts.rows) {
    const std::size_t rows = std::min(parts.rows, w.rows - first);
    dequantize_rows(w.slice(first, rows), parts.weights, operand_stride(w.cols), stream);
    multiply(parts.weights, rows, x, {y.data + first, x.rows, rows, y.stride},
             {.bias = bias == nullptr ? nullptr : bias + first, .accumulate = options.accumulate},
             parts.workspace, stream);
  }
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
  const Parts parts = divide(scratch, w.rows, w.cols, x.rows);
  for (std::size_t first = 0; first < w.rows; first += parts.rows) {
    const std::size_t rows = std::min(parts.rows, w.rows - first);
    dequantize_rows(w.slice(first, rows), parts.weights, operand_stride(w.cols), stream);
    library_->multiply(parts.weights, rows, x, Output({y.data + first, x.rows, rows, y.stride}), {},
                       parts.workspace, stream);
  }
}

void Products::matmul(const Weights& w, const ConstMatrixView& x, const MatrixView& y,
                      const MatmulOptions& options, const Scratch& scratch, cudaStream_t stream) {
  require_shape("cuda matmul: x", x, x.rows, w.cols);
  require_shape("cuda matmul: y", y, x.rows, w.rows);
  if (x.rows == 0 || w.rows == 0) return;
  if (x.rows == 1) return matvec(w, x.data, y.data, options.bias, options.accumulate, stream);

  const std::size_t inputs = input_bytes(w.cols, x.rows);
  const std::size_t least =
      inputs + kWorkspace + std::min(w.rows, kFewestRows) * row_bytes_of(w.cols);
  require_scratch(scratch, least, w.rows, w.cols, x.rows);
  OperandView rounded{
      .data = reinterpret_cast<Operand*>(scratch.data + aligned(x.rows * sizeof(float))),
      .rows = x.rows,
      .cols = w.cols};
  if (options.scale_rows) rounded.factors = reinterpret_cast<float*>(scratch.data);
  round_rows(x, rounded, stream);
  matmul(w, rounded, y, options, {scratch.data + inputs, scratch.bytes - inputs}, stream);
}

}  // namespace tensor_pager::kernels::cuda
