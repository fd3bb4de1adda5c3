// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/placement.hpp"
#include "loaders/tensor_type.hpp"
#include "prediction/rates_file.hpp"

namespace tensor_pager::prediction {

/// Rates of this machine, and how they are known.
struct KeptRates {
  loaders::PlacementRates rates{};
  std::string origin;   ///< "of FILE, measured on 2026-11-27", "measured now, ..."; for people
  std::string problem;  ///< why what was measured could not be kept, and what that costs, or empty
};

struct KeepOptions {
  /// Nothing: they are measured, and not kept.
  std::optional<RatesFile> file{};
  bool anew = false;   ///< measure, whatever is kept
  std::string date{};  ///< RatesFile::write
};

/// What the file has, or else what `measure` returns, which is kept for the next run. Throws what
/// `measure` throws, and nothing because of the file.
KeptRates keep_rates(const KeepOptions& options,
                     const std::function<loaders::PlacementRates()>& measure);

/// The processors' name in the text of /proc/cpuinfo; "unknown" if it has none.
std::string processor_name(std::string_view cpuinfo);
/// The version in the text of /proc/driver/nvidia/version, "580.159.04"; empty if it has none.
std::string driver_version(std::string_view text);

/// A key for this machine, whose `cores` threads measure, and this program, for one sequence.
/// `gpu`: its name and place; empty if there is none.
RatesKey key_of_this_machine(std::uint32_t cores, const std::string& gpu,
                             std::vector<loaders::TensorType> types);

/// Today, as "2026-11-27", in local time.
std::string today();

}  // namespace tensor_pager::prediction
