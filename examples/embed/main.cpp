// SPDX-License-Identifier: Apache-2.0
// Pages matrices of one's own: no model file, no transformer. A chain of 64 matrices is multiplied
// through an arena that holds a quarter of them.
#include <cstdio>
#include <exception>
#include <memory>
#include <span>
#include <stdexcept>
#include <vector>

#include "pager/host_device.hpp"
#include "pager/memory_store.hpp"
#include "pager/pager.hpp"

using namespace tensor_pager;

namespace {

constexpr std::size_t kLayers = 64;
constexpr std::size_t kWidth = 512;
constexpr Bytes kMatrix{kWidth * kWidth * sizeof(float)};

/// x = W x, for a W [kWidth, kWidth] at a device address.
void multiply(const std::byte* address, std::vector<float>& x) {
  const auto* const w = reinterpret_cast<const float*>(address);
  std::vector<float> y(kWidth);
  for (std::size_t row = 0; row < kWidth; ++row) {
    for (std::size_t k = 0; k < kWidth; ++k) y[row] += w[row * kWidth + k] * x[k];
  }
  x = y;
}

void run() {
  std::vector<float> weights(kLayers * kWidth * kWidth);
  for (std::size_t i = 0; i < weights.size(); ++i)
    weights[i] = i % kWidth == i / kWidth % kWidth ? 1.0F : 0.0F;

  // The image is ordinary memory here; MappedFileStore serves files. On a GPU only the device is
  // another one.
  auto store = std::make_shared<MemoryStore>(std::as_bytes(std::span(weights)));
  Pager pager(make_host_device(), store, {.arena = kMatrix * (kLayers / 4), .page = KiB(64)});

  // What a pass reads, step by step: with it, pages are there before they are asked for.
  AccessPlan plan;
  for (std::size_t layer = 0; layer < kLayers; ++layer)
    plan.steps.push_back({.reads = {{kMatrix * layer, kMatrix}}});
  pager.set_plan(plan);

  std::vector<float> x(kWidth, 1.0F);
  for (int pass = 0; pass < 4; ++pass) {
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      const Lease lease = pager.acquire(StepIndex{layer});  // until it ends, the matrix stays
      multiply(pager.address(kMatrix * layer), x);          // at the address that it always has
    }
  }

  const Statistics statistics = pager.statistics();
  std::printf("x[0] = %g; %s of weights through an arena of %s\n", static_cast<double>(x[0]),
              to_string(store->size()).c_str(), to_string(statistics.arena).c_str());
  std::printf(
      "copied %s (plain LRU would copy %s); %llu hits, %llu prefetched in time, %llu late\n",
      to_string(statistics.core.loaded).c_str(), to_string(store->size() * 4).c_str(),
      static_cast<unsigned long long>(statistics.core.hits),
      static_cast<unsigned long long>(statistics.core.prefetched),
      static_cast<unsigned long long>(statistics.core.late));
  if (std::fflush(stdout) != 0) throw std::runtime_error("stdout: cannot write");
}

}  // namespace

int main() {
  try {
    run();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "embed: %s\n", error.what());
    return 1;
  }
}
