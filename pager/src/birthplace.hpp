// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace tensor_pager {

/// Which process an object belongs to. After fork the child has copies of the object's memory, but
/// none of its threads, mutexes in whatever state they were, and no GPU: it must not touch them.
class Birthplace {
 public:
  Birthplace();
  /// Whether this is another process than the one in which the object was made. Costs a load.
  bool elsewhere() const noexcept;
  /// Throws Error in another process; `what` is "this pager", say.
  void require_here(const char* what) const;

 private:
  std::uint32_t generation_;
};

}  // namespace tensor_pager
