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

/// A matrix of bytes from which the copy engine takes panels of `panel_rows` by `panel_bytes`, both
/// at most 256 and 512, which lie in shared memory row after row, from a multiple of 128 on.
/// Columns of copy_panel() are pairs of bytes. What lies outside of the matrix becomes zeros.
///
/// `data` is at a multiple of 16 bytes; row_bytes and panel_bytes are multiples of 16.
CUtensorMap byte_map(const void* data, std::size_t rows, std::size_t row_bytes,
                     std::size_t panel_bytes, std::size_t panel_rows);

}  // namespace tensor_pager::kernels::cuda
