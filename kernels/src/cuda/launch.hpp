// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <initializer_list>
#include <string>

#include "kernels/error.hpp"

namespace tensor_pager::kernels::cuda {

/// Throws Error with the call's name, its sizes and CUDA's reason unless `status` is success.
inline void check(cudaError_t status, const char* call, std::initializer_list<std::size_t> sizes) {
  if (status == cudaSuccess) return;
  std::string text = std::string("cuda ") + call + "(";
  const char* separator = "";
  for (const std::size_t size : sizes) {
    text += separator + std::to_string(size);
    separator = ", ";
  }
  throw Error(text + ") failed: " + cudaGetErrorString(status));
}

/// The same for the kernel that this thread has launched last.
inline void check_launch(const char* kernel, std::initializer_list<std::size_t> sizes) {
  check(cudaGetLastError(), kernel, sizes);
}

/// Blocks of `per_block` threads (or items) for all of `items`.
constexpr unsigned blocks_for(std::size_t items, std::size_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

}  // namespace tensor_pager::kernels::cuda
