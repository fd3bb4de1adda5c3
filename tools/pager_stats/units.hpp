// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace tensor_pager::pager_stats {

/// "1.50 MiB".
std::string size(double bytes);

/// 0 if there is no whole.
double percent(double part, double whole);

/// Text of another program or a file, for a terminal: control characters are question marks.
std::string printable(std::string_view text);

}  // namespace tensor_pager::pager_stats
