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

std::size_t padded(std::size_t cols) {
  return (cols + 7) / 8 * 8;
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

// How the scratch memory of one product is divided.
struct Parts {
  std::byte* workspace;
  float* factors;
  Operand* x;
  Operand* weights;
  std::size_t rows;  // of weights that fit
};

std::size_t input_bytes(std::size_t cols, std::size_t tokens) {
  return kWorkspace + aligned(tokens * sizeof(float)) +
         aligned(tokens * padded(cols) * sizeof(Operand));
}

Parts divide(const Scratch& scratch, std::size_t rows, std::size_t cols, std::size_t tokens) {
  const std::size_t inputs = input_bytes(cols, tokens);
  const std::size_t row = padded(cols) * sizeof(Operand);
  const std::size_t least = inputs + std::min(rows, kFewestRows) * row;
  if (scratch.bytes < least || reinterpret_cast<std::uintptr_t>(scratch.data) % kAlignment != 0) {
    throw Error("cuda matmul: [" + std::to_string(rows) + ", " + std::to_string(cols) + "] for " +
                std::to_string(tokens) + " tokens needs at least " + std::to_string(least) +
                " bytes of scratch memory at a multiple of 256, but has " +
                std::to_string(scratch.bytes));
  }
  Parts parts{};
  parts.workspace = scratch.data;
  parts.factors = reinterpret_cast<float*>(scratch.data + kWorkspace);
  std::byte* x = scratch.data + kWorkspace + aligned(tokens * sizeof(float));
  parts.x = reinterpret_cast<Operand*>(x);
  parts.weights = reinterpret_cast<Operand*>(scratch.data + inputs);
  const std::size_t fit = (scratch.bytes - inputs) / row;
  parts.rows = fit >= rows ? rows : fit / kFewestRows * kFewestRows;
  return parts;
}

// A product as cuBLASLt sees it. Its matrices are column-major, so that the weights are a
// transposed [cols, rows], the inputs [cols, tokens] and the output [rows, tokens].
class Description {
 public:
  Description(std::size_t rows, std::size_t cols, std::size_t tokens, std::size_t y_stride,
              const float* bias) {
    const auto k = static_cast<std::uint64_t>(cols);
    const auto ld = static_cast<std::int64_t>(cols);
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
    check(cublasLtMatrixLayoutInit(&weights, kOperandType, k, rows, ld), "MatrixLayoutInit", {});
    check(cublasLtMatrixLayoutInit(&x, kOperandType, k, tokens, ld), "MatrixLayoutInit", {});
    check(
        cublasLtMatrixLayoutInit(&y, CUDA_R_32F, rows, tokens, static_cast<std::int64_t>(y_stride)),
        "MatrixLayoutInit", {});
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
  bool multiply(const RoundedProduct& p, const MatrixView& y, const float* bias, bool accumulate,
                const Scratch& workspace, cudaStream_t stream) {
    Description d(p.rows, p.cols, p.tokens, y.stride, bias);
    const auto address = reinterpret_cast<std::uintptr_t>(y.data);
    const Key key{p.rows,
                  p.cols,
                  p.tokens,
                  y.stride,
                  (address | y.stride * sizeof(float)) % 16 == 0 ? 16U : 4U,
                  bias != nullptr,
                  std::min(workspace.bytes, kWorkspace)};
    const auto found = algorithms_.find(key);
    const std::optional<cublasLtMatmulAlgo_t> algorithm =
        found != algorithms_.end() ? found->second
                                   : algorithms_.emplace(key, choose(key, d)).first->second;
    if (!algorithm) {
      if (bias != nullptr) return false;
      throw Error("cuda matmul: cuBLASLt has no algorithm for [" + std::to_string(p.rows) + ", " +
                  std::to_string(p.cols) + "] and " + std::to_string(p.tokens) + " tokens");
    }
    const float one = 1.0F;
    const float beta = accumulate ? 1.0F : 0.0F;
    check(
        cublasLtMatmul(handle_, &d.operation, &one, p.weights, &d.weights, p.x, &d.x, &beta, y.data,
                       &d.y, y.data, &d.y, &*algorithm, workspace.data, key.workspace, stream),
        "cublasLtMatmul", {p.rows, p.cols, p.tokens});
    return true;
  }

 private:
  struct Key {
    std::size_t rows, cols, tokens, y_stride;
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
    const std::tuple usual{key.cols, key.bias, key.workspace};
    const auto found = usual_.find(usual);
    if (found != usual_.end()) return found->second;
    // The heuristic does not read the bias, but wants an address.
    const float* bias = key.bias ? reinterpret_cast<const float*>(kAlignment) : nullptr;
    Description d(kUsualRows, key.cols, kUsualTokens, kUsualRows, bias);
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
  std::map<std::tuple<std::size_t, bool, std::size_t>, Algorithm> usual_;
};

Products::Products() : library_(std::make_unique<Library>()) {}
Products::~Products() = default;
Products::Products(Products&&) noexcept = default;
Products& Products::operator=(Products&&) noexcept = default;

std::size_t Products::scratch_bytes(std::size_t rows, std::size_t cols, std::size_t tokens) {
  return aligned(input_bytes(cols, tokens) + rows * padded(cols) * sizeof(Operand));
}

void Products::multiply(const RoundedProduct& product, const MatrixView& y,
                        const MatmulOptions& options, const Scratch& workspace,
                        cudaStream_t stream) {
  require_shape("cuda multiply: y", y, product.tokens, product.rows);
  // The library reads a bias sixteen bytes at a time.
  const bool fused =
      options.bias == nullptr || reinterpret_cast<std::uintptr_t>(options.bias) % 16 == 0;
  if (fused &&
      library_->multiply(product, y, options.bias, options.accumulate, workspace, stream)) {
    return;
  }
  library_->multiply(product, y, nullptr, options.accumulate, workspace, stream);
  finish_rows(y, nullptr, options.bias, stream);
}

void Products::matmul(const Weights& w, const ConstMatrixView& x, const MatrixView& y,
                      const MatmulOptions& options, const Scratch& scratch, cudaStream_t stream) {
  require_shape("cuda matmul: x", x, x.rows, w.cols);
  require_shape("cuda matmul: y", y, x.rows, w.rows);
  if (x.rows == 0 || w.rows == 0) return;
  if (x.rows == 1) return matvec(w, x.data, y.data, options.bias, options.accumulate, stream);

  const std::size_t tokens = x.rows;
  const std::size_t cols = padded(w.cols);
  const Parts parts = divide(scratch, w.rows, w.cols, tokens);
  float* factors = options.scale_rows ? parts.factors : nullptr;
  round_rows(x, parts.x, cols, factors, stream);
  if (factors != nullptr && options.accumulate) divide_rows(y, factors, stream);
  // A bias is added after the rows have been scaled back.
  const float* bias = factors == nullptr ? options.bias : nullptr;
  for (std::size_t first = 0; first < w.rows; first += parts.rows) {
    const std::size_t rows = std::min(parts.rows, w.rows - first);
    dequantize_rows(w.slice(first, rows), parts.weights, cols, stream);
    multiply({rows, cols, tokens, parts.weights, parts.x}, {y.data + first, tokens, rows, y.stride},
             {.bias = bias == nullptr ? nullptr : bias + first, .accumulate = options.accumulate},
             {parts.workspace, kWorkspace}, stream);
  }
  if (factors != nullptr) finish_rows(y, factors, options.bias, stream);
}

}  // namespace tensor_pager::kernels::cuda
