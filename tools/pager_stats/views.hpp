// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "stats_file.hpp"

namespace tensor_pager::pager_stats {

/// What happened, for people to read: shares and rates computed, sizes in binary units.
std::string table(const std::vector<Field>& fields);

/// Every field, with values of the first file, the second, and the change.
std::string difference(const std::vector<Field>& before, const std::vector<Field>& after);

/// The fields as they are.
nlohmann::ordered_json to_json(const std::vector<Field>& fields);

}  // namespace tensor_pager::pager_stats
