// SPDX-License-Identifier: Apache-2.0
#include "cuda/tensor_map.hpp"

#include <cudaTypedefs.h>

#include <string>

#include "cuda/launch.hpp"

namespace tensor_pager::kernels::cuda {
namespace {

// Looked up at run time: a program that links libcuda would not start without a driver.
PFN_cuTensorMapEncodeTiled_v12000 find_encoder() {
  void* address = nullptr;
  cudaDriverEntryPointQueryResult found{};
  check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &address, 12000,
                                         cudaEnableDefault, &found),
        "cudaGetDriverEntryPointByVersion", {});
  if (found != cudaDriverEntryPointSuccess) {
    throw Error("the CUDA driver has no cuTensorMapEncodeTiled; update it to one for CUDA 12");
  }
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(address);
}

}  // namespace

CUtensorMap panel_map(const __half* data, std::size_t rows, std::size_t cols, std::size_t stride,
                      int panel_rows) {
  static const PFN_cuTensorMapEncodeTiled_v12000 encode = find_encoder();
  const cuuint64_t sizes[] = {cols, rows};
  const cuuint64_t strides[] = {stride * sizeof(__half)};  // in bytes, but for the innermost
  const cuuint32_t box[] = {kPanelColumns, static_cast<cuuint32_t>(panel_rows)};
  const cuuint32_t steps[] = {1, 1};
  CUtensorMap map{};
  const CUresult status =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2, const_cast<__half*>(data), sizes, strides,
             box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw Error("cuTensorMapEncodeTiled(" + std::to_string(rows) + " x " + std::to_string(cols) +
                " halves, stride " + std::to_string(stride) + ", panels of " +
                std::to_string(panel_rows) + " rows) failed: error " + std::to_string(status));
  }
  return map;
}

CUtensorMap byte_map(const void* data, std::size_t rows, std::size_t row_bytes,
                     std::size_t panel_bytes, std::size_t panel_rows) {
  static const PFN_cuTensorMapEncodeTiled_v12000 encode = find_encoder();
  const cuuint64_t sizes[] = {row_bytes / 2, rows};
  const cuuint64_t strides[] = {row_bytes};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(panel_bytes / 2),
                            static_cast<cuuint32_t>(panel_rows)};
  const cuuint32_t steps[] = {1, 1};
  CUtensorMap map{};
  const CUresult status =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 2, const_cast<void*>(data), sizes, strides, box,
             steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
             CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status == CUDA_SUCCESS) return map;
  throw Error("cuTensorMapEncodeTiled(" + std::to_string(rows) + " rows of " +
              std::to_string(row_bytes) + " bytes, panels of " + std::to_string(panel_rows) +
              " x " + std::to_string(panel_bytes) + ") failed: error " + std::to_string(status));
}

}  // namespace tensor_pager::kernels::cuda
