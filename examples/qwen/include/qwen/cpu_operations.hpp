// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "qwen/operations.hpp"

namespace tensor_pager::qwen {

/// Operations in host memory, run on the calling thread and the TBB threads of its arena: an
/// operation is done when the call returns. For the host device.
class CpuOperations : public Operations {
 public:
  using Operations::matmul;
  StreamRef stream() const override { return {}; }
  std::uint64_t host_waits() const override { return 0; }
  kernels::WeightType cache_type() const override { return kernels::WeightType::f32; }
  Bytes activation_bytes(std::size_t rows, std::size_t cols) const override {
    return {rows * cols * sizeof(float)};
  }
  Bytes scratch_bytes(const loaders::ModelConfig& /*config*/, const PassSize& /*size*/,
                      std::uint32_t /*context*/, Bytes /*budget*/) const override {
    return {};
  }
  bool begin_rehearsal() override { return false; }
  void end_rehearsal() override {}
  void begin_passes(const PassSize& /*size*/, const DeviceBuffer& /*scratch*/) override {}
  void begin_watch() override { not_finite_.reset(); }
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
  /// The rows themselves.
  std::span<float> lend(const kernels::MatrixView& rows) override;
  void take_back(const kernels::MatrixView& /*rows*/) override {}

 private:
  std::optional<kernels::RopeTable> rope_table_;
  std::optional<std::uint32_t> not_finite_;
};

}  // namespace tensor_pager::qwen
