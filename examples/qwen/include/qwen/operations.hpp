// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "kernels/attention.hpp"
#include "kernels/matmul.hpp"
#include "kernels/matrix_view.hpp"
#include "kernels/rope.hpp"
#include "kernels/weight_type.hpp"
#include "loaders/model_config.hpp"
#include "pager/device.hpp"
#include "qwen/activation_view.hpp"
#include "qwen/activations.hpp"

namespace tensor_pager::qwen {

/// The operations that a forward pass consists of, on one kind of device. All pointers are the
/// device's, except where `host` is said. Work is queued in stream(), in order; each operation is
/// defined where its CPU version is, in kernels/.
///
/// The residual stream, queries, keys, values and logits are float32. What a product reads, and
/// what the gated products leave, are activations: float32 on the CPU, narrower where products take
/// them so.
class Operations {
 public:
  /// Fills host memory with the bytes of rows.
  using RowReader = std::function<void(std::span<std::byte> rows)>;

  struct MatmulOptions {
    const float* bias = nullptr;  ///< [rows]
    bool accumulate = false;      ///< y += product
    bool any_range = false;       ///< x is the result of swiglu, which may be large
  };

  /// The first of the products below, with a bias alone.
  struct Projection {
    kernels::Weights w;
    kernels::MatrixView y;
    const float* bias = nullptr;
  };
  /// The second.
  struct GatedProjection {
    kernels::Weights w;
    ActivationView y;
    std::size_t first_col = 0;
    const float* bias = nullptr;
  };

  struct NormOptions {
    float epsilon = 0;
    /// What first_not_finite() says if a row of x is not numbers; nothing: nobody looks.
    std::optional<std::uint32_t> stage{};
  };

  Operations() = default;
  virtual ~Operations() = default;
  Operations(const Operations&) = delete;
  Operations& operator=(const Operations&) = delete;

  virtual StreamRef stream() const = 0;
  /// How often the host has waited for queued work so far. Between the first and the last step of
  /// a pass it must not.
  virtual std::uint64_t host_waits() const = 0;

  /// What keys and values are stored as.
  virtual kernels::WeightType cache_type() const = 0;
  /// Memory that activations of this shape take.
  virtual Bytes activation_bytes(std::size_t rows, std::size_t cols) const = 0;
  /// Device memory that the operations of a pass use between themselves; more of it makes larger
  /// products, and `budget`, all the memory of the run, says how much is reasonable. The caller
  /// provides it, so that it counts as part of the run's memory, through begin_passes.
  virtual Bytes scratch_bytes(const loaders::ModelConfig& config, const PassSize& size,
                              std::uint32_t context, Bytes budget) const = 0;
  /// Begins a rehearsal (ForwardPass::rehearse) if first uses take time that it saves, and says
  /// so. Until it ends, operations leave results of no use, also in what they otherwise only read.
  virtual bool begin_rehearsal() = 0;
  virtual void end_rehearsal() = 0;
  /// Passes of this size come next, with this scratch memory: until the next call. Without it, no
  /// operation may be called.
  virtual void begin_passes(const PassSize& size, const DeviceBuffer& scratch) = 0;

  /// Forgets what norms have noted so far. Queued: it is the beginning of a pass.
  virtual void begin_watch() = 0;
  /// The least stage that a norm has noted since, of work that has ended: on a GPU, what download()
  /// has waited for. Costs nothing while there is none.
  virtual std::optional<std::uint32_t> first_not_finite() const = 0;

  /// Prepares rotations for the tokens of a pass, by their positions, until the next call.
  virtual void prepare_positions(const kernels::RopeFrequencies& frequencies,
                                 std::span<const std::size_t> positions) = 0;

