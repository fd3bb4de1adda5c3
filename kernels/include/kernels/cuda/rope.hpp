#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/matrix_view.hpp"

namespace tensor_pager::kernels::cuda {

/// A kernels::RopeTable in device memory: per position the cosines [pairs], then the sines.
struct RopeTableView {
  const float* values = nullptr;
  std::size_t first_position = 0;
  std::size_t positions = 0;
  std::size_t pairs = 0;
};

/// As cpu::rope, with the same bits: rotates x [tokens, heads * head_dim] in place. Throws Error if
/// the table lacks a position, the shapes do not agree or the launch fails.
void rope(const MatrixView& x, std::size_t heads, std::size_t first_position,
          const RopeTableView& table, cudaStream_t stream);

/// The same, rounded to halves: row t of the result is at the beginning of row t of x, so its
/// stride is twice that of x. Rows are a multiple of 8, at most 24576, and begin at multiples of 16
/// bytes.
void rope_to_half(const MatrixView& x, std::size_t heads, std::size_t first_position,
                  const RopeTableView& table, cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
