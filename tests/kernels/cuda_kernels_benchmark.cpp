// SPDX-License-Identifier: Apache-2.0
// Times the CUDA kernels on matrices of Qwen2.5-32B and prints one table; arguments name the
// kernels (dequantize, products, one_token, attention, elementwise), default all. Operands are
// larger than the second-level cache, or it is overwritten between runs.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kernel_test_data.hpp"
#include "kernels/cuda/activation.hpp"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/dequantize.hpp"
#include "kernels/cuda/kv_cache.hpp"
#include "kernels/cuda/matmul.hpp"
#include "kernels/cuda/norm.hpp"
#include "kernels/cuda/rope.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

constexpr std::size_t kRows = 27648;
constexpr std::size_t kCols = 5120;
constexpr int kRepeats = 7;

void require(cudaError_t status, const char* call) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(status));
  }
}

class DeviceMemory {
 public:
  explicit DeviceMemory(std::size_t bytes) : bytes_(bytes) {
    require(cudaMalloc(&data_, bytes), "cudaMalloc");
    require(cudaMemset(data_, 0, bytes), "cudaMemset");
  }
  ~DeviceMemory() { cudaFree(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  /// Repeats the bytes from the beginning to the end.
  void fill(const void* bytes, std::size_t count) {
    for (std::size_t at = 0; at < bytes_; at += count) {
      require(cudaMemcpy(static_cast<std::byte*>(data_) + at, bytes, std::min(count, bytes_ - at),
                         cudaMemcpyHostToDevice),
              "cudaMemcpy");
    }
  }
  template <class T>
  [[nodiscard]] T* as() const {
    return static_cast<T*>(data_);
  }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
};

class Bench {
 public:
  Bench() : flush_(std::size_t{256} << 20) {
    require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    require(cudaEventCreate(&begin_), "cudaEventCreate");
    require(cudaEventCreate(&end_), "cudaEventCreate");
  }
  ~Bench() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
    cudaStreamDestroy(stream_);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  /// Median seconds, after one run that does not count.
  double seconds(const std::function<void(cudaStream_t)>& run) {
    std::vector<float> milliseconds(kRepeats);
    run(stream_);
    for (float& time : milliseconds) {
      require(cudaMemsetAsync(flush_.as<void>(), 1, flush_.bytes(), stream_), "flush");
      require(cudaEventRecord(begin_, stream_), "cudaEventRecord");
      run(stream_);
      require(cudaEventRecord(end_, stream_), "cudaEventRecord");
      require(cudaEventSynchronize(end_), "a kernel");
      require(cudaEventElapsedTime(&time, begin_, end_), "cudaEventElapsedTime");
    }
    std::sort(milliseconds.begin(), milliseconds.end());
    return static_cast<double>(milliseconds[kRepeats / 2]) / 1e3;
  }

  void bytes(const std::string& what, double count, const std::function<void(cudaStream_t)>& run) {
    const double time = seconds(run);
    std::printf("%-44s %10.1f us %10.1f GB/s\n", what.c_str(), time * 1e6, count / time / 1e9);
  }
  void operations(const std::string& what, double count,
                  const std::function<void(cudaStream_t)>& run) {
    const double time = seconds(run);
    std::printf("%-44s %10.1f us %10.1f TFLOP/s\n", what.c_str(), time * 1e6, count / time / 1e12);
  }

 private:
  DeviceMemory flush_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

std::string sized(const char* what, std::string_view type) {
  return std::string(what) + " " + std::string(type) + " 27648x5120";
}

void fill_normal(DeviceMemory& memory) {
  const auto values = normal_floats(std::size_t{1} << 20, 1);
  memory.fill(values.data(), values.size() * sizeof(float));
}

void fill_blocks(DeviceMemory& memory, WeightType type) {
  const auto blocks = finite_blocks(type, 64, kCols, 1);
  memory.fill(blocks.data(), blocks.size());
}

void dequantize_types(Bench& bench) {
  DeviceMemory out(kRows * kCols * sizeof(float));
  for (const WeightType type : all_weight_types()) {
    const std::size_t size = kRows * row_bytes(type, kCols);
    DeviceMemory weights(size);
    fill_blocks(weights, type);
    const auto elements = static_cast<double>(kRows * kCols);
    bench.bytes(sized("dequantize to f16", name(type)), static_cast<double>(size) + 2 * elements,
                [&](cudaStream_t stream) {
                  dequantize_rows({type, weights.as<std::byte>(), kRows, kCols}, out.as<Operand>(),
                                  kCols, stream);
                });
    if (type != WeightType::q4_k) continue;
    bench.bytes(sized("dequantize to f32", name(type)), static_cast<double>(size) + 4 * elements,
                [&](cudaStream_t stream) {
                  dequantize(type, weights.as<std::byte>(), out.as<float>(), kRows * kCols, stream);
                });
  }
}

void few_tokens(Bench& bench) {
  Products products;
  DeviceMemory x(kMostFewTokens * kRows * sizeof(float));
  DeviceMemory y(kMostFewTokens * kRows * sizeof(float));
  DeviceMemory floats(kMostFewTokens * kRows * sizeof(float));
  fill_normal(floats);
  struct Shape {
    std::size_t rows, cols, tokens;
  };
  const Shape all[] = {{kRows, kCols, 1}, {kRows, kCols, 8}, {kCols, kCols, 1}, {kCols, kRows, 1}};
  for (const WeightType type : all_weight_types()) {
    const std::size_t size = kRows * row_bytes(type, kCols);
    DeviceMemory weights(size);
    fill_blocks(weights, type);
    for (const auto& [rows, cols, tokens] : all) {
      const bool common = type == WeightType::q4_k || type == WeightType::q6_k;
      if (!common && (rows != kRows || tokens != 1)) continue;
      const DigitsView digits{x.as<std::byte>(), tokens, cols};
      split_digits({floats.as<float>(), tokens, cols}, digits, nullptr);
      require(cudaDeviceSynchronize(), "split_digits");
      const std::string what = std::to_string(tokens) + (tokens == 1 ? " token " : " tokens ") +
                               std::string(name(type)) + " " + std::to_string(rows) + "x" +
                               std::to_string(cols);
      bench.bytes(what, static_cast<double>(rows * row_bytes(type, cols)),
                  [&](cudaStream_t stream) {
                    const FewTokensProduct product{{type, weights.as<std::byte>(), rows, cols},
                                                   {y.as<float>(), tokens, rows}};
                    products.matmul({&product, 1}, digits, stream);
                  });
    }
  }
}

void products_of(Bench& bench, std::size_t rows, std::size_t cols, std::size_t tokens) {
  Products products;
  const WeightType type = WeightType::q4_k;
  DeviceMemory weights(rows * row_bytes(type, cols));
  fill_blocks(weights, type);
  DeviceMemory x(tokens * cols * sizeof(float));
  fill_normal(x);
  DeviceMemory y(tokens * rows * sizeof(float));
  DeviceMemory memory(Products::scratch_bytes(rows, cols, tokens));
  DeviceMemory operand_x(tokens * cols * sizeof(Operand));
  DeviceMemory operand_w(rows * cols * sizeof(Operand));
  const auto halves = finite_blocks(WeightType::f16, 1024, 1024, 2);
  operand_x.fill(halves.data(), halves.size());
  operand_w.fill(halves.data(), halves.size());
  const Scratch scratch{memory.as<std::byte>(), memory.bytes()};
  const MatrixView out{y.as<float>(), tokens, rows};
  const double count =
      2.0 * static_cast<double>(rows) * static_cast<double>(cols) * static_cast<double>(tokens);
  const std::string shape =
      std::to_string(rows) + "x" + std::to_string(cols) + ", " + std::to_string(tokens) + " tokens";
  bench.operations("multiply alone " + shape, count, [&](cudaStream_t stream) {
    products.multiply(operand_w.as<Operand>(), rows, {operand_x.as<Operand>(), tokens, cols}, out,
                      {}, scratch, stream);
  });
  bench.operations("matmul Q4_K " + shape, count, [&](cudaStream_t stream) {
    products.matmul({type, weights.as<std::byte>(), rows, cols}, {x.as<float>(), tokens, cols}, out,
                    {}, scratch, stream);
  });
  bench.operations("  += , scale_rows " + shape, count, [&](cudaStream_t stream) {
    products.matmul({type, weights.as<std::byte>(), rows, cols}, {x.as<float>(), tokens, cols}, out,
                    {.accumulate = true, .scale_rows = true}, scratch, stream);
  });
}

// Queries and output as float32, then as halves.
void attention_of(Bench& bench, const AttentionShape& shape) {
  const std::size_t width = shape.heads * shape.head_dim;
  const std::size_t kv_width = shape.kv_heads * shape.head_dim;
  const std::size_t positions = shape.past + shape.tokens;
  DeviceMemory q(shape.tokens * width * sizeof(float));
  DeviceMemory half_q(shape.tokens * width * sizeof(__half));
  DeviceMemory out(shape.tokens * width * sizeof(float));
  DeviceMemory source(positions * kv_width * sizeof(float));
  DeviceMemory keys(positions * kv_width * sizeof(__half));
  DeviceMemory values(positions * kv_width * sizeof(__half));
  fill_normal(q);
  fill_normal(source);
  store_as_half({q.as<float>(), shape.tokens, width}, half_q.as<__half>(), width, nullptr);
  for (const DeviceMemory* cache : {&keys, &values}) {
    store_as_half({source.as<float>(), positions, kv_width}, cache->as<__half>(), kv_width,
                  nullptr);
  }
  require(cudaDeviceSynchronize(), "store_as_half");
  DeviceMemory memory(attention_scratch_bytes(shape, WeightType::f16) + 1);
  const Scratch scratch{memory.as<std::byte>(), memory.bytes()};
  const KvCacheView view{WeightType::f16, keys.as<std::byte>(), values.as<std::byte>(), kv_width};
  const auto run = [&](cudaStream_t stream) {
    attention(shape, ConstMatrixView{q.as<float>(), shape.tokens, width}, view,
              MatrixView{out.as<float>(), shape.tokens, width}, scratch, stream);
  };
  const auto run_halves = [&](cudaStream_t stream) {
    attention(shape, ConstHalfMatrixView{half_q.as<__half>(), shape.tokens, width}, view,
              HalfMatrixView{out.as<__half>(), shape.tokens, width}, scratch, stream);
  };
  const std::string what = std::to_string(shape.tokens) + " after " + std::to_string(shape.past) +
                           ", " + std::to_string(shape.heads) + "/" +
                           std::to_string(shape.kv_heads) + "x" + std::to_string(shape.head_dim);
  if (shape.tokens == 1) {
    bench.bytes("attention " + what, 4.0 * static_cast<double>(positions * kv_width), run);
    return;
  }
  const double seen = static_cast<double>(shape.past) + 0.5 * static_cast<double>(shape.tokens + 1);
  const double count = 4.0 * seen * static_cast<double>(shape.tokens * width);
  bench.operations("attention f32 " + what, count, run);
  bench.operations("attention f16 " + what, count, run_halves);
}

void attention_shapes(Bench& bench) {
  const auto shape = [](std::size_t tokens, std::size_t heads, std::size_t kv_heads,
                        std::size_t head_dim, std::size_t past) {
    return AttentionShape{.tokens = tokens,
                          .heads = heads,
                          .kv_heads = kv_heads,
                          .head_dim = head_dim,
                          .past = past,
                          .scale = 0.1F};
  };
  for (const std::size_t tokens : {512U, 2048U, 8192U, 32768U}) {
    attention_of(bench, shape(tokens, 40, 8, 128, 0));
    attention_of(bench, shape(tokens, 28, 4, 128, 0));
  }
  for (const std::size_t tokens : {2048U, 8192U}) {
    attention_of(bench, shape(tokens, 40, 8, 64, 0));
    attention_of(bench, shape(tokens, 40, 8, 256, 0));
    attention_of(bench, shape(2048, 40, 8, 128, tokens));
  }
  attention_of(bench, shape(512, 40, 8, 128, 7680));
  attention_of(bench, shape(1, 40, 8, 128, 8191));
}

void elementwise(Bench& bench) {
  const std::size_t tokens = 2048;
  DeviceMemory a(tokens * kRows * sizeof(float));
  DeviceMemory b(tokens * kRows * sizeof(float));
  fill_normal(a);
  fill_normal(b);
  const MatrixView gate{a.as<float>(), tokens, kRows};
  const MatrixView up{b.as<float>(), tokens, kRows};
  const auto floats = static_cast<double>(tokens * kRows * sizeof(float));
  bench.bytes("swiglu 2048x27648", 3 * floats,
              [&](cudaStream_t stream) { swiglu(gate, up, gate, stream); });
  const OperandView gate_halves{.data = a.as<Operand>(), .rows = tokens, .cols = kRows};
  const OperandView up_halves{.data = b.as<Operand>(), .rows = tokens, .cols = kRows};
  DeviceMemory factors(tokens * sizeof(float));
  OperandView gated = gate_halves;
  gated.factors = factors.as<float>();
  bench.bytes("swiglu of halves 2048x27648", 1.5 * floats,
              [&](cudaStream_t stream) { swiglu(gate_halves, up_halves, gated, stream); });
  const MatrixView x{a.as<float>(), 8192, kCols};
  const MatrixView normed{b.as<float>(), 8192, kCols};
  bench.bytes("rms_norm 8192x5120", 2.0 * 8192 * kCols * sizeof(float), [&](cudaStream_t stream) {
    rms_norm(x, b.as<float>() + 8192 * kCols, 1e-6F, normed, stream);
  });
  const OperandView halves{.data = b.as<Operand>(), .rows = 8192, .cols = kCols};
  bench.bytes("rms_norm to halves 8192x5120", 1.5 * 8192 * kCols * sizeof(float),
              [&](cudaStream_t stream) {
                rms_norm(x, b.as<float>() + 8192 * kCols, 1e-6F, halves, stream);
              });
  DeviceMemory table(8192 * 128 * sizeof(float));
  const HalfMatrixView within{a.as<__half>(), 8192, kCols, 2 * kCols};
  bench.bytes("rope to halves 8192x5120", 1.5 * 8192 * kCols * sizeof(float),
              [&](cudaStream_t stream) {
                rope_to_half(x, 40, 0, {table.as<float>(), 0, 8192, 64}, within, stream);
              });
  bench.bytes("store as halves 8192x1024", 1.5 * 8192 * 1024 * sizeof(float),
              [&](cudaStream_t stream) {
                store_as_half({a.as<float>(), 8192, 1024}, b.as<__half>(), 1024, stream);
              });
  const MatrixView heads{a.as<float>(), std::size_t{8192} * 40, 128};
  bench.bytes("rms_norm 327680x128", 2.0 * 8192 * kCols * sizeof(float),
              [&](cudaStream_t stream) { rms_norm(heads, b.as<float>(), 1e-6F, heads, stream); });
}

void products(Bench& bench) {
  for (const std::size_t tokens : {16U, 512U, 2048U, 8192U}) {
    products_of(bench, kRows, kCols, tokens);
  }
  products_of(bench, kCols, kRows, 512);
  products_of(bench, kCols, kRows, 2048);
}

// Only the named kernels, or all.
void run(const std::vector<std::string_view>& names) {
  const auto wanted = [&](std::string_view name) {
    return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
  };
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess || devices == 0) {
    throw std::runtime_error(std::string("no CUDA device: ") + cudaGetErrorString(status));
  }
  cudaDeviceProp properties{};
  require(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  std::printf("%s, medians of %d\n", properties.name, kRepeats);
  Bench bench;
  if (wanted("dequantize")) dequantize_types(bench);
  if (wanted("products")) products(bench);
  if (wanted("few_tokens")) few_tokens(bench);
  if (wanted("attention")) attention_shapes(bench);
  if (wanted("elementwise")) elementwise(bench);
}

}  // namespace
}  // namespace tensor_pager::kernels::cuda

int main(int count, char** arguments) {
  try {
    tensor_pager::kernels::cuda::run({arguments + 1, arguments + count});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cuda_kernels_benchmark: %s\n", error.what());
    return 1;
  }
  return 0;
}
