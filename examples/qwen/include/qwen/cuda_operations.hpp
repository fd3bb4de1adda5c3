// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "kernels/cuda/matmul.hpp"
#include "kernels/cuda/norm.hpp"
#include "kernels/cuda/rope.hpp"
#include "qwen/operations.hpp"

namespace tensor_pager::qwen {

/// Operations on an NVIDIA GPU, in a stream of their own; for the CUDA device. Keys and values are
/// halves, and so are activations, unless they are those of few tokens, which are digits: of a pass
/// whose ubatches have at most kernels::cuda::kMostFewTokens, or of a single one. Only
/// download, lend and to_host wait for the stream's work; upload waits at most for earlier uploads,
/// in order to reuse their staging memory.
///
/// Every call comes from the thread that made the object, or from one whose current CUDA device is
/// the same. Throws Error or kernels::Error, which name the call, its sizes and CUDA's reason.
class CudaOperations final : public Operations {
 public:
  explicit CudaOperations(int gpu = 0);

  StreamRef stream() const override;
  std::uint64_t host_waits() const override { return host_waits_; }
  kernels::WeightType cache_type() const override { return kernels::WeightType::f16; }
  Bytes activation_bytes(std::size_t rows, std::size_t cols) const override;
  Bytes scratch_bytes(const loaders::ModelConfig& config, const PassSize& size,
                      std::uint32_t context, Bytes budget) const override;
  bool begin_rehearsal() override;
  void end_rehearsal() override;
  void begin_passes(const PassSize& size, const DeviceBuffer& scratch) override;

  void begin_watch() override;
  std::optional<std::uint32_t> first_not_finite() const override { return not_finite_; }

  void prepare_positions(const kernels::RopeFrequencies& frequencies,
                         std::span<const std::size_t> positions) override;
  void matmul(const kernels::Weights& w, const ActivationView& x, const kernels::MatrixView& y,
              const MatmulOptions& options) override;
  void matmul(const kernels::Weights& w, const ActivationView& x, const ActivationView& y,
              std::size_t first_col, const float* bias) override;
  void matmul(std::span<const Projection> products, const ActivationView& x) override;
  void matmul(std::span<const GatedProjection> products, const ActivationView& x) override;
  void rms_norm(const kernels::ConstMatrixView& x, const float* weight, const NormOptions& options,
                const kernels::MatrixView& out) override;
  void rms_norm(const kernels::ConstMatrixView& x, const float* weight, const NormOptions& options,
                const ActivationView& out) override;
  void convert(const kernels::ConstMatrixView& x, const ActivationView& out) override;
  void rope_queries(const kernels::MatrixView& q, std::size_t heads,
                    std::size_t first_token) override;
  void store(const kernels::MatrixView& keys, const kernels::ConstMatrixView& values,
             std::size_t heads, std::size_t first_token, const kernels::KvCacheView& cache,
             std::size_t first_position) override;
  void rotate_and_store(const kernels::MatrixView& q, std::size_t heads,
                        const kernels::MatrixView& keys, const kernels::MatrixView& values,
                        std::size_t kv_heads, std::size_t first_token,
                        std::span<const CachePlace> places) override;
  void attention(const kernels::AttentionShape& shape, const kernels::ConstMatrixView& q,
                 std::size_t first_row, const kernels::KvCacheView& cache,
                 const ActivationView& out) override;
  void copy(const std::byte* from, std::byte* to, Bytes size) override;
  void to_host(const std::byte* device, std::span<std::byte> host) override;
  void to_device(std::span<const std::byte> host, std::byte* device) override;
  void swiglu(const ActivationView& gate, const ActivationView& up,
              const ActivationView& out) override;
  void dequantize(kernels::WeightType type, const std::byte* data, float* out,
                  std::size_t elements) override;
  void embed(kernels::WeightType type, const RowReader& read, std::byte* raw,
             const kernels::MatrixView& out) override;
  kernels::ConstMatrixView download(const kernels::ConstMatrixView& device) override;
  std::span<float> lend(const kernels::MatrixView& rows) override;
  void take_back(const kernels::MatrixView& rows) override;

 private:
  class LentRow;
  class Stream;
  class Staging;
  class WatchedWord;

  bool are_digits(std::size_t rows) const;
  kernels::cuda::NotFinite noting(const NormOptions& options) const;
  void upload(const RowReader& read, std::size_t bytes, std::byte* device);

  // Shared pointers, since they can be destroyed where the types are not complete.
  std::shared_ptr<Stream> stream_;
  std::array<std::shared_ptr<Staging>, 2> uploads_;
  std::shared_ptr<Staging> downloads_;
  std::shared_ptr<LentRow> lent_;
  std::shared_ptr<WatchedWord> watched_;     // what norms note
  std::optional<std::uint32_t> not_finite_;  // of it, when the host last waited
  std::size_t next_upload_ = 0;
  std::uint64_t host_waits_ = 0;
  bool few_tokens_ = false;  // in the ubatches of these passes
  kernels::cuda::Products products_;
  kernels::cuda::Scratch memory_;            // all of it: the table of positions, then the scratch
  kernels::cuda::Scratch scratch_;           // of products and attention
  kernels::cuda::RopeTableView rope_table_;  // by token of the pass
  std::vector<std::size_t> positions_;       // of rope_table_
  kernels::RopeFrequencies frequencies_;     // likewise
};

}  // namespace tensor_pager::qwen
