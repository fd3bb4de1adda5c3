// SPDX-License-Identifier: Apache-2.0
#include "cuda/few_tokens.cuh"
#include "cuda/few_tokens.hpp"

namespace tensor_pager::kernels::cuda {

bool multiply_few_of_two(WeightType first_type, WeightType second_type, const FewTokens& first,
                         const FewTokens& second, unsigned multiprocessors, cudaStream_t stream) {
  // What the usual mixes give to queries and keys, and to some layers' values.
  if (second_type != WeightType::q6_k) return false;
  if (first_type == WeightType::q4_k) {
    return launch_of_two<Q4K, Q6K>(first, second, multiprocessors, stream);
  }
  if (first_type == WeightType::q5_k) {
    return launch_of_two<Q5K, Q6K>(first, second, multiprocessors, stream);
  }
  return false;
}

}  // namespace tensor_pager::kernels::cuda
