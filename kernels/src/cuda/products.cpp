#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "cuda/event.hpp"
#include "cuda/gemm.hpp"
#include "cuda/gemm_trial.hpp"
#include "cuda/launch.hpp"
#include "cuda/matvec.hpp"
#include "cuda/operand_rows.hpp"
#include "cuda/shapes.hpp"
#include "kernels/cuda/dequantize.hpp"
#include "kernels/cuda/matmul.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

constexpr std::size_t kAlignment = 256;  // of the parts of the scratch memory
constexpr std::size_t kFewestRows = 64;  // multiplied together when the scratch is small

// A product of more weights than this is cut, so that the next piece can be rounded beside the
// product of one, ...
constexpr std::size_t kPieceWeights = std::size_t{32} << 20;
// ... if it leaves each piece results enough to occupy the device.
constexpr std::size_t kPieceResults = std::size_t{5} << 20;

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
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
  std::array<Operand*, 2> weights;  // the same twice if there is no room for two
  std::size_t rows;                 // of weights that are multiplied together
};

Parts divide(const Scratch& scratch, std::size_t rows, std::size_t cols, std::size_t tokens) {
  const std::size_t row = row_bytes_of(cols);
  require_scratch(scratch, Gemm::kWorkspace + std::min(rows, kFewestRows) * row, rows, cols,
                  tokens);
  std::byte* const first = scratch.data + Gemm::kWorkspace;
  const std::size_t room = scratch.bytes - Gemm::kWorkspace;
  const std::size_t half = room / 2 / kAlignment * kAlignment;
  const bool two = half / row >= std::min(rows, kFewestRows);
  const std::size_t fit = (two ? half : room) / row;
  // Pieces of about equal size, in whole tiles.
  const std::size_t useful = std::min(rows * cols / kPieceWeights, rows * tokens / kPieceResults);
  const std::size_t pieces = std::max((rows + fit - 1) / fit, std::max<std::size_t>(useful, 1));
  const std::size_t even = (rows + pieces - 1) / pieces;
  const std::size_t tiles = std::min((even + kFewestRows - 1) / kFewestRows, fit / kFewestRows);
  return {
      {scratch.data, Gemm::kWorkspace},
      {reinterpret_cast<Operand*>(first), reinterpret_cast<Operand*>(two ? first + half : first)},
      pieces == 1 ? rows : tiles * kFewestRows};
}

// Rounds weights in a stream of its own, a piece ahead of the products that read them in another.
class RoundingStream {
 public:
  RoundingStream() {
    int least = 0;
    int greatest = 0;
    check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "DeviceGetStreamPriorityRange", {});
    // Before a product's next blocks, since the next product waits for it.
    check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest),
          "StreamCreateWithPriority", {});
  }
  ~RoundingStream() {
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
  }
  RoundingStream(const RoundingStream&) = delete;
  RoundingStream& operator=(const RoundingStream&) = delete;

  /// What is rounded from now on is read once the work queued in `products` so far is done.
  void follow(cudaStream_t products) {
    followed_.record(products);
    followed_.hold(stream_);
  }

  /// Rounds w to one of the parts' places, and returns which; products in `products` find it there.
  std::size_t round(const Weights& w, const Parts& parts, cudaStream_t products) {
    const std::size_t place = next_;
    next_ = 1 - next_;
    multiplied_[place].hold(stream_);
    if (parts.weights[0] == parts.weights[1]) multiplied_[1 - place].hold(stream_);
    dequantize_rows(w, parts.weights[place], operand_stride(w.cols), stream_);
    rounded_.record(stream_);
    rounded_.hold(products);
    return place;
  }
  /// What was rounded to that place is not needed once the work queued so far is done.
  void release(std::size_t place, const Parts& parts, cudaStream_t products) {
    multiplied_[place].record(products);
    if (parts.weights[0] == parts.weights[1]) multiplied_[1 - place].record(products);
  }

 private:
  cudaStream_t stream_ = nullptr;
  Event followed_;
  Event rounded_;
  std::array<Event, 2> multiplied_;
  std::size_t next_ = 0;
};

}  // namespace

