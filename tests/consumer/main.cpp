// Uses every layer through its public headers, and catches an exception that another library threw.
#include <cstdio>

#include "kernels/weight_type.hpp"
#include "loaders/gguf.hpp"
#include "loaders/tensor_type.hpp"
#include "pager/types.hpp"

int main() {
  namespace kernels = tensor_pager::kernels;
  namespace loaders = tensor_pager::loaders;

  const tensor_pager::Bytes row = loaders::bytes_of(loaders::TensorType::q4_k, 4096);
  if (kernels::row_bytes(kernels::WeightType::q4_k, 4096) != row.count) {
    std::fprintf(stderr, "consumer: loaders and kernels disagree on the size of a Q4_K row\n");
    return 1;
  }
  std::printf("a row of 4096 %s takes %s\n", kernels::name(kernels::WeightType::q4_k).data(),
              tensor_pager::to_string(row).c_str());
  return 0;
}
