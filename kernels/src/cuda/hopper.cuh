// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include <cstdint>

// The instructions of sm_90a: barriers in shared memory, copies by the copy engine (TMA), and
// products of a warpgroup (wgmma). Layouts are those of the PTX manual's chapters "Asynchronous
// warpgroup-level matrix instructions" and "Tensor maps".

namespace tensor_pager::kernels::cuda::hopper {

// Barriers in shared memory, by their address.

__device__ inline void init_barrier(std::uint32_t barrier, std::uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier), "r"(arrivals)
               : "memory");
}
/// Makes barriers that this thread has initialised known to the copy engine.
__device__ inline void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}
__device__ inline void arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory");
}
/// Arrives, and lets the phase end only after `bytes` have been copied as well.
__device__ inline void arrive_and_expect(std::uint32_t barrier, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes)
               : "memory");
}
/// Waits until the phase of this parity has ended. A new barrier is in phase 0, and a wait for
/// parity 1 returns at once.
__device__ inline void wait(std::uint32_t barrier, std::uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra finished;\n"
      "bra again;\n"
      "finished:\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// Barriers by number: all of `threads` have either to wait or to pass.

__device__ inline void wait_named(std::uint32_t name, std::uint32_t threads) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(name), "r"(threads) : "memory");
}
__device__ inline void pass_named(std::uint32_t name, std::uint32_t threads) {
  asm volatile("bar.arrive %0, %1;\n" ::"r"(name), "r"(threads) : "memory");
}

// The copy engine.

__device__ inline void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];\n" ::"l"(&map) : "memory");
}
/// Copies the panel whose first element is (row, column) to shared memory.
__device__ inline void copy_panel(std::uint32_t to, const CUtensorMap& map, int row, int column,
                                  std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3}], [%4];\n" ::"r"(to),
      "l"(&map), "r"(column), "r"(row), "r"(barrier)
      : "memory");
}

/// Copies bytes, a multiple of sixteen from and to multiples of sixteen, to shared memory.
__device__ inline void copy_bytes(std::uint32_t to, const void* from, std::uint32_t bytes,
                                  std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}

// Registers: of every thread of a warpgroup.

template <int kRegisters>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
}

// Products.

/// An operand in panels of 64 columns with swizzled rows of 128 bytes, as a product reads it. If it
/// is multiplied along its columns (K-major), `panel_bytes` does not matter: a product reads 16
/// columns only. If it is multiplied along its rows (MN-major), panels lie that far apart.
__device__ inline std::uint64_t operand(std::uint32_t address, std::uint32_t panel_bytes) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  constexpr std::uint64_t kEightRows = std::uint64_t{1024 / 16} << 32;
  return kSwizzle128 | kEightRows | std::uint64_t{panel_bytes / 16} << 16 |
         (address & 0x3FFFFU) / 16;
}
/// The operand `bytes` further on.
__device__ inline std::uint64_t advance(std::uint64_t operand, std::uint32_t bytes) {
  return operand + bytes / 16;
}

/// Before the first product that uses registers which this thread has written.
__device__ inline void order_registers() {
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}
/// Ends a group of products.
__device__ inline void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
/// Waits until at most kGroups groups are under way.
template <int kGroups>
__device__ inline void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kGroups) : "memory");
}
/// Tells the compiler that products under way may write these registers up to here.
template <int kCount>
__device__ inline void touch(float (&registers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(registers[i])::"memory");
}

// Thread l of the w-th warp holds of c [64, columns] in c[4 j + i] the element of row 16 w + l / 4
// + i / 2 * 8, column 8 j + 2 (l % 4) + i % 2, and of a in registers the same of two tiles j.
#define TENSOR_PAGER_FOUR(c, i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define TENSOR_PAGER_SIXTEEN(c, i)                                                   \
  TENSOR_PAGER_FOUR(c, i), TENSOR_PAGER_FOUR(c, i + 4), TENSOR_PAGER_FOUR(c, i + 8), \
      TENSOR_PAGER_FOUR(c, i + 12)
#define TENSOR_PAGER_32(c) TENSOR_PAGER_SIXTEEN(c, 0), TENSOR_PAGER_SIXTEEN(c, 16)
#define TENSOR_PAGER_64(c) \
  TENSOR_PAGER_32(c), TENSOR_PAGER_SIXTEEN(c, 32), TENSOR_PAGER_SIXTEEN(c, 48)
#define TENSOR_PAGER_LIST_32                                                          \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
  "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define TENSOR_PAGER_LIST_64                                                          \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
  "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, "  \
  "%34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, "  \
  "%50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"

/// c [64, 64] = (kAdd ? c : 0) + a [64, 16] * b [64, 16]^T; both in shared memory, K-major.
template <bool kAdd>
__device__ inline void multiply(float (&c)[32], std::uint64_t a, std::uint64_t b) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 " TENSOR_PAGER_LIST_32
      ", %32, %33, add, 1, 1, 0, 0;\n}\n"
      : TENSOR_PAGER_32(c)
      : "l"(a), "l"(b), "n"(kAdd ? 1 : 0));
}
/// c [64, 64] += a [64, 16] * b [16, 64]; a in registers, b in shared memory, MN-major.
__device__ inline void multiply_rows(float (&c)[32], const std::uint32_t (&a)[4], std::uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 " TENSOR_PAGER_LIST_32
               ", {%32, %33, %34, %35}, %36, 1, 1, 1, 1;\n"
               : TENSOR_PAGER_32(c)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

/// c [64, 128] = (kAdd ? c : 0) + a [64, 16] * b [128, 16]^T; both in shared memory, K-major.
template <bool kAdd>
__device__ inline void multiply(float (&c)[64], std::uint64_t a, std::uint64_t b) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 " TENSOR_PAGER_LIST_64
      ", %64, %65, add, 1, 1, 0, 0;\n}\n"
      : TENSOR_PAGER_64(c)
      : "l"(a), "l"(b), "n"(kAdd ? 1 : 0));
}
/// c [64, 128] += a [64, 16] * b [16, 128]; a in registers, b in shared memory, MN-major.
__device__ inline void multiply_rows(float (&c)[64], const std::uint32_t (&a)[4], std::uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 " TENSOR_PAGER_LIST_64
               ", {%64, %65, %66, %67}, %68, 1, 1, 1, 1;\n"
               : TENSOR_PAGER_64(c)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef TENSOR_PAGER_FOUR
#undef TENSOR_PAGER_SIXTEEN
#undef TENSOR_PAGER_32
#undef TENSOR_PAGER_64
#undef TENSOR_PAGER_LIST_32
#undef TENSOR_PAGER_LIST_64

}  // namespace tensor_pager::kernels::cuda::hopper
