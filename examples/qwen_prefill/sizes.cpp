#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <system_error>

#include "options.hpp"

namespace tensor_pager::qwen_prefill {
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

}  // namespace tensor_pager::qwen_prefill
