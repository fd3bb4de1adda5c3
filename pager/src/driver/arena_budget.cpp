// SPDX-License-Identifier: Apache-2.0
#include "pager/arena_budget.hpp"

#include <string>

#include "pager/errors.hpp"

namespace tensor_pager {

void ArenaBudget::take(Bytes size) {
  const std::lock_guard lock(mutex_);
  if (size > left_) {
    throw BudgetError("pagers that share " + std::to_string(total_.count) + " bytes have " +
                          std::to_string(left_.count) + " bytes left, and " +
                          std::to_string(size.count) +
                          " more were asked for; shrink another pager's arena first",
                      total_ - left_ + size);
  }
  left_ -= size;
}

}  // namespace tensor_pager