class Products::Pipeline {
 public:
  /// multiply(weights, first row, rows) for all of w, in pieces.
  template <class Multiply>
  void run(const Weights& w, const OperandView& x, const Scratch& scratch, cudaStream_t stream,
           const Multiply& multiply) {
    const Parts parts = divide(scratch, w.rows, w.cols, x.rows);
    if (!ahead) rounding.follow(stream);
    if (rehearsing) fill_with_noise(x.data, x.rows * x.stride, stream);
    for (std::size_t first = 0; first < w.rows; first += parts.rows) {
      const std::size_t rows = std::min(parts.rows, w.rows - first);
      const std::size_t place = rounding.round(w.slice(first, rows), parts, stream);
      Operand* weights = parts.weights[place];
      if (rehearsing) fill_with_noise(weights, rows * operand_stride(w.cols), stream);
      multiply(weights, first, rows, parts.workspace);
      rounding.release(place, parts, stream);
    }
  }

  /// The product of operands; a bias that the library cannot add is added afterwards.
  void multiply(const Operand* weights, std::size_t rows, const OperandView& x, const MatrixView& y,
                const MatmulOptions& options, const Scratch& workspace, cudaStream_t stream) {
    // The library reads a bias sixteen bytes at a time.
    const bool fused =
        options.bias == nullptr || reinterpret_cast<std::uintptr_t>(options.bias) % 16 == 0;
    const GemmOutput whole(y, options.bias, options.accumulate);
    if (fused && gemm.multiply({weights, rows, x, whole}, workspace, stream)) return;
    const GemmOutput without(y, nullptr, options.accumulate);
    gemm.multiply({weights, rows, x, without}, workspace, stream);
    finish_rows(y, nullptr, options.bias, stream);
  }

  Gemm gemm;
  RoundingStream rounding;
  bool ahead = false;  // follow has been called for the weights of the next products
  bool rehearsing = false;
};

Products::Products() : pipeline_(std::make_unique<Pipeline>()) {}
Products::~Products() = default;
Products::Products(Products&&) noexcept = default;
Products& Products::operator=(Products&&) noexcept = default;

std::size_t Products::scratch_bytes(std::size_t rows, std::size_t cols, std::size_t tokens) {
  return aligned(input_bytes(cols, tokens) + operand_scratch_bytes(rows, cols));
}

std::size_t Products::operand_scratch_bytes(std::size_t rows, std::size_t cols) {
  return aligned(Gemm::kWorkspace + rows * row_bytes_of(cols));
}

void Products::weights_arrive(cudaStream_t stream) {
  pipeline_->rounding.follow(stream);
  pipeline_->ahead = true;
}

void Products::rehearse(bool on) {
  pipeline_->rehearsing = on;
  pipeline_->gemm.try_algorithms(on);
}

void Products::multiply(const Operand* weights, std::size_t rows, const OperandView& x,
                        const MatrixView& y, const MatmulOptions& options, const Scratch& workspace,
                        cudaStream_t stream) {
  require_shape("cuda multiply: y", y, x.rows, rows);
  pipeline_->multiply(weights, rows, x, y, options, workspace, stream);
}

void Products::matmul(const Weights& w, const OperandView& x, const MatrixView& y,
                      const MatmulOptions& options, const Scratch& scratch, cudaStream_t stream) {
  require_operand("cuda matmul: x", x, x.rows, w.cols);
  require_shape("cuda matmul: y", y, x.rows, w.rows);
  if (x.rows == 0 || w.rows == 0) return;
  if (x.factors != nullptr && options.accumulate) divide_rows(y, x.factors, stream);
  // A bias is added after the rows have been scaled back.
  const float* bias = x.factors == nullptr ? options.bias : nullptr;
  pipeline_->run(
      w, x, scratch, stream,
      [&](const Operand* weights, std::size_t first, std::size_t rows, const Scratch& workspace) {
        pipeline_->multiply(
            weights, rows, x, {y.data + first, x.rows, rows, y.stride},
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
  pipeline_->run(
      w, x, scratch, stream,
      [&](const Operand* weights, std::size_t first, std::size_t rows, const Scratch& workspace) {
        const GemmOutput out(OperandView{y.data + first, x.rows, rows, y.stride});
        pipeline_->gemm.multiply({weights, rows, x, out}, workspace, stream);
      });
}

void Products::matmul(const Weights& w, const ConstMatrixView& x, const MatrixView& y,
                      const MatmulOptions& options, const Scratch& scratch, cudaStream_t stream) {
  require_shape("cuda matmul: x", x, x.rows, w.cols);
  require_shape("cuda matmul: y", y, x.rows, w.rows);
  if (x.rows == 0 || w.rows == 0) return;
  if (x.rows == 1) return matvec(w, x.data, y.data, options.bias, options.accumulate, stream);

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

}  // namespace tensor_pager::kernels::cuda
