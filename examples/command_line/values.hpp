// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "command_line/usage_error.hpp"
#include "pager/policy_options.hpp"
#include "pager/types.hpp"
#include "qwen/generation_placement.hpp"
#include "qwen/memory_plan.hpp"

namespace tensor_pager::command_line {

/// "4096", "64KiB", "1.5 GiB", "2G" (the letter alone is binary), "2GB" (decimal). Throws
/// UsageError, which names `option`, as do the functions below.
Bytes parse_size(std::string_view option, std::string_view text);

/// A size, or a share of the weights: "25%".
std::variant<Bytes, qwen::Percent> parse_arena(std::string_view option, std::string_view text);

/// "gpu", "cpu", "auto", or a share of the weights that the processors shall compute: "60%".
qwen::PlaceWish parse_place(std::string_view text);

/// The same as it is typed.
std::string place_text(const qwen::PlaceWish& wish);

/// "-1" is nothing: another seed each time.
std::optional<std::uint64_t> parse_seed(std::string_view text);

/// From --policy (lru or lookahead) and --lookahead (a number of steps, or "pass"). Least recently
/// used looks nowhere ahead, whatever --lookahead says.
PolicyOptions parse_policy(std::optional<std::string_view> policy,
                           std::optional<std::string_view> lookahead);

enum class DeviceKind { automatic, cuda, host };

/// "auto", "cuda" or "host".
DeviceKind parse_device(std::string_view text);

}  // namespace tensor_pager::command_line
