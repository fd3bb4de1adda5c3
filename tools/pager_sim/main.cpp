// SPDX-License-Identifier: Apache-2.0
// pager_sim: what a prefill would take with another arena, link, processor or policy.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "command_line/left_out.hpp"
#include "command_line/progress_bar.hpp"
#include "command_line/run_program.hpp"
#include "command_line/values.hpp"
#include "comparison.hpp"
#include "options.hpp"
#include "prediction/machine.hpp"
#include "prediction/prefill.hpp"
#include "qwen/error.hpp"
#include "qwen/model.hpp"

namespace {

using namespace tensor_pager;
using namespace tensor_pager::pager_sim;
using namespace tensor_pager::prediction;
using command_line::ProgressBar;

constexpr double kGiga = 1e9;

/// A case, and what the table calls its policy.
struct NamedCase {
  PrefillCase what;
  std::string policy;
};

struct Row {
  NamedCase named;
  PredictedPrefill predicted;
};

// With what the options say instead.
Machine machine_for(const qwen::Model& model, const Options& options) {
  Machine machine = options.machine == "h200"   ? h200()
                    : options.machine == "this" ? this_machine(options.host)
                                                : machine_of_file(model, options.machine);
  if (!options.link_rates.empty() && !options.arithmetic.empty())
    machine.name = "as the options say";
  if (options.weights_rate) machine.rates.weights_rate = *options.weights_rate;
  if (options.map_seconds) machine.map_seconds = *options.map_seconds;
  return machine;
}

std::vector<double> given_or(const std::vector<double>& given, double rate) {
  return given.empty() ? std::vector<double>{rate} : given;
}

std::vector<NamedCase> cases_of(const Options& options, const Machine& machine) {
  PrefillCase common{.page = options.page,
                     .granularity = options.granularity,
                     .ubatch = options.ubatch,
                     .weights_rate = machine.rates.weights_rate,
                     .map_seconds = machine.map_seconds,
                     .warm_up = options.warm ? kWarmUp : 0,
                     .passes = options.warm ? options.passes : 1};
  std::vector<NamedCase> cases;
  for (const std::uint32_t prompt : options.prompts) {
    for (const std::string& policy : options.policies) {
      for (const double link : given_or(options.link_rates, machine.link)) {
        for (const double arithmetic : given_or(options.arithmetic, machine.rates.arithmetic)) {
          for (const auto& arena : options.arenas) {
            PrefillCase& what = cases.emplace_back(NamedCase{common, policy}).what;
            what.prompt = prompt;
            what.policy = command_line::parse_policy(policy, std::nullopt);
            what.link = link;
            what.arithmetic = arithmetic;
            what.arena = arena;
          }
        }
      }
    }
  }
  return cases;
}

double ratio(double a, double b) {
  return b > 0 ? a / b : 0;
}

double count(Bytes bytes) {
  return static_cast<double>(bytes.count);
}

std::string weights_rate_text(double rate) {
  return rate > 0 ? fmt::format("{:.4g} GB/s", rate / kGiga) : std::string("any rate");
}

void print_table(const Machine& machine, const std::vector<Row>& rows) {
  fmt::print(
      "machine: {}; weights read at {}, {:.0f} us to map a page; link and arithmetic as in the "
      "table\n\n",
      machine.name, weights_rate_text(machine.rates.weights_rate), 1e6 * machine.map_seconds);
  fmt::print(
      "| test | policy | arena | link GB/s | TFLOP/s | t/s | seconds | stall % | hits % | copied "
      "GB "
      "| optimal GB |\n|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const Row& row : rows) {
    const Prediction& p = row.predicted.prediction;
    fmt::print(
        "| pp{} | {} | {} | {:.4g} | {:.4g} | {:.0f} | {:.4f} | {:.1f} | {:.1f} | {:.4g} | {:.4g} "
        "|\n",
        row.named.what.prompt, row.named.policy, to_string(row.predicted.arena),
        row.named.what.link / kGiga, row.named.what.arithmetic / 1e12,
        row.predicted.tokens_per_second(), p.seconds, 100 * ratio(p.stalled, p.seconds),
        100 * ratio(static_cast<double>(p.hits), static_cast<double>(p.accesses)),
        count(p.copied) / kGiga, count(p.optimal) / kGiga);
  }
}

void print_json(const Machine& machine, const std::vector<Row>& rows) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const Row& row : rows) {
    const Prediction& p = row.predicted.prediction;
    all.push_back({{"n_prompt", row.named.what.prompt},
                   {"machine", machine.name},
                   {"policy", row.named.policy},
                   {"arena_bytes", row.predicted.arena.count},
                   {"link_gb_per_s", row.named.what.link / kGiga},
                   {"tflops", row.named.what.arithmetic / 1e12},
                   {"tokens_per_s", row.predicted.tokens_per_second()},
                   {"seconds", p.seconds},
                   {"stall_s", p.stalled},
                   {"link_busy_s", p.link_busy},
                   {"accesses", p.accesses},
                   {"hits", p.hits},
                   {"copied_bytes", p.copied.count},
                   {"optimal_bytes", p.optimal.count}});
  }
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

