// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>
#include <cuda_fp16.h>

#include <cstddef>

namespace tensor_pager::kernels::cuda {

/// Columns of halves that a panel in shared memory has: 128 bytes, as many as can be swizzled.
inline constexpr int kPanelColumns = 64;

/// A matrix in global memory from which the copy engine takes panels of `panel_rows` (at most 256)
/// by kPanelColumns halves. In shared memory a panel's rows are 128 bytes long and swizzled, so it
/// has to begin at a multiple of 1024. What lies outside of the matrix becomes zeros.
///
/// `data` is at a multiple of 16 bytes, `stride` a multiple of 8 elements. Throws Error if the
/// driver has no tensor maps or refuses this one.
CUtensorMap panel_map(const __half* data, std::size_t rows, std::size_t cols, std::size_t stride,
                      int panel_rows);

}  // namespace tensor_pager::kernels::cuda
