// SPDX-License-Identifier: Apache-2.0
#include "cuda/few_tokens.cuh"
#include "cuda/few_tokens.hpp"
#include "cuda/low_bit_formats.cuh"

namespace tensor_pager::kernels::cuda {

bool multiply_few_low_bit(WeightType type, const FewTokens& p, unsigned multiprocessors,
                          cudaStream_t stream) {
  switch (type) {
    case WeightType::iq1_s:
      multiply_units<Iq1S>(p, multiprocessors, stream);
      return true;
    case WeightType::iq1_m:
      multiply_units<Iq1M>(p, multiprocessors, stream);
      return true;
    case WeightType::tq1_0:
      multiply_units<Tq1_0>(p, multiprocessors, stream);
      return true;
    case WeightType::tq2_0:
      multiply_units<Tq2_0>(p, multiprocessors, stream);
      return true;
    case WeightType::mxfp4:
      multiply_units<Mxfp4>(p, multiprocessors, stream);
      return true;
    case WeightType::nvfp4:
      multiply_units<Nvfp4>(p, multiprocessors, stream);
      return true;
    default:
      return false;
  }
}

}  // namespace tensor_pager::kernels::cuda