std::string case_text(const PrefillCase& what) {
  const Bytes* const bytes = std::get_if<Bytes>(&what.arena);
  return fmt::format("pp{} with --arena {}", what.prompt,
                     bytes != nullptr
                         ? fmt::format("{}", bytes->count)
                         : fmt::format("{}%", std::get<qwen::Percent>(what.arena).value));
}

ProgressBar progress(const Options& options, std::size_t cases) {
  return {!options.quiet, "predicting", static_cast<double>(cases), "case"};
}

// Throws if a prediction is farther off than is tolerated.
void compare_with(const qwen::Model& model, const Options& options) {
  const std::vector<MeasuredPrefill> measured = read_measurements(*options.against);
  const StepRates rates = fit_rates(model, measured);
  std::vector<Comparison> rows;
  ProgressBar bar = progress(options, measured.size());
  for (std::size_t i = 0; i < measured.size(); ++i) {
    bar.update(i, measured.size());
    std::ranges::move(
        compare(model, rates, options.map_seconds.value_or(h200().map_seconds), {measured[i]}),
        std::back_inserter(rows));
  }
  bar.clear();
  if (rows.empty()) {
    throw qwen::Error(fmt::format(
        "all {} prefills in {} had everything resident, so there is nothing to predict: "
        "add rows of pager_bench with smaller arenas, --arena 25%,50% say",
        measured.size(), options.against->string()));
  }
  print_comparison(rates, rows);
  const auto off = std::ranges::count_if(rows, [&](const Comparison& row) {
    return !row.same_bytes() || std::abs(row.error()) > options.tolerance;
  });
  if (off > 0) {
    throw qwen::Error(fmt::format("{} of {} predictions are off by more than {:g}%, or in bytes",
                                  off, rows.size(), 100 * options.tolerance));
  }
}

void require_positions(const qwen::Model& model, const Options& options) {
  const std::uint32_t longest = std::ranges::max(options.prompts);
  if (longest <= model.config.context_length) return;
  throw qwen::Error(fmt::format("-p asks for {} positions, more than the model's context of {}",
                                longest, model.config.context_length));
}

void run(const Options& options) {
  const qwen::Model model = qwen::open_model(options.model, options.rope);
  if (options.against) return compare_with(model, options);
  require_positions(model, options);
  const Machine machine = machine_for(model, options);
  std::vector<Row> rows;
  const std::vector<NamedCase> cases = cases_of(options, machine);
  command_line::LeftOut left_out("pager_sim", cases.size());
  ProgressBar bar = progress(options, cases.size());
  for (const NamedCase& named : cases) {
    bar.update(rows.size(), cases.size());
    try {
      rows.push_back({named, predict_prefill(model, named.what)});
    } catch (const qwen::MemoryError& error) {
      bar.clear();
      left_out.add(case_text(named.what), error);
    }
  }
  bar.clear();
  left_out.require_some();
  options.format == Format::json ? print_json(machine, rows) : print_table(machine, rows);
}

}  // namespace

int main(int argc, char** argv) {
  return command_line::run_program(
      "pager_sim", [&] { run(parse_options(argc, argv)); }, "choose a smaller -p or fewer values");
}
