// SPDX-License-Identifier: Apache-2.0
#include "birthplace.hpp"

#include <pthread.h>

#include <atomic>
#include <string>

#include "pager/errors.hpp"

namespace tensor_pager {

namespace {

std::atomic<std::uint32_t> forks = 0;  // between the process that loaded this library and this one

std::uint32_t generation() {
  static const int registered = ::pthread_atfork(nullptr, nullptr, [] { ++forks; });
  (void)registered;  // fails for lack of memory alone; then a child is not told apart
  return forks.load(std::memory_order_relaxed);
}

}  // namespace

Birthplace::Birthplace() : generation_(generation()) {}

bool Birthplace::elsewhere() const noexcept {
  return forks.load(std::memory_order_relaxed) != generation_;
}

void Birthplace::require_here(const char* what) const {
  if (!elsewhere()) return;
  throw Error(std::string(what) +
              " belongs to the process that forked this one; make another one here, or fork before "
              "making it");
}

}  // namespace tensor_pager
