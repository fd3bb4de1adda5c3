// SPDX-License-Identifier: Apache-2.0
#include "cuda/gemm.hpp"

#include <algorithm>
#include <string>

#include "cuda/event.hpp"
#include "cuda/gemm_trial.hpp"
#include "cuda/launch.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

constexpr cudaDataType_t kOperandType = kBfloatOperands ? CUDA_R_16BF : CUDA_R_16F;

// The shape whose best algorithm is the usual one for its number of columns.
constexpr std::size_t kUsualRows = 8192;
constexpr std::size_t kUsualTokens = 2048;
// Products of fewer tokens are bound by the weights' way here, whatever the algorithm.
constexpr std::size_t kFewTokens = 64;
// A trial is timed for about this many operations: half a millisecond of the fastest GPUs.
constexpr double kTrialOperations = 4e11;
// Another algorithm must be this much faster than the usual one. Trials are short, in a device that
// is cool; the usual algorithm, of large tiles, is the last to be throttled.
constexpr float kWorthwhile = 0.97F;

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

GemmOutput::GemmOutput(const MatrixView& y, const float* bias_of_y, bool add_to_y)
    : data(y.data), type(CUDA_R_32F), stride(y.stride), bias(bias_of_y), accumulate(add_to_y) {}

GemmOutput::GemmOutput(const OperandView& y)
    : data(y.data), type(kOperandType), stride(y.stride), scale(kProductScale) {}

std::size_t GemmOutput::element() const {
  return type == CUDA_R_32F ? sizeof(float) : sizeof(Operand);
}

std::uint32_t GemmOutput::alignment() const {
  const bool whole = (reinterpret_cast<std::uintptr_t>(data) | stride * element()) % 16 == 0;
  return whole ? 16U : static_cast<std::uint32_t>(element());
}

