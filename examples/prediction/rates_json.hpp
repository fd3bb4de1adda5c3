// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "loaders/placement.hpp"

namespace tensor_pager::prediction {

/// Rates of placement as files have them: seconds, bytes and operations per second.
nlohmann::ordered_json rates_json(const loaders::PlacementRates& rates);

/// What rates_json made. Kernels of types that this program does not know are left out. Throws
/// nlohmann::json::exception if something is missing, and std::invalid_argument if a rate is none
/// that can be measured.
loaders::PlacementRates rates_from_json(const nlohmann::ordered_json& json);

}  // namespace tensor_pager::prediction
