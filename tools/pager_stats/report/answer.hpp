// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace tensor_pager::pager_stats {

/// Whether another budget would help, in a few sentences, from the predictions of report_data (its
/// "what_if") and the bytes of the model's weights.
std::string budget_answer(const nlohmann::ordered_json& what_if, double weights_bytes);

}  // namespace tensor_pager::pager_stats
