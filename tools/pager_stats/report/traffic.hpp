// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "pager/types.hpp"
#include "report/recording.hpp"

namespace tensor_pager::pager_stats {

/// Bytes copied while the recording's first plan was in force, and later.
struct Copied {
  Bytes first_plan;
  Bytes later;

  Bytes sum() const { return first_plan + later; }
};

/// A part of the image, and what was copied of it.
struct PartCopies {
  std::string name;
  ByteRange bytes;  ///< bytes that an earlier part has as well are not counted here
  std::uint32_t group = 0;
  Copied copied;
};

/// The parts of one layer, or others that belong together.
struct GroupCopies {
  std::string name;
  Bytes size;
  ByteRange extent;  ///< from its first byte to its last
  Copied copied;
};

/// In the order of the image. The sum over parts, the sum over groups and the bytes of all copies
/// are equal: what no part has is in a last part, named "(no name)", if there is any.
struct Traffic {
  std::vector<PartCopies> parts;
  std::vector<GroupCopies> groups;
};

Traffic traffic(const Recording& recording);

/// What a part is grouped by: its name up to the first component that is a number ("blk.12" of
/// "blk.12.attn_q.weight"), or else its first component ("output").
std::string group_of(const std::string& part);

}  // namespace tensor_pager::pager_stats
