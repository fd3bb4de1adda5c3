// SPDX-License-Identifier: Apache-2.0
#pragma once

// Included after a lanes_*.hpp, which defines Vec; see kernels.hpp.

namespace tensor_pager::kernels::cpu {
namespace {

// e^x within 2 units in the last place; 0 below the smallest normal result, about 2e38 from there
// on above, so that 1 / (1 + e^x) stays finite. x = n ln 2 + r with |r| <= ln 2 / 2, where seven
// Taylor terms suffice (r^8 / 8! < 6e-9).
inline Vec exponential(Vec x) {
  const Vec lowest = broadcast(-87.33654F);
  const Vec bounded = max(lowest, min(broadcast(88.37F), x));
  const Vec n = round_to_integer(mul(bounded, broadcast(1.44269504F)));
  Vec r = multiply_add(n, broadcast(-0.693359375F),
                       bounded);  // ln 2 in two parts: n times the first is exact
  r = multiply_add(n, broadcast(2.12194440e-4F), r);
  Vec p = broadcast(1.0F / 5040.0F);
  p = multiply_add(p, r, broadcast(1.0F / 720.0F));
  p = multiply_add(p, r, broadcast(1.0F / 120.0F));
  p = multiply_add(p, r, broadcast(1.0F / 24.0F));
  p = multiply_add(p, r, broadcast(1.0F / 6.0F));
  p = multiply_add(p, r, broadcast(0.5F));
  p = multiply_add(p, r, broadcast(1.0F));
  p = multiply_add(p, r, broadcast(1.0F));
  return zero_where_less(times_power_of_two(p, n), x, lowest);
}

}  // namespace
}  // namespace tensor_pager::kernels::cpu
