// SPDX-License-Identifier: Apache-2.0
#include "comparison.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "bench_rows.hpp"
#include "measured_tokens.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::pager_sim {

using namespace prediction;

namespace {

using Json = nlohmann::ordered_json;

MeasuredPrefill measurement(const Json& row) {
  const bool warm = row.at("warm");
  const double limit = row.at("link_limit_gb_per_s");
  const double link = rate_in(row, "calibrated_link_gb_per_s");
  MeasuredPrefill measured;
  measured.arena = {count_in(row, "arena_bytes", kMostBytes)};
  measured.copied = {row.at("copied_bytes").get<std::uint64_t>()};
  measured.tokens_per_second = rate_in(row, "median_ts");
  measured.what = {.prompt = count_of_tokens(row, "n_prompt"),
                   .arena = measured.arena,
                   .page = {count_in(row, "page_bytes", kMostBytes)},
                   .ubatch = count_of_tokens(row, "n_ubatch"),
                   .host = row.at("backends") == "host",
                   .link = 1e9 * (limit > 0 ? std::min(limit, link) : link),
                   .warm_up = warm ? kWarmUp : 0};
  return measured;
}

}  // namespace

std::vector<MeasuredPrefill> read_measurements(const std::filesystem::path& path) {
  std::vector<MeasuredPrefill> measured;
  for_each_row(path, [&](const Json& row) {
    if (row.at("n_prompt") > 0) measured.push_back(measurement(row));
  });
  return measured;
}

std::vector<CalibratedRates> read_calibrations(const std::filesystem::path& path) {
  std::vector<CalibratedRates> all;
  for_each_row(path, [&](const Json& row) {
    all.push_back({.link = 1e9 * rate_in(row, "calibrated_link_gb_per_s"),
                   .memory = 1e9 * rate_in(row, "calibrated_memory_gb_per_s"),
                   .arithmetic = 1e12 * rate_in(row, "calibrated_tflops"),
                   .host = row.at("backends") == "host",
                   .of_row = row.contains("n_prompt")});
  });
  if (all.empty()) {
    throw qwen::Error(fmt::format(
        "{} is not output of pager_bench: write it with pager_bench -o jsonl", path.string()));
  }
  return all;
}

StepRates fit_rates(const qwen::Model& model, const std::vector<MeasuredPrefill>& measured) {
  // t = operations * x + bytes * y, each row divided by its t.
  double oo = 0, ob = 0, bb = 0, o1 = 0, b1 = 0;
  std::set<std::uint32_t> prompts;
  for (const MeasuredPrefill& row : measured) {
    if (row.copied > Bytes{0}) continue;
    const double time = row.what.prompt / row.tokens_per_second;
    const PassCost cost = pass_cost(model, row.what);
    const double o = cost.operations / time;
    const double b = cost.weight_bytes / time;
    oo += o * o, ob += o * b, bb += b * b, o1 += o, b1 += b;
    prompts.insert(row.what.prompt);
  }
  if (prompts.empty()) {
    throw qwen::Error(
        "no measured prefill had everything resident, so the machine's rates are not known: add "
        "rows of pager_bench --warm with an arena of 100%");
  }
  const double determinant = oo * bb - ob * ob;
  const double x = (o1 * bb - b1 * ob) / determinant;
  const double y = (b1 * oo - o1 * ob) / determinant;
  if (prompts.size() > 1 && x > 0 && y > 0) return {.arithmetic = 1 / x, .weights_rate = 1 / y};
  return {.arithmetic = oo / o1, .weights_rate = 0};
}

bool Comparison::same_bytes() const {
  return predicted.prediction.copied.count == measured.copied.count * measured.what.passes;
}

std::vector<Comparison> compare(const qwen::Model& model, const StepRates& rates,
                                std::optional<double> map_seconds,
                                const std::vector<MeasuredPrefill>& measured) {
  std::vector<Comparison> all;
  for (const MeasuredPrefill& row : measured) {
    if (row.copied == Bytes{0}) continue;
    PrefillCase what = row.what;
    what.arithmetic = rates.arithmetic;
    what.weights_rate = rates.weights_rate;
    what.map_seconds = map_seconds.value_or(what.host ? kHostMap : kGpuMap);
    all.push_back({row, predict_prefill(model, what)});
  }
  return all;
}

namespace {

// As rows with everything resident say, beside what was calibrated with the fastest link.
loaders::PlacementRates machine_of_tokens(const qwen::Model& model,
                                          const std::vector<MeasuredTokens>& measured) {
  const auto link = [](const MeasuredTokens& row) { return row.what.rates.link.alone; };
  return with_fitted(std::ranges::max_element(measured, {}, link)->what,
                     fit_tokens(model, measured));
}

}  // namespace

Machine machine_of_file(const qwen::Model& model, const std::filesystem::path& path,
                        std::optional<std::uint32_t> sequences) {
  const std::vector<CalibratedRates> rows = read_calibrations(path);
  const CalibratedRates best = *std::ranges::max_element(rows, {}, &CalibratedRates::link);
  Machine machine{.name = fmt::format("as calibrated in {}", path.string()),
                  .link = best.link,
                  .rates = {.arithmetic = best.arithmetic, .weights_rate = best.memory},
                  .map_seconds = best.host ? kHostMap : kGpuMap,
                  .generation = {},
                  .host = best.host};
  if (sequences) machine.generation = generation_of_device(machine);
  if (!best.of_row) return machine;
  if (const auto prefills = read_measurements(path); !prefills.empty()) {
    machine.rates = fit_rates(model, prefills);
    machine.name = fmt::format("fitted to the resident prefills in {}", path.string());
  }
  auto tokens = read_tokens(path).measured;
  std::erase_if(tokens, [&](const MeasuredTokens& row) { return row.what.sequences != sequences; });
  if (!tokens.empty()) {
    machine.generation = machine_of_tokens(model, tokens);
    machine.name = fmt::format("fitted to what was resident in {}", path.string());
  }
  return machine;
}

}  // namespace tensor_pager::pager_sim
