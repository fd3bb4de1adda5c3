// SPDX-License-Identifier: Apache-2.0
#include "measured_tokens.hpp"

#include <algorithm>

#include "bench_rows.hpp"
#include "prediction/machine.hpp"
#include "prediction/rates_json.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::pager_sim {

using namespace prediction;

namespace {

PredictedTokens predicted(const qwen::Model& model, const MeasuredTokens& row,
                          const TokenRates& fitted) {
  TokensCase what = row.what;
  what.rates = with_fitted(what, fitted);
  return predict_placed_tokens(model, what);
}

bool is_resident(const MeasuredTokens& row, bool with_cpu) {
  return row.copied == Bytes{0} && (row.on_cpu > Bytes{0}) == with_cpu;
}

MeasuredTokens measurement(const nlohmann::ordered_json& row) {
  MeasuredTokens measured;
  measured.arena = {count_in(row, "arena_bytes", kMostBytes)};
  measured.copied = {row.at("copied_bytes").get<std::uint64_t>()};
  measured.on_cpu = {row.at("on_cpu_bytes").get<std::uint64_t>()};
  measured.place = row.at("place");
  measured.tokens_per_second = rate_in(row, "median_ts");
  measured.what = {.tokens = count_of_tokens(row, "n_gen"),
                   .sequences = count_of_tokens(row, "n_parallel"),
                   .arena = measured.arena,
                   .page = {count_in(row, "page_bytes", kMostBytes)},
                   .given = GivenPlaces{.cpu_layers = row.at("cpu_layers"),
                                        .prefetch_depth = row.at("prefetch_depth")},
                   .rates = rates_from_json(row.at("placement_rates")),
                   .host = row.at("backends") == "host"};
  measured.what.map_seconds = measured.what.host ? kHostMap : kGpuMap;
  return measured;
}

}  // namespace

GenerationRows read_tokens(const std::filesystem::path& path) {
  GenerationRows rows;
  for_each_row(path, [&](const nlohmann::ordered_json& row) {
    if (row.value("n_gen", 0) == 0) return;
    if (row.at("n_depth") == 0) {
      rows.measured.push_back(measurement(row));
    } else {
      ++rows.left_out;
    }
  });
  return rows;
}

namespace {

// Where the device is the processors themselves, their rows tell of it, too.
double device_rate(const qwen::Model& model, const std::vector<MeasuredTokens>& measured) {
  double bytes = 0;
  double seconds = 0;
  for (const MeasuredTokens& row : measured) {
    if (!is_resident(row, /*with_cpu=*/false) && !(row.what.host && row.copied == Bytes{0}))
      continue;
    const TokenCost cost = token_cost(model, row.what);
    const double launches = cost.steps * row.what.rates.gpu_step;
    bytes += cost.weight_bytes;
    // Of a toy model launches are estimated to take longer than all of it.
    seconds += std::max(row.seconds() - launches, row.seconds() / 2);
  }
  if (bytes > 0) return bytes / seconds;
  throw qwen::Error(
      "no measured generation had everything resident on the device, so its rate is not known: add "
      "a row of pager_bench -n with an arena of 100% and --place gpu");
}

}  // namespace

TokenRates fit_tokens(const qwen::Model& model, const std::vector<MeasuredTokens>& measured) {
  TokenRates fitted{.gpu_memory = device_rate(model, measured)};
  if (measured.front().what.host) return fitted;
  double expected = 0;
  double took = 0;
  for (const MeasuredTokens& row : measured) {
    if (!is_resident(row, /*with_cpu=*/true)) continue;
    const PredictedGeneration token = predicted(model, row, fitted).token;
    expected += token.cpu;
    took += row.seconds() - (token.seconds - token.cpu);
  }
  if (expected > 0 && took > 0) fitted.cpu_slower = took / expected;
  return fitted;
}

loaders::PlacementRates with_fitted(const TokensCase& row, const TokenRates& fitted) {
  loaders::PlacementRates rates = row.rates;
  const double slower = row.host ? rates.gpu_memory / fitted.gpu_memory : fitted.cpu_slower;
  rates.gpu_memory = fitted.gpu_memory;
  rates.cpu.alone /= slower;
  rates.cpu.together /= slower;
  for (auto& [type, kernel] : rates.cpu_kernels) {
    kernel.weights /= slower;
    kernel.arithmetic /= slower;
  }
  return rates;
}

std::vector<TokensComparison> compare_tokens(const qwen::Model& model, const TokenRates& fitted,
                                             std::optional<double> map_seconds,
                                             const std::vector<MeasuredTokens>& measured) {
  std::vector<TokensComparison> all;
  for (MeasuredTokens row : measured) {
    if (row.copied == Bytes{0}) continue;
    row.what.map_seconds = map_seconds.value_or(row.what.map_seconds);
    all.push_back({row, predicted(model, row, fitted)});
  }
  return all;
}

}  // namespace tensor_pager::pager_sim
