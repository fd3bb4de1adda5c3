// SPDX-License-Identifier: Apache-2.0
#include "qwen/cuda_operations.hpp"

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "kernels/cuda/activation.hpp"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/dequantize.hpp"
#include "kernels/cuda/digits.hpp"
#include "kernels/cuda/handover.hpp"
#include "kernels/cuda/kv_cache.hpp"
#include "kernels/cuda/norm.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

constexpr std::size_t kAlignment = 256;
// Rounded weights of one product take at most the larger of these, which is about what a large
// matrix has; larger products are done in pieces.
constexpr std::size_t kRoundedWeights = std::size_t{64} << 20;
constexpr std::uint64_t kRoundedShare = 16;  // a sixteenth of the budget

void check(cudaError_t status, const char* call, std::size_t bytes) {
  if (status == cudaSuccess) return;
  throw Error(fmt::format("{} of {} bytes failed: {}", call, bytes, cudaGetErrorString(status)));
}

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

std::size_t table_bytes(std::size_t positions, std::size_t pairs) {
  return aligned(positions * 2 * pairs * sizeof(float));
}

cudaStream_t cuda(StreamRef stream) {
  return static_cast<cudaStream_t>(stream.handle);
}

// Activations of many tokens: halves, then a factor for each row.
std::size_t halves_bytes(std::size_t rows, std::size_t cols) {
  return aligned(rows * kernels::cuda::operand_stride(cols) * sizeof(kernels::cuda::Operand));
}

kernels::cuda::OperandView operand(const ActivationView& a) {
  return {
      .data = reinterpret_cast<kernels::cuda::Operand*>(a.data), .rows = a.rows, .cols = a.cols};
}

kernels::cuda::OperandView with_factors(const ActivationView& a) {
  kernels::cuda::OperandView view = operand(a);
  view.factors = reinterpret_cast<float*>(a.data + halves_bytes(a.rows, a.cols));
  return view;
}

// Queries of many tokens, once they are halves.
kernels::cuda::HalfMatrixView halves_within(const kernels::ConstMatrixView& q) {
  return {reinterpret_cast<__half*>(const_cast<float*>(q.data)), q.rows, q.cols, 2 * q.stride};
}

// Activations of few tokens: what products take are digits; what they leave for swiglu are floats
// in the same places.
kernels::cuda::DigitsView digits(const ActivationView& a) {
  return {a.data, a.rows, a.cols};
}
kernels::MatrixView floats(const ActivationView& a) {
  return {reinterpret_cast<float*>(a.data), a.rows, a.cols, kernels::cuda::digits_stride(a.cols)};
}
kernels::MatrixView columns(const kernels::MatrixView& m, std::size_t first, std::size_t count) {
  return {m.data + first, m.rows, count, m.stride};
}
ActivationView rows_of_digits(const ActivationView& a, std::size_t first, std::size_t count) {
  return {a.data + first * kernels::cuda::digits_stride(a.cols) * sizeof(float), count, a.cols};
}

std::size_t digits_bytes(std::size_t rows, std::size_t cols) {
  return aligned(rows * kernels::cuda::digits_stride(cols) * sizeof(float));
}

void require_halves(const kernels::KvCacheView& cache) {
  if (cache.type == kernels::WeightType::f16) return;
  throw Error(fmt::format("the GPU stores keys and values as {}, but the cache is {}",
                          kernels::name(kernels::WeightType::f16), kernels::name(cache.type)));
}

bool is_few(const PassSize& size) {
  return size.ubatch <= kernels::cuda::kMostFewTokens;
}

}  // namespace

