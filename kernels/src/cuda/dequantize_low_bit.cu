// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "cuda/dequantize_units.cuh"
#include "cuda/low_bit.hpp"
#include "cuda/low_bit_formats.cuh"
#include "kernels/error.hpp"

namespace tensor_pager::kernels::cuda {

template <class Out>
void dequantize_low_bit(WeightType type, const std::byte* blocks, Out* out, std::size_t elements,
                        cudaStream_t stream) {
  switch (type) {
    case WeightType::iq2_xxs:
      return dequantize_units<Iq2Xxs>(blocks, out, elements, stream);
    case WeightType::iq2_xs:
      return dequantize_units<Iq2Xs>(blocks, out, elements, stream);
    case WeightType::iq2_s:
      return dequantize_units<Iq2S>(blocks, out, elements, stream);
    case WeightType::iq3_xxs:
      return dequantize_units<Iq3Xxs>(blocks, out, elements, stream);
    case WeightType::iq3_s:
      return dequantize_units<Iq3S>(blocks, out, elements, stream);
    case WeightType::iq1_s:
      return dequantize_units<Iq1S>(blocks, out, elements, stream);
    case WeightType::iq1_m:
      return dequantize_units<Iq1M>(blocks, out, elements, stream);
    case WeightType::tq1_0:
      return dequantize_units<Tq1_0>(blocks, out, elements, stream);
    case WeightType::tq2_0:
      return dequantize_units<Tq2_0>(blocks, out, elements, stream);
    case WeightType::mxfp4:
      return dequantize_units<Mxfp4>(blocks, out, elements, stream);
    case WeightType::nvfp4:
      return dequantize_units<Nvfp4>(blocks, out, elements, stream);
    default:
      throw Error("cuda dequantize: weight type " +
                  std::to_string(static_cast<std::uint32_t>(type)) + " has no kernels");
  }
}

template void dequantize_low_bit(WeightType, const std::byte*, float*, std::size_t, cudaStream_t);
template void dequantize_low_bit(WeightType, const std::byte*, __half*, std::size_t, cudaStream_t);

}  // namespace tensor_pager::kernels::cuda
