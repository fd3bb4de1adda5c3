// SPDX-License-Identifier: Apache-2.0
#include "prediction/kept_rates.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <ctime>
#include <fstream>
#include <iterator>
#include <utility>

#include "output/replacement_file.hpp"
#include "pager/version.hpp"

namespace tensor_pager::prediction {
namespace {

std::string content(const char* path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// "580.159.04"
bool is_version(std::string_view word) {
  const auto known = [](unsigned char c) { return std::isdigit(c) != 0 || c == '.'; };
  return word.find('.') != std::string_view::npos && word.front() != '.' &&
         std::ranges::all_of(word, known);
}

// Keeps them, or says why not.
void keep(const RatesFile& file, const std::string& date, KeptRates& measured) {
  try {
    file.write(measured.rates, date);
    measured.origin += fmt::format("; kept in {}", file.path().string());
  } catch (const output::OutputError& error) {
    measured.origin += "; they could not be kept";
    measured.problem = fmt::format(
        "this machine's rates were measured, but could not be kept ({}), so each start measures "
        "them anew, which takes about a second",
        error.what());
  }
}

}  // namespace

KeptRates keep_rates(const KeepOptions& options,
                     const std::function<loaders::PlacementRates()>& measure) {
  if (!options.file) {
    return {.rates = measure(),
            .origin = "measured now; neither XDG_CACHE_HOME nor HOME says where to keep them",
            .problem = {}};
  }
  std::string why = "as asked for";
  if (!options.anew) {
    const StoredRates stored = options.file->read();
    if (stored.rates) {
      return {.rates = *stored.rates,
              .origin =
                  fmt::format("of {}, measured on {}", options.file->path().string(), stored.date),
              .problem = {}};
    }
    why = stored.why_not;
  }
  KeptRates measured{
      .rates = measure(), .origin = fmt::format("measured now ({})", why), .problem = {}};
  keep(*options.file, options.date, measured);
  return measured;
}

std::string processor_name(std::string_view cpuinfo) {
  constexpr std::string_view kField = "model name";
  const std::size_t field = cpuinfo.find(kField);
  if (field == std::string_view::npos) return "unknown";
  std::string_view line = cpuinfo.substr(field);
  line = line.substr(0, line.find('\n'));
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return "unknown";
  const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
  return begin == std::string_view::npos ? "unknown" : std::string(line.substr(begin));
}

std::string driver_version(std::string_view text) {
  while (!text.empty()) {
    const std::size_t begin = text.find_first_not_of(" \t\n");
    if (begin == std::string_view::npos) break;
    text.remove_prefix(begin);
    const std::string_view word = text.substr(0, text.find_first_of(" \t\n"));
    if (is_version(word)) return std::string(word);
    text.remove_prefix(word.size());
  }
  return {};
}

RatesKey key_of_this_machine(std::uint32_t cores, const std::string& gpu,
                             std::vector<loaders::TensorType> types) {
  return {.cpu = processor_name(content("/proc/cpuinfo")),
          .cores = cores,
          .gpu = gpu,
          .driver = gpu.empty() ? "" : driver_version(content("/proc/driver/nvidia/version")),
          .program = version(),
          .types = std::move(types)};
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  std::array<char, 16> text{};
  if (::localtime_r(&now, &local) == nullptr) return {};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d", &local)};
}

}  // namespace tensor_pager::prediction
