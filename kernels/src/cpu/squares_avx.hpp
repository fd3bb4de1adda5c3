// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include <cstddef>

namespace tensor_pager::kernels::cpu {
namespace {

inline constexpr std::size_t kSquare = 8;

inline void transpose_square(const float* in, std::size_t in_stride, float* out,
                             std::size_t out_stride) {
#pragma GCC unroll 2
  for (std::size_t half = 0; half < kSquare; half += 4) {
    __m256 rows[4];  // rows i and i + 4
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i) {
      rows[i] = _mm256_set_m128(_mm_loadu_ps(in + (i + 4) * in_stride + half),
                                _mm_loadu_ps(in + i * in_stride + half));
    }
    const __m256 a = _mm256_unpacklo_ps(rows[0], rows[1]);
    const __m256 b = _mm256_unpackhi_ps(rows[0], rows[1]);
    const __m256 c = _mm256_unpacklo_ps(rows[2], rows[3]);
    const __m256 d = _mm256_unpackhi_ps(rows[2], rows[3]);
    float* const to = out + half * out_stride;
    _mm256_storeu_ps(to, _mm256_shuffle_ps(a, c, 0x44));
    _mm256_storeu_ps(to + out_stride, _mm256_shuffle_ps(a, c, 0xEE));
    _mm256_storeu_ps(to + 2 * out_stride, _mm256_shuffle_ps(b, d, 0x44));
    _mm256_storeu_ps(to + 3 * out_stride, _mm256_shuffle_ps(b, d, 0xEE));
  }
}

}  // namespace
}  // namespace tensor_pager::kernels::cpu
