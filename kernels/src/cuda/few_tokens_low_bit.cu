// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "cuda/few_tokens.cuh"
#include "cuda/low_bit.hpp"
#include "cuda/low_bit_formats.cuh"

namespace tensor_pager::kernels::cuda {

void multiply_few_low_bit(WeightType type, const FewTokens& p, unsigned multiprocessors,
                          cudaStream_t stream) {
  switch (type) {
    case WeightType::iq2_xxs:
      return multiply_units<Iq2Xxs>(p, multiprocessors, stream);
    case WeightType::iq2_xs:
      return multiply_units<Iq2Xs>(p, multiprocessors, stream);
    case WeightType::iq2_s:
      return multiply_units<Iq2S>(p, multiprocessors, stream);
    case WeightType::iq3_xxs:
      return multiply_units<Iq3Xxs>(p, multiprocessors, stream);
    case WeightType::iq3_s:
      return multiply_units<Iq3S>(p, multiprocessors, stream);
    case WeightType::iq1_s:
      return multiply_units<Iq1S>(p, multiprocessors, stream);
    case WeightType::iq1_m:
      return multiply_units<Iq1M>(p, multiprocessors, stream);
    case WeightType::tq1_0:
      return multiply_units<Tq1_0>(p, multiprocessors, stream);
    case WeightType::tq2_0:
      return multiply_units<Tq2_0>(p, multiprocessors, stream);
    case WeightType::mxfp4:
      return multiply_units<Mxfp4>(p, multiprocessors, stream);
    case WeightType::nvfp4:
      return multiply_units<Nvfp4>(p, multiprocessors, stream);
    default:
      throw Error("cuda matmul: weight type " + std::to_string(static_cast<std::uint32_t>(type)) +
                  " has no kernels");
  }
}

}  // namespace tensor_pager::kernels::cuda
