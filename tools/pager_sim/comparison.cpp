// SPDX-License-Identifier: Apache-2.0
#include "comparison.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>

#include "qwen/error.hpp"

namespace tensor_pager::pager_sim {

using namespace prediction;

namespace {

using Json = nlohmann::json;

std::string content(const std::filesystem::path& path) {
  std::ifstream in(path);
  if (!in) {
    throw qwen::Error(fmt::format("cannot open {}: {}; give what pager_bench -o jsonl wrote",
                                  path.string(), std::strerror(errno)));
  }
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// An array of rows, or a row a line.
Json rows_of(const std::filesystem::path& path) {
  const std::string text = content(path);
  Json rows = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (rows.is_array()) return rows;
  if (rows.is_object()) return Json::array({rows});
  rows = Json::array();
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    rows.push_back(Json::parse(line, nullptr, /*allow_exceptions=*/false));
    if (rows.back().is_discarded()) {
      throw qwen::Error(fmt::format(
          "{} is not output of pager_bench: write it with pager_bench -o jsonl", path.string()));
    }
  }
  return rows;
}

MeasuredPrefill measurement(const Json& row) {
  const bool warm = row.at("warm");
  const double limit = row.at("link_limit_gb_per_s");
  const double link = row.at("calibrated_link_gb_per_s");
  MeasuredPrefill measured;
  measured.arena = {row.at("arena_bytes").get<std::uint64_t>()};
  measured.copied = {row.at("copied_bytes").get<std::uint64_t>()};
  measured.tokens_per_second = row.at("median_ts");
  measured.what = {.prompt = row.at("n_prompt"),
                   .arena = measured.arena,
                   .page = {row.at("page_bytes").get<std::uint64_t>()},
                   .ubatch = row.at("n_ubatch"),
                   .link = 1e9 * (limit > 0 ? std::min(limit, link) : link),
                   .warm_up = warm ? kWarmUp : 0};
  return measured;
}

}  // namespace

std::vector<MeasuredPrefill> read_measurements(const std::filesystem::path& path) {
  std::vector<MeasuredPrefill> measured;
  for (const Json& row : rows_of(path)) {
    try {
      if (row.at("n_prompt") > 0) measured.push_back(measurement(row));
    } catch (const Json::exception& error) {
      throw qwen::Error(fmt::format("{} is not output of this pager_bench: {}; measure again",
                                    path.string(), error.what()));
    }
  }
  return measured;
}

std::vector<CalibratedRates> read_calibrations(const std::filesystem::path& path) {
  std::vector<CalibratedRates> all;
  for (const Json& row : rows_of(path)) {
    try {
      all.push_back({.link = 1e9 * row.at("calibrated_link_gb_per_s").get<double>(),
                     .memory = 1e9 * row.at("calibrated_memory_gb_per_s").get<double>(),
                     .arithmetic = 1e12 * row.at("calibrated_tflops").get<double>(),
                     .host = row.at("backends") == "host",
                     .of_row = row.contains("n_prompt")});
    } catch (const Json::exception& error) {
      throw qwen::Error(fmt::format("{} is not output of this pager_bench: {}; measure again",
                                    path.string(), error.what()));
    }
  }
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
                                double map_seconds, const std::vector<MeasuredPrefill>& measured) {
  std::vector<Comparison> all;
  for (const MeasuredPrefill& row : measured) {
    if (row.copied == Bytes{0}) continue;
    PrefillCase what = row.what;
    what.arithmetic = rates.arithmetic;
    what.weights_rate = rates.weights_rate;
    what.map_seconds = map_seconds;
    all.push_back({row, predict_prefill(model, what)});
  }
  return all;
}

Machine machine_of_file(const qwen::Model& model, const std::filesystem::path& path) {
  const std::vector<CalibratedRates> rows = read_calibrations(path);
  const CalibratedRates best = *std::ranges::max_element(rows, {}, &CalibratedRates::link);
  Machine machine{.name = fmt::format("as calibrated in {}", path.string()),
                  .link = best.link,
                  .rates = {.arithmetic = best.arithmetic, .weights_rate = best.memory},
                  .map_seconds = best.host ? kHostMap : kGpuMap};
  if (!best.of_row) return machine;
  machine.rates = fit_rates(model, read_measurements(path));
  machine.name = fmt::format("fitted to the resident prefills in {}", path.string());
  return machine;
}

}  // namespace tensor_pager::pager_sim
