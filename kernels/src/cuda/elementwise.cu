#include "cuda/launch.hpp"
#include "cuda/shapes.hpp"
#include "kernels/cuda/activation.hpp"
#include "kernels/cuda/kv_cache.hpp"
#include "kernels/cuda/rope.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;
// Rows beyond the grid's second dimension are reached by a stride loop.
constexpr std::size_t kGridRows = 32768;

struct Swiglu {
  __device__ float operator()(float gate, float up) const {
    return gate / (1.0F + expf(-gate)) * up;
  }
};
struct Add {
  __device__ float operator()(float a, float b) const { return a + b; }
};

struct Binary {
  const float* a;
  const float* b;
  float* out;
  std::size_t a_stride, b_stride, out_stride;
  std::size_t rows, cols;
};

template <class Function>
__global__ void __launch_bounds__(kThreads) apply(const Binary p) {
  const std::size_t col = std::size_t{blockIdx.x} * kThreads + threadIdx.x;
  if (col >= p.cols) return;
  for (std::size_t r = blockIdx.y; r < p.rows; r += gridDim.y) {
    p.out[r * p.out_stride + col] =
        Function{}(p.a[r * p.a_stride + col], p.b[r * p.b_stride + col]);
  }
}

// The same, four columns per thread.
template <class Function>
__global__ void __launch_bounds__(kThreads) apply_four(const Binary p) {
  const std::size_t col = (std::size_t{blockIdx.x} * kThreads + threadIdx.x) * 4;
  if (col >= p.cols) return;
  for (std::size_t r = blockIdx.y; r < p.rows; r += gridDim.y) {
    const float4 a = *reinterpret_cast<const float4*>(p.a + r * p.a_stride + col);
    const float4 b = *reinterpret_cast<const float4*>(p.b + r * p.b_stride + col);
    const Function f{};
    const float4 out{f(a.x, b.x), f(a.y, b.y), f(a.z, b.z), f(a.w, b.w)};
    *reinterpret_cast<float4*>(p.out + r * p.out_stride + col) = out;
  }
}

unsigned grid_rows(std::size_t rows) {
  return static_cast<unsigned>(rows < kGridRows ? rows : kGridRows);
}

template <class Function>
void run(const char* what, const ConstMatrixView& a, const ConstMatrixView& b,
         const MatrixView& out, cudaStream_t stream) {
  require_shape(what, a, out.rows, out.cols);
  require_shape(what, b, out.rows, out.cols);
  require_shape(what, out, out.rows, out.cols);
  if (out.rows * out.cols == 0) return;
  const Binary p{a.data, b.data, out.data, a.stride, b.stride, out.stride, out.rows, out.cols};
  if (rows_of_float4(a) && rows_of_float4(b) && rows_of_float4(out)) {
    const dim3 grid(blocks_for(out.cols, 4 * kThreads), grid_rows(out.rows));
    apply_four<Function><<<grid, kThreads, 0, stream>>>(p);
  } else {
    const dim3 grid(blocks_for(out.cols, kThreads), grid_rows(out.rows));
    apply<Function><<<grid, kThreads, 0, stream>>>(p);
  }
  check_launch(what, {out.rows, out.cols});
}

struct Rotation {
  float* x;
  std::size_t stride;
  std::size_t tokens;
  unsigned heads, head_dim, pairs;
  const float* table;  // of the first token's position
};

// One block per token; a warp's threads rotate neighbouring pairs.
__global__ void __launch_bounds__(kThreads) rotate(const Rotation p) {
  for (std::size_t t = blockIdx.x; t < p.tokens; t += gridDim.x) {
    const float* cosines = p.table + t * 2 * p.pairs;
    float* row = p.x + t * p.stride;
    for (unsigned i = threadIdx.x; i < p.heads * p.pairs; i += kThreads) {
      const unsigned head = i / p.pairs;
      const unsigned pair = i - head * p.pairs;
      float* at = row + head * p.head_dim + pair;
      const float a = at[0];
      const float b = at[p.pairs];
      const float cosine = cosines[pair];
      const float sine = cosines[p.pairs + pair];
      // Not fused, as on the CPU.
      at[0] = __fsub_rn(__fmul_rn(a, cosine), __fmul_rn(b, sine));
      at[p.pairs] = __fadd_rn(__fmul_rn(a, sine), __fmul_rn(b, cosine));
    }
  }
}

// One block per token: the row is read as a whole before its beginning is written.
__global__ void __launch_bounds__(kThreads) rotate_to_half(const Rotation p) {
  extern __shared__ __half2 rotated[];
  auto* const halves = reinterpret_cast<__half*>(rotated);
  const unsigned cols = p.heads * p.head_dim;
  for (std::size_t t = blockIdx.x; t < p.tokens; t += gridDim.x) {
    const float* cosines = p.table + t * 2 * p.pairs;
    float* row = p.x + t * p.stride;
    for (unsigned i = threadIdx.x; i < cols; i += kThreads) {
      const unsigned at = i % p.head_dim;
      const unsigned pair = at < p.pairs ? at : at - p.pairs;
      float v = row[i];
      if (pair < p.pairs) {
        const float other = at < p.pairs ? row[i + p.pairs] : row[i - p.pairs];
        const float turned = __fmul_rn(other, cosines[p.pairs + pair]);
        const float kept = __fmul_rn(v, cosines[pair]);
        v = at < p.pairs ? __fsub_rn(kept, turned) : __fadd_rn(turned, kept);
      }
      halves[i] = __float2half_rn(v);
    }
    __syncthreads();
    auto* const out = reinterpret_cast<uint4*>(row);
    for (unsigned i = threadIdx.x; i < cols / 8; i += kThreads) {
      out[i] = reinterpret_cast<const uint4*>(rotated)[i];
    }
    __syncthreads();
  }
}

