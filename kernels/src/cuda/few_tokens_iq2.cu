// SPDX-License-Identifier: Apache-2.0
#include "cuda/few_tokens.cuh"
#include "cuda/few_tokens.hpp"
#include "cuda/low_bit_formats.cuh"

namespace tensor_pager::kernels::cuda {

bool multiply_few_iq2(WeightType type, const FewTokens& p, unsigned multiprocessors,
                      cudaStream_t stream) {
  switch (type) {
    case WeightType::iq2_xxs:
      multiply_units<Iq2Xxs>(p, multiprocessors, stream);
      return true;
    case WeightType::iq2_xs:
      multiply_units<Iq2Xs>(p, multiprocessors, stream);
      return true;
    case WeightType::iq2_s:
      multiply_units<Iq2S>(p, multiprocessors, stream);
      return true;
    case WeightType::iq3_xxs:
      multiply_units<Iq3Xxs>(p, multiprocessors, stream);
      return true;
    case WeightType::iq3_s:
      multiply_units<Iq3S>(p, multiprocessors, stream);
      return true;
    default:
      return false;
  }
}

}  // namespace tensor_pager::kernels::cuda