class CudaOperations::Stream {
 public:
  explicit Stream(int gpu) {
    check(cudaSetDevice(gpu), "cudaSetDevice", 0);
    check(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "cudaStreamCreate", 0);
  }
  ~Stream() { cudaStreamDestroy(handle_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t handle() const { return handle_; }

 private:
  cudaStream_t handle_ = nullptr;
};

/// Pinned memory that a copy reads or writes while the host goes on.
class CudaOperations::Staging {
 public:
  Staging() {
    check(cudaEventCreateWithFlags(&used_, cudaEventDisableTiming), "cudaEventCreate", 0);
  }
  ~Staging() {
    cudaEventSynchronize(used_);
    cudaFreeHost(data_);
    cudaEventDestroy(used_);
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// Memory of this size, once no copy uses it any more. `waits` counts if that takes time.
  std::byte* claim(std::size_t bytes, std::uint64_t& waits) {
    if (cudaEventQuery(used_) == cudaErrorNotReady) {
      ++waits;
      check(cudaEventSynchronize(used_), "cudaEventSynchronize", 0);
    }
    if (bytes > size_) {
      cudaFreeHost(data_);
      data_ = nullptr;
      size_ = 0;
      void* data = nullptr;
      check(cudaMallocHost(&data, bytes), "cudaMallocHost", bytes);
      data_ = static_cast<std::byte*>(data);
      size_ = bytes;
    }
    return data_;
  }
  /// In use until the stream's work so far is done.
  void release(cudaStream_t stream) { check(cudaEventRecord(used_, stream), "cudaEventRecord", 0); }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  cudaEvent_t used_ = nullptr;
};

/// The stage at which something was not finite, in host memory that the GPU writes: it does so when
/// a run has gone wrong, and otherwise nothing crosses the link for it.
class CudaOperations::WatchedWord {
 public:
  explicit WatchedWord(std::shared_ptr<Stream> stream) : stream_(std::move(stream)) {
    void* word = nullptr;
    check(cudaHostAlloc(&word, sizeof(unsigned), cudaHostAllocMapped), "cudaHostAlloc",
          sizeof(unsigned));
    word_ = static_cast<unsigned*>(word);
    *word_ = kNone;
  }
  // After a pass that failed, norms may still be queued that write.
  ~WatchedWord() {
    cudaStreamSynchronize(stream_->handle());
    cudaFreeHost(word_);
  }
  WatchedWord(const WatchedWord&) = delete;
  WatchedWord& operator=(const WatchedWord&) = delete;

  /// In the stream's order.
  void reset() {
    check(cudaMemsetAsync(word_, 0xff, sizeof(unsigned), stream_->handle()), "cudaMemsetAsync",
          sizeof(unsigned));
  }
  /// Where the GPU writes: addresses are unified.
  unsigned* address() const { return word_; }
  /// Once the host has waited for the stream.
  std::optional<std::uint32_t> value() const {
    const unsigned value = *static_cast<const volatile unsigned*>(word_);
    return value == kNone ? std::nullopt : std::optional<std::uint32_t>(value);
  }

 private:
  static constexpr unsigned kNone = ~0U;
  std::shared_ptr<Stream> stream_;
  unsigned* word_ = nullptr;
};

/// A row in host memory that both the GPU and the host read and write, in turn.
class CudaOperations::LentRow {
 public:
  explicit LentRow(std::shared_ptr<Stream> stream) : stream_(std::move(stream)) {
    void* flag = nullptr;
    check(cudaHostAlloc(&flag, sizeof(unsigned), cudaHostAllocMapped), "cudaHostAlloc",
          sizeof(unsigned));
    flag_ = static_cast<unsigned*>(flag);
    *flag_ = 0;
  }
  // After a pass that failed, kernels may still be queued that use it.
  ~LentRow() {
    cudaStreamSynchronize(stream_->handle());
    cudaFreeHost(row_);
    cudaFreeHost(flag_);
  }
  LentRow(const LentRow&) = delete;
  LentRow& operator=(const LentRow&) = delete;

  std::span<float> fetch(const float* device, std::size_t count) {
    reserve(count);
    ++ticket_;
    kernels::cuda::write_to_host(device, row_, count, flag_, ticket_, stream_->handle());
    wait();
    return {row_, count};
  }
  void put(float* device, std::size_t count) const {
    kernels::cuda::read_from_host(row_, device, count, stream_->handle());
  }

 private:
  void reserve(std::size_t count) {
    if (count <= size_) return;
    check(cudaStreamSynchronize(stream_->handle()), "cudaStreamSynchronize", 0);
    cudaFreeHost(row_);
    row_ = nullptr;
    size_ = 0;
    void* row = nullptr;
    const std::size_t bytes = count * sizeof(float);
    check(cudaHostAlloc(&row, bytes, cudaHostAllocMapped), "cudaHostAlloc", bytes);
    row_ = static_cast<float*>(row);
    size_ = count;
  }

  bool has_come() const {
    return std::atomic_ref<unsigned>(*flag_).load(std::memory_order_acquire) == ticket_;
  }

  // The flag comes within a microsecond of the write; a call to the driver takes longer, so that is
  // asked only now and then whether the work has failed.
  void wait() const {
    constexpr int kLooks = 4096;
    for (;;) {
      for (int i = 0; i < kLooks; ++i) {
        if (has_come()) return;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
      }
      const cudaError_t status = cudaStreamQuery(stream_->handle());
      if (status == cudaErrorNotReady) continue;
      check(status, "work on the GPU, before a row was lent", size_ * sizeof(float));
      if (has_come()) return;
      throw Error("work on the GPU has ended, but the row that it was to lend has not come");
    }
  }

  std::shared_ptr<Stream> stream_;
  unsigned* flag_ = nullptr;
  float* row_ = nullptr;
  std::size_t size_ = 0;  // floats
  unsigned ticket_ = 0;
};

CudaOperations::CudaOperations(int gpu)
    : stream_(std::make_shared<Stream>(gpu)),
      uploads_{std::make_shared<Staging>(), std::make_shared<Staging>()},
      downloads_(std::make_shared<Staging>()),
      lent_(std::make_shared<LentRow>(stream_)),
      watched_(std::make_shared<WatchedWord>(stream_)) {}

StreamRef CudaOperations::stream() const {
  return {stream_->handle()};
}

// In either form: a few tokens may be what is left over of a long pass. More rows never take less.
Bytes CudaOperations::activation_bytes(std::size_t rows, std::size_t cols) const {
  const std::size_t few = std::min(rows, kernels::cuda::kMostFewTokens);
  const std::size_t halves = halves_bytes(rows, cols) + aligned(rows * sizeof(float));
  return {std::max(digits_bytes(few, cols), halves)};
}

// That a pass decides, and not an ubatch, keeps the bits of a prompt's last tokens those of others,
// however it is cut. (A single token left over has no other kernel.)
bool CudaOperations::are_digits(std::size_t rows) const {
  return few_tokens_ || rows == 1;
}

Bytes CudaOperations::scratch_bytes(const loaders::ModelConfig& config, const PassSize& size,
                                    std::uint32_t context, Bytes budget) const {
  const std::size_t embedding = config.embedding_length;
  const std::size_t rounded = std::max<std::size_t>(kRoundedWeights, budget.count / kRoundedShare);
  const auto product = [&](std::size_t rows, std::size_t cols) -> std::size_t {
    if (is_few(size) || cols == 0) return 0;
    const std::size_t fit = std::max<std::size_t>(rounded / (2 * cols), 64);
    return kernels::cuda::Products::operand_scratch_bytes(std::min(rows, fit), cols);
  };
  std::size_t most = size.wanted == 1 ? 0 : product(config.vocab_size, embedding);
  for (const loaders::LayerConfig& layer : config.layers) {
    const std::size_t width = std::size_t{layer.head_count} * config.key_length;
    const std::size_t feed_forward = layer.feed_forward_length;
    // One token of an ubatch may be left over, and goes the way of generation.
    const kernels::AttentionShape one{.tokens = 1,
                                      .heads = layer.head_count,
                                      .kv_heads = layer.head_count_kv,
                                      .head_dim = config.key_length,
                                      .past = std::max<std::size_t>(context, 1) - 1};
    most = std::max({most, product(std::max(width, feed_forward), embedding),
                     product(embedding, width), product(embedding, feed_forward),
                     kernels::cuda::attention_scratch_bytes(one, cache_type())});
  }
  return {table_bytes(size.tokens, config.rope_dimension_count / 2) + aligned(most)};
}

bool CudaOperations::begin_rehearsal() {
  products_.rehearse(true);
  return true;
}

void CudaOperations::end_rehearsal() {
  products_.rehearse(false);
}

void CudaOperations::begin_passes(const PassSize& size, const DeviceBuffer& scratch) {
  few_tokens_ = is_few(size);
  memory_ = {scratch.data(), scratch.size().count};
  scratch_ = {};
  rope_table_ = {};
}

void CudaOperations::begin_watch() {
  watched_->reset();
  not_finite_.reset();
}

void CudaOperations::prepare_positions(const kernels::RopeFrequencies& frequencies,
                                       std::span<const std::size_t> positions) {
  const bool prepared = rope_table_.values != nullptr && frequencies_ == frequencies &&
                        std::ranges::equal(positions_, positions);
  if (prepared) return;  // by the rehearsal, or the pass before
  const std::size_t count = positions.size();
  const kernels::RopeTable table(frequencies, positions);
  const std::size_t bytes = table_bytes(count, table.pairs());
  if (memory_.bytes < bytes) {
    throw Error(fmt::format("{} positions need {} bytes of scratch memory, but there are {}", count,
                            bytes, memory_.bytes));
  }
  const std::size_t width = 2 * table.pairs();
  auto* values = reinterpret_cast<float*>(memory_.data);
  const auto copy = [&](std::span<std::byte> rows) {
    std::ranges::copy(std::as_bytes(std::span(table.at(0), count * width)), rows.begin());
  };
  if (count > 0) upload(copy, count * width * sizeof(float), memory_.data);
  rope_table_ = {values, 0, count, table.pairs()};
  positions_.assign(positions.begin(), positions.end());
  frequencies_ = frequencies;
  scratch_ = {memory_.data + bytes, memory_.bytes - bytes};
}

void CudaOperations::matmul(const kernels::Weights& w, const ActivationView& x,
                            const kernels::MatrixView& y, const MatmulOptions& options) {
  const kernels::cuda::MatmulOptions cuda_options{.bias = options.bias,
                                                  .accumulate = options.accumulate};
  if (are_digits(x.rows)) {
    const kernels::cuda::FewTokensProduct product{w, y, options.bias, options.accumulate};
    products_.matmul({&product, 1}, digits(x), cuda(stream()));
  } else {
    products_.matmul(w, options.any_range ? with_factors(x) : operand(x), y, cuda_options, scratch_,
                     cuda(stream()));
  }
}

void CudaOperations::matmul(const kernels::Weights& w, const ActivationView& x,
                            const ActivationView& y, std::size_t first_col, const float* bias) {
  if (are_digits(x.rows)) {
    const kernels::cuda::FewTokensProduct product{w, columns(floats(y), first_col, w.rows), bias};
    products_.matmul({&product, 1}, digits(x), cuda(stream()));
    return;
  }
  kernels::cuda::OperandView columns = operand(y);
  columns.data += first_col;
  columns.cols = w.rows;
  products_.matmul(w, operand(x), columns, scratch_, cuda(stream()));
  if (bias != nullptr) kernels::cuda::add_bias(columns, bias, cuda(stream()));
}

void CudaOperations::matmul(std::span<const Projection> products, const ActivationView& x) {
  if (!are_digits(x.rows)) return Operations::matmul(products, x);
  std::vector<kernels::cuda::FewTokensProduct> together;
  for (const Projection& product : products) {
    together.push_back({product.w, product.y, product.bias});
  }
  products_.matmul(together, digits(x), cuda(stream()));
}

void CudaOperations::matmul(std::span<const GatedProjection> products, const ActivationView& x) {
  if (!are_digits(x.rows)) return Operations::matmul(products, x);
  std::vector<kernels::cuda::FewTokensProduct> together;
  for (const GatedProjection& product : products) {
    together.push_back(
        {product.w, columns(floats(product.y), product.first_col, product.w.rows), product.bias});
  }
  products_.matmul(together, digits(x), cuda(stream()));
}

void CudaOperations::rms_norm(const kernels::ConstMatrixView& x, const float* weight,
                              const NormOptions& options, const kernels::MatrixView& out) {
  kernels::cuda::rms_norm(x, weight, options.epsilon, out, cuda(stream()), noting(options));
}

void CudaOperations::rms_norm(const kernels::ConstMatrixView& x, const float* weight,
                              const NormOptions& options, const ActivationView& out) {
  if (are_digits(out.rows)) {
    kernels::cuda::rms_norm(x, weight, options.epsilon, digits(out), cuda(stream()),
                            noting(options));
  } else {
    kernels::cuda::rms_norm(x, weight, options.epsilon, operand(out), cuda(stream()),
                            noting(options));
  }
}

kernels::cuda::NotFinite CudaOperations::noting(const NormOptions& options) const {
  if (!options.stage) return {};
  return {watched_->address(), *options.stage};
}

void CudaOperations::convert(const kernels::ConstMatrixView& x, const ActivationView& out) {
  if (are_digits(out.rows)) {
    kernels::cuda::split_digits(x, digits(out), cuda(stream()));
  } else {
    kernels::cuda::round_rows(x, operand(out), cuda(stream()));
  }
}

// Queries of many tokens become halves, at the beginning of their rows.
void CudaOperations::rope_queries(const kernels::MatrixView& q, std::size_t heads,
                                  std::size_t first_token) {
  if (are_digits(q.rows)) {
    kernels::cuda::rope(q, heads, first_token, rope_table_, cuda(stream()));
  } else {
    kernels::cuda::rope_to_half(q, heads, first_token, rope_table_, halves_within(q),
                                cuda(stream()));
  }
}

void CudaOperations::store(const kernels::MatrixView& keys, const kernels::ConstMatrixView& values,
                           std::size_t heads, std::size_t first_token,
                           const kernels::KvCacheView& cache, std::size_t first_position) {
  require_halves(cache);
  const auto rows_in = [&](const std::byte* matrix) -> kernels::cuda::HalfMatrixView {
    auto* const first = reinterpret_cast<__half*>(const_cast<std::byte*>(matrix));
    return {first + first_position * cache.position_stride, keys.rows, keys.cols,
            cache.position_stride};
  };
  kernels::cuda::store_keys_and_values(keys, values, heads, first_token, rope_table_,
                                       rows_in(cache.keys), rows_in(cache.values), cuda(stream()));
}

void CudaOperations::rotate_and_store(const kernels::MatrixView& q, std::size_t heads,
                                      const kernels::MatrixView& keys,
                                      const kernels::MatrixView& values, std::size_t kv_heads,
                                      std::size_t first_token, std::span<const CachePlace> places) {
  if (!are_digits(q.rows)) {
    return Operations::rotate_and_store(q, heads, keys, values, kv_heads, first_token, places);
  }
  std::vector<kernels::cuda::CacheRow> rows(q.rows);
  for (const CachePlace& place : places) {
    require_halves(place.cache);
    const auto at = [&](const std::byte* matrix, std::size_t row) {
      return reinterpret_cast<__half*>(const_cast<std::byte*>(matrix)) +
             (place.position + row) * place.cache.position_stride;
    };
    for (std::size_t i = 0; i < place.count; ++i) {
      rows[place.row + i] = {at(place.cache.keys, i), at(place.cache.values, i)};
    }
  }
  kernels::cuda::rotate_and_store(q, heads, keys, values, kv_heads, first_token, rope_table_, rows,
                                  cuda(stream()));
}

// The form of queries and results is that of all rows, also where a sequence has one of them.
void CudaOperations::attention(const kernels::AttentionShape& shape,
                               const kernels::ConstMatrixView& q, std::size_t first_row,
                               const kernels::KvCacheView& cache, const ActivationView& out) {
  if (are_digits(out.rows)) {
    const ActivationView result = rows_of_digits(out, first_row, shape.tokens);
    const kernels::ConstMatrixView queries{q.row(first_row), shape.tokens, q.cols, q.stride};
    kernels::cuda::attention(shape, queries, cache, digits(result), scratch_, cuda(stream()));
    return;
  }
  const kernels::cuda::HalfMatrixView queries = halves_within(q);
  const kernels::cuda::OperandView result = operand(out);
  kernels::cuda::attention(
      shape,
      kernels::cuda::ConstHalfMatrixView{queries.data + first_row * queries.stride, shape.tokens,
                                         queries.cols, queries.stride},
      cache,
      kernels::cuda::HalfMatrixView{result.data + first_row * result.stride, shape.tokens,
                                    result.cols, result.stride},
      scratch_, cuda(stream()));
}

void CudaOperations::copy(const std::byte* from, std::byte* to, Bytes size) {
  check(cudaMemcpyAsync(to, from, size.count, cudaMemcpyDeviceToDevice, cuda(stream())),
        "cudaMemcpyAsync within the device", size.count);
}

void CudaOperations::to_host(const std::byte* device, std::span<std::byte> host) {
  check(cudaMemcpyAsync(host.data(), device, host.size(), cudaMemcpyDeviceToHost, cuda(stream())),
        "cudaMemcpyAsync to the host", host.size());
  ++host_waits_;
  check(cudaStreamSynchronize(cuda(stream())), "work on the GPU, before a copy", host.size());
}

void CudaOperations::to_device(std::span<const std::byte> host, std::byte* device) {
  upload([&](std::span<std::byte> staged) { std::ranges::copy(host, staged.begin()); }, host.size(),
         device);
}

void CudaOperations::swiglu(const ActivationView& gate, const ActivationView& up,
                            const ActivationView& out) {
  if (are_digits(out.rows)) {
    kernels::cuda::swiglu(floats(gate), floats(up), digits(out), cuda(stream()));
  } else {
    kernels::cuda::swiglu(operand(gate), operand(up), with_factors(out), cuda(stream()));
  }
}

void CudaOperations::dequantize(kernels::WeightType type, const std::byte* data, float* out,
                                std::size_t elements) {
  kernels::cuda::dequantize(type, data, out, elements, cuda(stream()));
}

void CudaOperations::embed(kernels::WeightType type, const RowReader& read, std::byte* raw,
                           const kernels::MatrixView& out) {
  upload(read, out.rows * kernels::row_bytes(type, out.cols), raw);
  kernels::cuda::dequantize(type, raw, out.data, out.rows * out.cols, cuda(stream()));
}

void CudaOperations::upload(const RowReader& read, std::size_t bytes, std::byte* device) {
  Staging& staging = *uploads_[next_upload_];
  next_upload_ = (next_upload_ + 1) % uploads_.size();
  std::byte* const rows = staging.claim(bytes, host_waits_);
  read({rows, bytes});
  check(cudaMemcpyAsync(device, rows, bytes, cudaMemcpyHostToDevice, cuda(stream())),
        "cudaMemcpyAsync to the device", bytes);
  staging.release(cuda(stream()));
}

kernels::ConstMatrixView CudaOperations::download(const kernels::ConstMatrixView& device) {
  const std::size_t row = device.cols * sizeof(float);
  auto* const rows = reinterpret_cast<float*>(downloads_->claim(device.rows * row, host_waits_));
  check(cudaMemcpy2DAsync(rows, row, device.data, device.stride * sizeof(float), row, device.rows,
                          cudaMemcpyDeviceToHost, cuda(stream())),
        "cudaMemcpy2DAsync to the host", row * device.rows);
  ++host_waits_;
  check(cudaStreamSynchronize(cuda(stream())), "work on the GPU, before a copy", row * device.rows);
  not_finite_ = watched_->value();
  return {rows, device.rows, device.cols, device.cols};
}

std::span<float> CudaOperations::lend(const kernels::MatrixView& rows) {
  ++host_waits_;
  const std::span<float> lent = lent_->fetch(rows.data, rows.rows * rows.cols);
  not_finite_ = watched_->value();
  return lent;
}

void CudaOperations::take_back(const kernels::MatrixView& rows) {
  lent_->put(rows.data, rows.rows * rows.cols);
}

}  // namespace tensor_pager::qwen
