// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/cuda/half_matrix.hpp"
#include "kernels/export.hpp"
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
TENSOR_PAGER_EXPORT void rope(const MatrixView& x, std::size_t heads, std::size_t first_position,
                              const RopeTableView& table, cudaStream_t stream);

/// The same, rounded to halves: queries for attention, or keys into the cache. Row t of out may
/// begin where row t of x does. head_dim is a multiple of 8 and the table's pairs of 4; rows have
/// at most 32768 columns, those of x begin at multiples of 16 bytes, those of out of 8.
TENSOR_PAGER_EXPORT void rope_to_half(const ConstMatrixView& x, std::size_t heads,
                                      std::size_t first_position, const RopeTableView& table,
                                      const HalfMatrixView& out, cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
