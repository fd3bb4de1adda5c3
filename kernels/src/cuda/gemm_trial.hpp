// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/operand.hpp"

namespace tensor_pager::kernels::cuda {

/// `count` operands, a multiple of 8, become numbers of both signs below 1 in magnitude, always the
/// same ones.
void fill_with_noise(Operand* out, std::size_t count, cudaStream_t stream);

/// A number that tells matrices of words [rows, words] apart: the sum over all words of a mix of
/// their bits and their place. `sum` is eight bytes of device memory. The host waits.
std::uint64_t checksum(const std::uint32_t* data, std::size_t rows, std::size_t words,
                       std::size_t stride, std::uint64_t* sum, cudaStream_t stream);

}  // namespace tensor_pager::kernels::cuda