__global__ void __launch_bounds__(kThreads)
    round_to_half(const float* __restrict__ x, std::size_t x_stride, __half* __restrict__ out,
                  std::size_t stride, std::size_t rows, std::size_t cols) {
  const std::size_t col = (std::size_t{blockIdx.x} * kThreads + threadIdx.x) * 2;
  if (col >= cols) return;
  for (std::size_t r = blockIdx.y; r < rows; r += gridDim.y) {
    const float* from = x + r * x_stride + col;
    __half* to = out + r * stride + col;
    to[0] = __float2half_rn(from[0]);
    if (col + 1 < cols) to[1] = __float2half_rn(from[1]);
  }
}

void require_rotatable(const MatrixView& x, std::size_t heads, std::size_t first_position,
                       const RopeTableView& table) {
  require_shape("cuda rope: x", x, x.rows, x.cols);
  if (heads == 0 || x.cols % heads != 0 || x.cols / heads < 2 * table.pairs) {
    throw Error("cuda rope: rows of " + std::to_string(x.cols) + " do not hold " +
                std::to_string(heads) + " heads of at least " + std::to_string(2 * table.pairs) +
                " rotated dimensions");
  }
  const std::size_t end = table.first_position + table.positions;
  if (first_position < table.first_position || first_position + x.rows > end) {
    throw Error("cuda rope: positions " + std::to_string(first_position) + " to " +
                std::to_string(first_position + x.rows) + " are outside the table's, " +
                std::to_string(table.first_position) + " to " + std::to_string(end));
  }
}

}  // namespace

void swiglu(const ConstMatrixView& gate, const ConstMatrixView& up, const MatrixView& out,
            cudaStream_t stream) {
  run<Swiglu>("cuda swiglu", gate, up, out, stream);
}

void add(const ConstMatrixView& a, const ConstMatrixView& b, const MatrixView& out,
         cudaStream_t stream) {
  run<Add>("cuda add", a, b, out, stream);
}

void rope(const MatrixView& x, std::size_t heads, std::size_t first_position,
          const RopeTableView& table, cudaStream_t stream) {
  require_rotatable(x, heads, first_position, table);
  if (x.rows == 0 || table.pairs == 0) return;
  const Rotation p{x.data,
                   x.stride,
                   x.rows,
                   static_cast<unsigned>(heads),
                   static_cast<unsigned>(x.cols / heads),
                   static_cast<unsigned>(table.pairs),
                   table.values + (first_position - table.first_position) * 2 * table.pairs};
  rotate<<<grid_rows(x.rows), kThreads, 0, stream>>>(p);
  check_launch("rope", {x.rows, x.cols, heads});
}

void rope_to_half(const MatrixView& x, std::size_t heads, std::size_t first_position,
                  const RopeTableView& table, cudaStream_t stream) {
  require_rotatable(x, heads, first_position, table);
  constexpr std::size_t kMostCols = 48 * 1024 / sizeof(__half);
  if (x.cols % 8 != 0 || x.cols > kMostCols || !rows_of_float4(x)) {
    throw Error("cuda rope_to_half: rows of " + std::to_string(x.cols) +
                " must begin at multiples of 16 bytes and be a multiple of 8, at most " +
                std::to_string(kMostCols));
  }
  if (x.rows == 0) return;
  const Rotation p{x.data,
                   x.stride,
                   x.rows,
                   static_cast<unsigned>(heads),
                   static_cast<unsigned>(x.cols / heads),
                   static_cast<unsigned>(table.pairs),
                   table.values + (first_position - table.first_position) * 2 * table.pairs};
  rotate_to_half<<<grid_rows(x.rows), kThreads, x.cols * sizeof(__half), stream>>>(p);
  check_launch("rope_to_half", {x.rows, x.cols, heads});
}

void store_as_half(const ConstMatrixView& x, __half* out, std::size_t stride, cudaStream_t stream) {
  require_shape("cuda store_as_half: x", x, x.rows, x.cols);
  if (stride < x.cols) {
    throw Error("cuda store_as_half: rows of " + std::to_string(x.cols) + " do not fit a stride " +
                std::to_string(stride));
  }
  if (x.rows * x.cols == 0) return;
  const dim3 grid(blocks_for(x.cols, 2 * kThreads), grid_rows(x.rows));
  round_to_half<<<grid, kThreads, 0, stream>>>(x.data, x.stride, out, stride, x.rows, x.cols);
  check_launch("store_as_half", {x.rows, x.cols});
}

}  // namespace tensor_pager::kernels::cuda
