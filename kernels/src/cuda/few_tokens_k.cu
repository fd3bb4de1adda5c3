// SPDX-License-Identifier: Apache-2.0
#include "cuda/few_tokens.cuh"
#include "cuda/few_tokens.hpp"

namespace tensor_pager::kernels::cuda {

bool multiply_few_k(WeightType type, const FewTokens& p, unsigned multiprocessors,
                    cudaStream_t stream) {
  switch (type) {
    case WeightType::q2_k:
      multiply_units<Q2K>(p, multiprocessors, stream);
      return true;
    case WeightType::q3_k:
      multiply_units<Q3K>(p, multiprocessors, stream);
      return true;
    case WeightType::q4_k:
      multiply_units<Q4K>(p, multiprocessors, stream);
      return true;
    case WeightType::q5_k:
      multiply_units<Q5K>(p, multiprocessors, stream);
      return true;
    case WeightType::q6_k:
      multiply_units<Q6K>(p, multiprocessors, stream);
      return true;
    case WeightType::iq4_xs:
      multiply_units<Iq4Xs>(p, multiprocessors, stream);
      return true;
    default:
      return false;
  }
}

}  // namespace tensor_pager::kernels::cuda
