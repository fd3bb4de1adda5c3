// SPDX-License-Identifier: Apache-2.0
#include "command_line/values.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <system_error>

namespace tensor_pager::command_line {
namespace {

struct Unit {
  std::string_view name;
  double bytes;
};

constexpr std::array<Unit, 15> kUnits = {{{"", 1},
                                          {"B", 1},
                                          {"K", 0x1p10},
                                          {"M", 0x1p20},
                                          {"G", 0x1p30},
                                          {"T", 0x1p40},
                                          {"KiB", 0x1p10},
                                          {"MiB", 0x1p20},
                                          {"GiB", 0x1p30},
                                          {"TiB", 0x1p40},
                                          {"kB", 1e3},
                                          {"KB", 1e3},
                                          {"MB", 1e6},
                                          {"GB", 1e9},
                                          {"TB", 1e12}}};

// Sizes up to here are exact in a double, and larger ones are nonsense.
constexpr double kLargestSize = 0x1p53;

template <class T>
std::optional<T> parse_number(std::string_view text) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || rest != end) return std::nullopt;
  return value;
}

}  // namespace

Bytes parse_size(std::string_view option, std::string_view text) {
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  std::string_view unit(rest, static_cast<std::size_t>(end - rest));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  for (const Unit& known : kUnits) {
    if (error != std::errc{} || unit != known.name) continue;
    const double bytes = number * known.bytes;
    if (std::isfinite(bytes) && !std::signbit(number) && bytes <= kLargestSize) {
      return {static_cast<std::uint64_t>(bytes)};
    }
  }
  throw UsageError(fmt::format(
      "{} \"{}\" is not a size; give bytes, or a number with KiB, MiB, GiB or TiB", option, text));
}

std::variant<Bytes, qwen::Percent> parse_arena(std::string_view option, std::string_view text) {
  if (!text.ends_with('%')) return parse_size(option, text);
  const auto percent = parse_number<double>(text.substr(0, text.size() - 1));
  if (percent && *percent > 0 && *percent <= 100) return qwen::Percent{*percent};
  throw UsageError(
      fmt::format("{} \"{}\" is not a share of the weights; give more than 0% "
                  "and at most 100%",
                  option, text));
}

qwen::PlaceWish parse_place(std::string_view text) {
  if (text == "gpu") return qwen::OnDevice{};
  if (text == "auto") return qwen::Fastest{};
  if (text == "cpu") return qwen::Percent{100};
  if (text.ends_with('%')) {
    const auto percent = parse_number<double>(text.substr(0, text.size() - 1));
    if (percent && *percent >= 0 && *percent <= 100) return qwen::Percent{*percent};
  }
  throw UsageError(fmt::format(
      "--place \"{}\" is not auto, gpu, cpu or a share from 0% to 100%; give one of them", text));
}

std::string place_text(const qwen::PlaceWish& wish) {
  if (std::holds_alternative<qwen::OnDevice>(wish)) return "gpu";
  if (std::holds_alternative<qwen::Fastest>(wish)) return "auto";
  const double share = std::get<qwen::Percent>(wish).value;
  return share == 100 ? "cpu" : fmt::format("{:g}%", share);
}

std::optional<std::uint64_t> parse_seed(std::string_view text) {
  if (text == "-1") return std::nullopt;
  const auto seed = parse_number<std::uint64_t>(text);
  if (seed) return seed;
  throw UsageError(fmt::format(
      "--seed \"{}\" is not a number from 0 to 2^64 - 1; give one, or -1 for another each time",
      text));
}

PolicyOptions parse_policy(std::optional<std::string_view> policy,
                           std::optional<std::string_view> lookahead) {
  PolicyOptions options;
  if (lookahead && *lookahead != "pass") {
    const auto steps = parse_number<std::uint32_t>(*lookahead);
    if (!steps) {
      throw UsageError(fmt::format(
          "--lookahead \"{}\" is neither a number of steps nor \"pass\"; give one of them",
          *lookahead));
    }
    options.window = *steps;
  }
  if (policy == "lru") options.window = 0;
  return options;
}

DeviceKind parse_device(std::string_view text) {
  if (text == "auto") return DeviceKind::automatic;
  if (text == "cuda") return DeviceKind::cuda;
  if (text == "host") return DeviceKind::host;
  throw UsageError(
      fmt::format("--device \"{}\" is not auto, cuda or host; give one of them", text));
}

}  // namespace tensor_pager::command_line
