// SPDX-License-Identifier: Apache-2.0
// Uses every layer that it was given through its public headers, and catches an exception that
// another library threw.
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#ifdef USES_kernels
#include "kernels/weight_type.hpp"
#endif
#ifdef USES_loaders
#include "loaders/gguf.hpp"
#include "loaders/tensor_type.hpp"
#endif
#include "pager/errors.hpp"
#include "pager/host_device.hpp"
#include "pager/memory_store.hpp"
#include "pager/pager.hpp"
#include "pager/types.hpp"
#include "pager/version.hpp"

namespace {

using tensor_pager::KiB;

/// A page is what it is in the image, and what the pager throws is caught by its type.
bool pages() {
  const std::vector<std::byte> image(KiB(64).count, std::byte{7});
  const auto store = std::make_shared<tensor_pager::MemoryStore>(image);
  try {
    const tensor_pager::Pager none(tensor_pager::make_host_device(), store,
                                   {.arena = {}, .page = KiB(4)});
    return false;
  } catch (const tensor_pager::BudgetError&) {
  }
  tensor_pager::Pager pager(tensor_pager::make_host_device(), store,
                            {.arena = KiB(16), .page = KiB(4)});
  const std::vector<tensor_pager::ByteRange> ranges = {{KiB(32), KiB(4)}};
  const tensor_pager::Lease lease = pager.acquire(ranges);
  return std::memcmp(pager.address(KiB(32)), image.data(), KiB(4).count) == 0;
}

#if defined(USES_kernels) && defined(USES_loaders)
/// Whether loaders and kernels agree on the size of a Q4_K row.
bool agree() {
  namespace kernels = tensor_pager::kernels;
  namespace loaders = tensor_pager::loaders;
  const tensor_pager::Bytes row = loaders::bytes_of(loaders::TensorType::q4_k, 4096);
  std::printf("a row of 4096 %s takes %s\n", kernels::name(kernels::WeightType::q4_k).data(),
              tensor_pager::to_string(row).c_str());
  return kernels::row_bytes(kernels::WeightType::q4_k, 4096) == row.count;
}
#else
bool agree() {
  return true;
}
#endif

}  // namespace

int main() {
#ifdef PACKAGE_VERSION
  if (std::strcmp(tensor_pager::version(), PACKAGE_VERSION) != 0) {
    std::fprintf(stderr, "consumer: the package is %s, the library %s\n", PACKAGE_VERSION,
                 tensor_pager::version());
    return 1;
  }
#endif
  if (!agree()) {
    std::fprintf(stderr, "consumer: loaders and kernels disagree on the size of a Q4_K row\n");
    return 1;
  }
  if (!pages()) {
    std::fprintf(stderr, "consumer: the pager does not page\n");
    return 1;
  }
  return 0;
}