  virtual void matmul(const kernels::Weights& w, const ActivationView& x,
                      const kernels::MatrixView& y, const MatmulOptions& options) = 0;
  /// Columns [first_col, first_col + w.rows) of y, which swiglu reads; `bias` [w.rows] may be null.
  virtual void matmul(const kernels::Weights& w, const ActivationView& x, const ActivationView& y,
                      std::size_t first_col, const float* bias) = 0;
  /// Several of either kind with the same x, which may take less time together; with the same bits.
  virtual void matmul(std::span<const Projection> products, const ActivationView& x);
  virtual void matmul(std::span<const GatedProjection> products, const ActivationView& x);
  virtual void rms_norm(const kernels::ConstMatrixView& x, const float* weight,
                        const NormOptions& options, const kernels::MatrixView& out) = 0;
  virtual void rms_norm(const kernels::ConstMatrixView& x, const float* weight,
                        const NormOptions& options, const ActivationView& out) = 0;
  /// The result of a norm, as activations.
  virtual void convert(const kernels::ConstMatrixView& x, const ActivationView& out) = 0;
  /// Rotates queries of tokens [first_token, first_token + rows) of the pass, which may be changed
  /// to the form that attention() reads. Positions must have been prepared, here as in the next
  /// one.
  virtual void rope_queries(const kernels::MatrixView& q, std::size_t heads,
                            std::size_t first_token) = 0;
  /// Rotates keys of `heads` heads, of tokens [first_token, first_token + rows) of the pass, and
  /// puts them and the values into one sequence's cache, at positions [first_position,
  /// first_position + rows). What is left in `keys` is unspecified.
  virtual void store(const kernels::MatrixView& keys, const kernels::ConstMatrixView& values,
                     std::size_t heads, std::size_t first_token, const kernels::KvCacheView& cache,
                     std::size_t first_position) = 0;
  /// Rows [row, row + count) of a matrix of tokens, and where one sequence's cache has them.
  struct CachePlace {
    std::size_t row = 0;
    std::size_t count = 0;
    kernels::KvCacheView cache;
    std::size_t position = 0;  ///< of the first
  };
  /// Both of the above for tokens [first_token, first_token + q.rows), of which each place has
  /// some; may take less time together, with the same bits.
  virtual void rotate_and_store(const kernels::MatrixView& q, std::size_t heads,
                                const kernels::MatrixView& keys, const kernels::MatrixView& values,
                                std::size_t kv_heads, std::size_t first_token,
                                std::span<const CachePlace> places);
  /// Of one sequence, whose queries and results are rows [first_row, first_row + shape.tokens) of q
  /// and out. All of `q` was last changed by one call of rope_queries.
  virtual void attention(const kernels::AttentionShape& shape, const kernels::ConstMatrixView& q,
                         std::size_t first_row, const kernels::KvCacheView& cache,
                         const ActivationView& out) = 0;
  /// Queued: memory of the device that operations work on, from one place to another. They do not
  /// overlap.
  virtual void copy(const std::byte* from, std::byte* to, Bytes size) = 0;
  /// Memory of the device in host memory, once all work queued so far is done.
  virtual void to_host(const std::byte* device, std::span<std::byte> host) = 0;
  /// Host memory, which the caller may change afterwards, in memory of the device: queued.
  virtual void to_device(std::span<const std::byte> host, std::byte* device) = 0;
  /// `out` may be `gate`.
  virtual void swiglu(const ActivationView& gate, const ActivationView& up,
                      const ActivationView& out) = 0;
  virtual void dequantize(kernels::WeightType type, const std::byte* data, float* out,
                          std::size_t elements) = 0;

  /// Rows of a table in host memory to float32, in out [rows, cols] without gaps. `read` is called
  /// once, for the bytes of all rows; `raw` is device memory that is as large, for the way.
  virtual void embed(kernels::WeightType type, const RowReader& read, std::byte* raw,
                     const kernels::MatrixView& out) = 0;
  /// The device matrix in host memory, once all work queued so far is done. Valid until the next
  /// operation.
  virtual kernels::ConstMatrixView download(const kernels::ConstMatrixView& device) = 0;

  /// Rows without gaps, one after another, as they are once all work queued so far is done, in host
  /// memory that the caller may change. It waits for that work, but not for copies of pages that
  /// nothing queued relies on. Valid until the rows were taken back; one loan at a time.
  virtual std::span<float> lend(const kernels::MatrixView& rows) = 0;
  /// Queued: the rows become what the caller made of them. By the same argument as lend.
  virtual void take_back(const kernels::MatrixView& rows) = 0;
};

}  // namespace tensor_pager::qwen