// A product as cuBLASLt sees it. Its matrices are column-major, so that the weights are a
// transposed [cols, rows], the inputs [cols, tokens] and the output [rows, tokens].
class Gemm::Description {
 public:
  Description(const Key& key, const float* bias) {
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
    check(cublasLtMatrixLayoutInit(&weights, kOperandType, key.cols, key.rows, ld(key.cols)),
          "MatrixLayoutInit", {});
    check(cublasLtMatrixLayoutInit(&x, kOperandType, key.cols, key.tokens, ld(key.x_stride)),
          "MatrixLayoutInit", {});
    check(cublasLtMatrixLayoutInit(&y, key.y_type, key.rows, key.tokens, ld(key.y_stride)),
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

struct Gemm::Trial {
  std::uint64_t bits;  // checksum of the product
  float milliseconds;
};

Gemm::Gemm() {
  check(cublasLtCreate(&handle_), "cublasLtCreate", {});
}

Gemm::~Gemm() {
  cublasLtDestroy(handle_);
}

bool Gemm::multiply(const GemmProblem& p, const Scratch& workspace, cudaStream_t stream) {
  const Key key{p.rows,
                operand_stride(p.x.cols),
                p.x.rows,
                p.x.stride,
                p.y.stride,
                p.y.type,
                p.y.alignment(),
                p.y.bias != nullptr,
                std::min(workspace.bytes, kWorkspace)};
  Description d(key, p.y.bias);
  auto found = algorithms_.find(key);
  if (found == algorithms_.end()) {
    const bool worthwhile = trying_ && key.tokens >= kFewTokens && key.y_alignment == 16;
    const Algorithm chosen =
        worthwhile ? fastest(key, p, workspace, stream) : usual_or_best(key, d);
    found = algorithms_.emplace(key, chosen).first;
  }
  if (found->second) {
    call(p, d, *found->second, p.y.accumulate, workspace, stream);
    return true;
  }
  if (key.bias) return false;
  throw Error("cuda matmul: cuBLASLt has no algorithm for [" + std::to_string(key.rows) + ", " +
              std::to_string(key.cols) + "] and " + std::to_string(key.tokens) + " tokens");
}

void Gemm::call(const GemmProblem& p, Description& d, const cublasLtMatmulAlgo_t& algorithm,
                bool accumulate, const Scratch& workspace, cudaStream_t stream) {
  const float beta = accumulate ? 1.0F : 0.0F;
  check(cublasLtMatmul(handle_, &d.operation, &p.y.scale, p.weights, &d.weights, p.x.data, &d.x,
                       &beta, p.y.data, &d.y, p.y.data, &d.y, &algorithm, workspace.data,
                       std::min(workspace.bytes, kWorkspace), stream),
        "cublasLtMatmul", {p.rows, p.x.cols, p.x.rows});
}

// The algorithm of the usual shape, or if it cannot do this one, the best for this one.
Gemm::Algorithm Gemm::usual_or_best(const Key& key, Description& d) {
  if (key.y_alignment == 16) {
    const Algorithm usual = usual_algorithm(key);
    if (usual && works(*usual, d, key.workspace)) return usual;
  }
  const auto found = candidates(key, d);
  return found.empty() ? std::nullopt : Algorithm(found.front());
}

Gemm::Algorithm Gemm::usual_algorithm(const Key& key) {
  const UsualKey usual{key.cols, key.y_type, key.bias, key.workspace};
  const auto found = usual_.find(usual);
  if (found != usual_.end()) return found->second;
  const Key shape{kUsualRows, key.cols,        kUsualTokens, key.cols,     kUsualRows,
                  key.y_type, key.y_alignment, key.bias,     key.workspace};
  // The heuristic does not read the bias, but wants an address.
  alignas(256) static constexpr float kAnywhere = 0;
  Description d(shape, key.bias ? &kAnywhere : nullptr);
  const auto best = candidates(shape, d);
  return usual_.emplace(usual, best.empty() ? std::nullopt : Algorithm(best.front())).first->second;
}

// The fastest of those that give the bits of the usual algorithm. The problem's operands are noise.
Gemm::Algorithm Gemm::fastest(const Key& key, const GemmProblem& problem, const Scratch& workspace,
                              cudaStream_t stream) {
  GemmProblem p = problem;
  // What would be read as a bias may be anything, even not a number.
  if (key.bias) p.y.bias = reinterpret_cast<const float*>(p.x.data);
  Description d(key, p.y.bias);
  Algorithm best = usual_or_best(key, d);
  if (!best) return best;
  const Trial usual = try_one(p, d, *best, workspace, stream);
  float least = usual.milliseconds * kWorthwhile;
  for (const cublasLtMatmulAlgo_t& candidate : candidates(key, d)) {
    const Trial trial = try_one(p, d, candidate, workspace, stream);
    if (trial.bits != usual.bits || trial.milliseconds >= least) continue;
    least = trial.milliseconds;
    best = candidate;
  }
  return best;
}

Gemm::Trial Gemm::try_one(const GemmProblem& p, Description& d,
                          const cublasLtMatmulAlgo_t& algorithm, const Scratch& workspace,
                          cudaStream_t stream) {
  const double operations = 2.0 * static_cast<double>(p.rows) * static_cast<double>(p.x.cols) *
                            static_cast<double>(p.x.rows);
  const int repeats = std::clamp(static_cast<int>(kTrialOperations / operations), 1, 8);
  Event begin;
  Event end;
  call(p, d, algorithm, false, workspace, stream);  // the first call loads the kernel
  const std::size_t elements = sizeof(std::uint32_t) / p.y.element();  // in a word
  const std::uint64_t bits =
      checksum(static_cast<const std::uint32_t*>(p.y.data), p.x.rows, p.rows / elements,
               p.y.stride / elements, reinterpret_cast<std::uint64_t*>(workspace.data), stream);
  begin.record(stream);
  for (int i = 0; i < repeats; ++i) call(p, d, algorithm, false, workspace, stream);
  end.record(stream);
  return {bits, end.since(begin) / static_cast<float>(repeats)};
}

bool Gemm::works(const cublasLtMatmulAlgo_t& algorithm, Description& d, std::size_t workspace) {
  cublasLtMatmulHeuristicResult_t result{};
  const cublasStatus_t status = cublasLtMatmulAlgoCheck(handle_, &d.operation, &d.weights, &d.x,
                                                        &d.y, &d.y, &algorithm, &result);
  return status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= workspace;
}

// Those that the library recommends for the shape, best first.
std::vector<cublasLtMatmulAlgo_t> Gemm::candidates(const Key& key, Description& d) {
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
  std::vector<cublasLtMatmulAlgo_t> found;
  if (status != CUBLAS_STATUS_SUCCESS) return found;
  for (int i = 0; i < count; ++i) {
    const auto& result = results[static_cast<std::size_t>(i)];
    if (result.state == CUBLAS_STATUS_SUCCESS && sums_in_order(result.algo)) {
      found.push_back(result.algo);
    }
  }
  return found;
}

}  // namespace tensor_pager::kernels::cuda
