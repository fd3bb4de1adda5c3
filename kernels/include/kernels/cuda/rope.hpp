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

}  // namespace tensor_pager::kernels::cuda
