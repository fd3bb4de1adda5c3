// SPDX-License-Identifier: Apache-2.0
#include "cuda/few_tokens.cuh"
#include "cuda/few_tokens.hpp"

namespace tensor_pager::kernels::cuda {

bool multiply_few_blocks_of_32(WeightType type, const FewTokens& p, unsigned multiprocessors,
                               cudaStream_t stream) {
  switch (type) {
    case WeightType::q4_0:
      multiply_units<Q4_0>(p, multiprocessors, stream);
      return true;
    case WeightType::q4_1:
      multiply_units<Q4_1>(p, multiprocessors, stream);
      return true;
    case WeightType::q5_0:
      multiply_units<Q5_0>(p, multiprocessors, stream);
      return true;
    case WeightType::q5_1:
      multiply_units<Q5_1>(p, multiprocessors, stream);
      return true;
    case WeightType::q8_0:
      multiply_units<Q8_0>(p, multiprocessors, stream);
      return true;
    case WeightType::iq4_nl:
      multiply_units<Iq4Nl>(p, multiprocessors, stream);
      return true;
    default:
      return false;
  }
}

}  // namespace tensor_pager::kernels::cuda
