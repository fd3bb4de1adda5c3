// SPDX-License-Identifier: Apache-2.0
#include "tables.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "command_line/values.hpp"

namespace tensor_pager::pager_sim {

using namespace prediction;

namespace {

using Json = nlohmann::ordered_json;

constexpr double kGiga = 1e9;

double ratio(double a, double b) {
  return b > 0 ? a / b : 0;
}

double count(Bytes bytes) {
  return static_cast<double>(bytes.count);
}

std::string weights_rate_text(double rate) {
  return rate > 0 ? fmt::format("{:.4g} GB/s", rate / kGiga) : std::string("any rate");
}

void print_model(const qwen::Model& model, Bytes page) {
  fmt::print(
      "model: {}, {} of weights in pages of {}; memory is arena, key-value cache and "
      "activations\n",
      qwen::display_name(model), to_string(model.gguf.weights_bytes()), to_string(page));
}

void print_prefills(const Machine& machine, const std::vector<PrefillRow>& rows) {
  fmt::print(
      "machine: {}; weights read at {}, {:.0f} us to map a page; link and arithmetic as in the "
      "table\n\n",
      machine.name, weights_rate_text(machine.rates.weights_rate), 1e6 * machine.map_seconds);
  fmt::print(
      "| test | policy | arena | memory | link GB/s | TFLOP/s | t/s | seconds | stall % | hits % | "
      "copied "
      "GB "
      "| optimal GB |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const PrefillRow& row : rows) {
    const Prediction& p = row.predicted.prediction;
    fmt::print(
        "| pp{} | {} | {} | {} | {:.4g} | {:.4g} | {:.0f} | {:.4f} | {:.1f} | {:.1f} | {:.4g} | "
        "{:.4g} "
        "|\n",
        row.what.prompt, row.policy, to_string(row.predicted.arena),
        to_string(row.predicted.arena + row.predicted.beside), row.what.link / kGiga,
        row.what.arithmetic / 1e12, row.predicted.tokens_per_second(), p.seconds,
        100 * ratio(p.stalled, p.seconds),
        100 * ratio(static_cast<double>(p.hits), static_cast<double>(p.accesses)),
        count(p.copied) / kGiga, count(p.optimal) / kGiga);
  }
}

std::string rate_text(const loaders::SharedRate& rate) {
  return fmt::format("{:.4g} GB/s, beside each other {:.4g}", rate.alone / kGiga,
                     rate.together / kGiga);
}

void print_tokens(const Machine& machine, const std::vector<TokensRow>& rows) {
  const loaders::PlacementRates& rates = machine.generation;
  const std::string cpu = rates.cpu.alone > 0
                              ? fmt::format("processors at {}", rate_text(rates.cpu))
                              : std::string("not by processors");
  fmt::print(
      "machine: {}; weights read by the device at {:.4g} GB/s and {:.0f} us a step, {}; link {}; "
      "{:.0f} us a handover\n\n",
      machine.name, rates.gpu_memory / kGiga, 1e6 * rates.gpu_step, cpu, rate_text(rates.link),
      1e6 * rates.handover);
  fmt::print(
      "| test | place | policy | arena | memory | link GB/s | t/s | ms a pass | stall % | CPU % | "
      "on CPU "
      "GB "
      "| copied GB a pass |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const TokensRow& row : rows) {
    const PredictedGeneration& token = row.predicted.token;
    fmt::print(
        "| {} | {} | {} | {} | {} | {:.4g} | {:.4g} | {:.4g} | {:.1f} | {:.1f} | {:.4g} | {:.4g} "
        "|\n",
        test_text(row.what), command_line::place_text(row.what.place), row.policy,
        to_string(row.predicted.arena), to_string(row.predicted.arena + row.predicted.beside),
        row.what.rates.link.alone / kGiga, row.predicted.tokens_per_second(), 1e3 * token.seconds,
        100 * ratio(token.stalled, token.seconds), 100 * ratio(token.cpu, token.seconds),
        count(row.predicted.on_cpu) / kGiga, count(token.copied) / kGiga);
  }
}

Json json_of(const qwen::Model& model, const Machine& machine, const PrefillRow& row) {
  const Prediction& p = row.predicted.prediction;
  return {{"n_prompt", row.what.prompt},
          {"n_gen", 0},
          {"machine", machine.name},
          {"policy", row.policy},
          {"model", qwen::display_name(model)},
          {"weights_bytes", model.gguf.weights_bytes().count},
          {"page_bytes", row.predicted.page.count},
          {"arena_bytes", row.predicted.arena.count},
          {"memory_bytes", (row.predicted.arena + row.predicted.beside).count},
          {"link_gb_per_s", row.what.link / kGiga},
          {"tflops", row.what.arithmetic / 1e12},
          {"tokens_per_s", row.predicted.tokens_per_second()},
          {"seconds", p.seconds},
          {"stall_s", p.stalled},
          {"link_busy_s", p.link_busy},
          {"accesses", p.accesses},
          {"hits", p.hits},
          {"copied_bytes", p.copied.count},
          {"optimal_bytes", p.optimal.count}};
}

Json json_of(const qwen::Model& model, const Machine& machine, const TokensRow& row) {
  const PredictedGeneration& token = row.predicted.token;
  const std::uint32_t n = row.what.tokens;
  return {{"n_prompt", 0},
          {"n_gen", n},
          {"n_parallel", row.what.sequences},
          {"machine", machine.name},
          {"policy", row.policy},
          {"place", command_line::place_text(row.what.place)},
          {"model", qwen::display_name(model)},
          {"weights_bytes", model.gguf.weights_bytes().count},
          {"page_bytes", row.predicted.page.count},
          {"arena_bytes", row.predicted.arena.count},
          {"memory_bytes", (row.predicted.arena + row.predicted.beside).count},
          {"link_gb_per_s", row.what.rates.link.alone / kGiga},
          {"tokens_per_s", row.predicted.tokens_per_second()},
          {"seconds", n * token.seconds},
          {"stall_s", n * token.stalled},
          {"link_busy_s", n * token.link_busy},
          {"device_s", n * token.gpu},
          {"cpu_s", n * token.cpu},
          {"handover_s", n * token.handover},
          {"on_cpu_bytes", row.predicted.on_cpu.count},
          {"copied_bytes", n * token.copied.count}};
}

}  // namespace

std::string test_text(const TokensCase& what) {
  const std::string text = fmt::format("tg{}", what.tokens);
  return what.sequences == 1 ? text : fmt::format("{}x{}", text, what.sequences);
}

void print_tables(const qwen::Model& model, const Machine& machine,
                  const std::vector<PrefillRow>& prefills, const std::vector<TokensRow>& tokens) {
  print_model(model,
              prefills.empty() ? tokens.front().predicted.page : prefills.front().predicted.page);
  if (!prefills.empty()) print_prefills(machine, prefills);
  if (!prefills.empty() && !tokens.empty()) fmt::print("\n");
  if (!tokens.empty()) print_tokens(machine, tokens);
}

void print_json(const qwen::Model& model, const Machine& machine,
                const std::vector<PrefillRow>& prefills, const std::vector<TokensRow>& tokens) {
  Json all = Json::array();
  for (const PrefillRow& row : prefills) all.push_back(json_of(model, machine, row));
  for (const TokensRow& row : tokens) all.push_back(json_of(model, machine, row));
  fmt::print("{}\n", all.dump(2));
}

void print_comparison(const StepRates& rates, const std::vector<Comparison>& rows) {
  fmt::print("rates fitted to prefills with everything resident: {:.4g} TFLOP/s, weights at {}\n",
             rates.arithmetic / 1e12, weights_rate_text(rates.weights_rate));
  fmt::print(
      "| test | start | arena | link GB/s | predicted t/s | measured t/s | error % | predicted GB "
      "| measured GB | bytes |\n|---|---|---|---|---|---|---|---|---|---|\n");
  for (const Comparison& row : rows) {
    const PrefillCase& what = row.measured.what;
    fmt::print("| pp{} | {} | {} | {:.1f} | {:.0f} | {:.0f} | {:+.1f} | {:.2f} | {:.2f} | {} |\n",
               what.prompt, what.warm_up > 0 ? "warm" : "cold", to_string(row.measured.arena),
               what.link / kGiga, row.predicted.tokens_per_second(), row.measured.tokens_per_second,
               100 * row.error(), count(row.predicted.prediction.copied) / kGiga / what.passes,
               count(row.measured.copied) / kGiga, row.same_bytes() ? "equal" : "differ");
  }
}

void print_comparison(const TokenRates& rates, const std::vector<TokensComparison>& rows) {
  fmt::print(
      "rates fitted to generation with everything resident: weights read by the device at {:.4g} "
      "GB/s; processors take {:.3g} times as long as calibrated\n",
      rates.gpu_memory / kGiga, rates.cpu_slower);
  fmt::print(
      "| test | place | arena | link GB/s | predicted t/s | measured t/s | error % | predicted GB "
      "| measured GB | on CPU GB |\n|---|---|---|---|---|---|---|---|---|---|\n");
  for (const TokensComparison& row : rows) {
    const MeasuredTokens& measured = row.measured;
    fmt::print("| {} | {} | {} | {:.4g} | {:.4g} | {:.4g} | {:+.1f} | {:.4g} | {:.4g} | {:.4g} |\n",
               test_text(measured.what), measured.place, to_string(measured.arena),
               measured.what.rates.link.alone / kGiga, row.predicted.tokens_per_second(),
               measured.tokens_per_second, 100 * row.error(),
               measured.what.tokens * count(row.predicted.token.copied) / kGiga,
               count(measured.copied) / kGiga, count(measured.on_cpu) / kGiga);
  }
}

}  // namespace tensor_pager::pager_sim
