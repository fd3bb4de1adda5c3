// SPDX-License-Identifier: Apache-2.0
// pager_sim: what a prefill or generation would take with another arena, link, processor, placement
// or policy.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "command_line/left_out.hpp"
#include "command_line/note.hpp"
#include "command_line/progress_bar.hpp"
#include "command_line/run_program.hpp"
#include "command_line/values.hpp"
#include "comparison.hpp"
#include "measured_tokens.hpp"
#include "options.hpp"
#include "pager/counted.hpp"
#include "pager/errors.hpp"
#include "prediction/machine.hpp"
#include "prediction/prefill.hpp"
#include "prediction/tokens.hpp"
#include "qwen/error.hpp"
#include "qwen/model.hpp"
#include "simulated_model.hpp"
#include "tables.hpp"

namespace {

using namespace tensor_pager;
using namespace tensor_pager::pager_sim;
using namespace tensor_pager::prediction;
using command_line::ProgressBar;

struct Memory {
  std::variant<Bytes, qwen::Percent> arena{};
  std::optional<Bytes> vram{};
};

// A share of the rate alone is kept beside copies, as before.
void set_rate(loaders::SharedRate& rate, double alone) {
  rate.together = rate.alone > 0 ? alone * rate.together / rate.alone : alone;
  rate.alone = alone;
}

Machine named_machine(const qwen::Model& model, const Options& options) {
  const bool generation = !options.generated.empty();
  if (options.machine == "h200") return h200();
  if (options.machine != "this") {
    return machine_of_file(model, options.machine,
                           generation ? std::optional(options.sequences) : std::nullopt);
  }
  Machine machine = this_machine(options.host);
  if (generation) {
    const auto weights = weights_of(model, options.model);
    machine.generation = measure_generation(model, *weights, machine, options.sequences);
  }
  return machine;
}

// With what the options say instead.
Machine machine_for(const qwen::Model& model, const Options& options) {
  Machine machine = named_machine(model, options);
  if (!options.link_rates.empty() && !options.arithmetic.empty())
    machine.name = "as the options say";
  if (options.weights_rate) {
    machine.rates.weights_rate = *options.weights_rate;
    machine.generation.gpu_memory = *options.weights_rate;
  }
  if (options.cpu_rate) {
    set_rate(machine.generation.cpu, *options.cpu_rate);
    machine.generation.cpu_kernels = kernels_of_all_types();
  }
  if (options.map_seconds) machine.map_seconds = *options.map_seconds;
  return machine;
}

// Processors of machines that were measured with one sequence.
void note_unknown_kernels(const Machine& machine, const Options& options) {
  const auto& kernels = machine.generation.cpu_kernels;
  const auto is_unknown = [](const auto& kernel) { return kernel.second.arithmetic == 0; };
  const bool none = std::ranges::all_of(options.places, [](const qwen::PlaceWish& place) {
    return std::holds_alternative<qwen::OnDevice>(place);
  });
  if (options.generated.empty() || options.sequences == 1 || none) return;
  if (machine.generation.cpu.alone == 0 || !std::ranges::all_of(kernels, is_unknown)) return;
  command_line::note_line(
      "pager_sim",
      "how fast these processors multiply several tokens is not known, so they are taken to be as "
      "fast as with one; rows of pager_bench -np tell (--machine FILE)");
}

std::vector<double> given_or(const std::vector<double>& given, double rate) {
  return given.empty() ? std::vector<double>{rate} : given;
}

// What a run gets: arenas, or all of its memory.
std::vector<Memory> memories(const Options& options) {
  std::vector<Memory> all;
  for (const auto& arena : options.arenas) all.push_back({.arena = arena});
  if (options.vram.empty()) return all;
  all.clear();
  for (const Bytes vram : options.vram) all.push_back({.vram = vram});
  return all;
}

// In which a device keeps keys and values.
kernels::WeightType cache_type(const Options& options) {
  return options.host ? kernels::WeightType::f32 : kernels::WeightType::f16;
}

std::vector<PrefillRow> prefill_cases(const Options& options, const Machine& machine) {
  PrefillCase common{.page = options.page,
                     .granularity = options.granularity,
                     .ubatch = options.ubatch,
                     .host = machine.host,
                     .cache_type = cache_type(options),
                     .weights_rate = machine.rates.weights_rate,
                     .map_seconds = machine.map_seconds,
                     .warm_up = options.warm ? kWarmUp : 0,
                     .passes = options.warm ? options.passes : 1};
  std::vector<PrefillRow> cases;
  for (const std::uint32_t prompt : options.prompts) {
    for (const std::string& policy : options.policies) {
      for (const double link : given_or(options.link_rates, machine.link)) {
        for (const double arithmetic : given_or(options.arithmetic, machine.rates.arithmetic)) {
          for (const Memory& memory : memories(options)) {
            PrefillCase& what = cases.emplace_back(PrefillRow{common, policy, {}}).what;
            what.prompt = prompt;
            what.policy = command_line::parse_policy(policy, std::nullopt);
            what.link = link;
            what.arithmetic = arithmetic;
            what.arena = memory.arena;
            what.vram = memory.vram;
          }
        }
      }
    }
  }
  return cases;
}

std::vector<TokensRow> tokens_cases(const Options& options, const Machine& machine) {
  TokensCase common{.sequences = options.sequences,
                    .page = options.page,
                    .granularity = options.granularity,
                    .cache_type = cache_type(options),
                    .rates = machine.generation,
                    .host = machine.host,
                    .map_seconds = machine.map_seconds};
  std::vector<TokensRow> cases;
  for (const std::uint32_t tokens : options.generated) {
    for (const std::string& policy : options.policies) {
      for (const double link : given_or(options.link_rates, machine.generation.link.alone)) {
        for (const Memory& memory : memories(options)) {
          for (const qwen::PlaceWish& place : options.places) {
            TokensCase& what = cases.emplace_back(TokensRow{common, policy, {}}).what;
            what.tokens = tokens;
            what.policy = command_line::parse_policy(policy, std::nullopt);
            set_rate(what.rates.link, link);
            what.arena = memory.arena;
            what.vram = memory.vram;
            what.place = place;
          }
        }
      }
    }
  }
  return cases;
}

template <class Case>
std::string memory_text(const Case& what) {
  if (what.vram) return fmt::format("--vram {}", what.vram->count);
  const Bytes* const bytes = std::get_if<Bytes>(&what.arena);
  return bytes != nullptr ? fmt::format("--arena {}", bytes->count)
                          : fmt::format("--arena {}%", std::get<qwen::Percent>(what.arena).value);
}

std::string case_text(const PrefillCase& what) {
  return fmt::format("pp{} with {}", what.prompt, memory_text(what));
}

std::string case_text(const TokensCase& what) {
  return fmt::format("{} with {}", test_text(what), memory_text(what));
}

ProgressBar progress(const Options& options, std::size_t cases) {
  return {!options.quiet, "predicting", static_cast<double>(cases), "case"};
}

[[noreturn]] void throw_nothing_to_predict(const Options& options, std::size_t rows) {
  throw qwen::Error(
      fmt::format("{} has {}, everything resident in each, so there is nothing to predict: "
                  "add rows of pager_bench with smaller arenas, --arena 25%,50% say",
                  options.against->string(), counted(rows, "row")));
}

// How many are off by more than is tolerated, or otherwise.
template <class Row, class IsOff>
std::size_t count_off(const std::vector<Row>& rows, const Options& options, const IsOff& is_off) {
  return static_cast<std::size_t>(std::ranges::count_if(rows, [&](const Row& row) {
    return is_off(row) || !(std::abs(row.error()) <= options.tolerance);
  }));
}

// One after another, so that a bar may show how far it has come.
template <class Row, class Measured, class Compare>
std::vector<Row> compare_each(const Options& options, const std::vector<Measured>& measured,
                              const Compare& compare) {
  std::vector<Row> rows;
  ProgressBar bar = progress(options, measured.size());
  for (std::size_t i = 0; i < measured.size(); ++i) {
    bar.update(i, measured.size());
    std::ranges::move(compare({measured[i]}), std::back_inserter(rows));
  }
  bar.clear();
  return rows;
}

// Kernels for several tokens have rates of their own.
std::vector<std::vector<MeasuredTokens>> by_sequences(const std::vector<MeasuredTokens>& rows) {
  std::map<std::uint32_t, std::vector<MeasuredTokens>> groups;
  for (const MeasuredTokens& row : rows) groups[row.what.sequences].push_back(row);
  std::vector<std::vector<MeasuredTokens>> all;
  all.reserve(groups.size());
  for (auto& [sequences, group] : groups) all.push_back(std::move(group));
  return all;
}

// Throws if a prediction is farther off than is tolerated.
void compare_with(const qwen::Model& model, const Options& options) {
  const std::vector<MeasuredPrefill> prefills = read_measurements(*options.against);
  const auto [tokens, left_out] = read_tokens(*options.against);
  if (left_out > 0) {
    command_line::note_line(
        "pager_sim",
        fmt::format("left out: {} of generation behind a prompt; how long attention takes "
                    "is not predicted",
                    counted(left_out, "row")));
  }
  std::size_t off = 0;
  std::size_t compared = 0;
  if (!prefills.empty() || tokens.empty()) {
    const StepRates rates = fit_rates(model, prefills);
    const auto rows =
        compare_each<Comparison>(options, prefills, [&](const std::vector<MeasuredPrefill>& one) {
          return compare(model, rates, options.map_seconds, one);
        });
    if (!rows.empty()) print_comparison(rates, rows);
    off += count_off(rows, options, [](const Comparison& row) { return !row.same_bytes(); });
    compared += rows.size();
  }
  for (const std::vector<MeasuredTokens>& alike : by_sequences(tokens)) {
    const TokenRates rates = fit_tokens(model, alike);
    const auto rows =
        compare_each<TokensComparison>(options, alike, [&](const std::vector<MeasuredTokens>& one) {
          return compare_tokens(model, rates, options.map_seconds, one);
        });
    if (compared > 0 && !rows.empty()) fmt::print("\n");
    if (!rows.empty()) print_comparison(rates, rows);
    off += count_off(rows, options, [](const TokensComparison&) { return false; });
    compared += rows.size();
  }
  if (compared == 0) throw_nothing_to_predict(options, prefills.size() + tokens.size());
  if (off == 0) return;
  throw qwen::Error(fmt::format("{} of {} predictions are off by more than {:g}%, or in bytes", off,
                                compared, 100 * options.tolerance));
}

void require_positions(const qwen::Model& model, const Options& options) {
  std::uint64_t longest = 0;
  for (const std::uint64_t prompt : options.prompts) longest = std::max(longest, prompt);
  for (const std::uint64_t tokens : options.generated) longest = std::max(longest, 1 + tokens);
  if (longest <= model.config.context_length) return;
  throw qwen::Error(
      fmt::format("-p or -n asks for {} positions, more than the model's context of {}; give "
                  "fewer, or make the context longer (--rope-scaling yarn --rope-scale N)",
                  longest, model.config.context_length));
}

// Of one kind; those that do not fit are left out.
template <class Row, class Predict>
std::vector<Row> predict_all(std::vector<Row> cases, const Predict& predict,
                             command_line::LeftOut& left_out, ProgressBar& bar) {
  std::vector<Row> rows;
  for (Row& row : cases) {
    bar.update(rows.size(), cases.size());
    try {
      row.predicted = predict(row.what);
      rows.push_back(std::move(row));
    } catch (const qwen::MemoryError& error) {
      bar.clear();
      left_out.add(case_text(row.what), error);
    }
  }
  bar.clear();
  return rows;
}

void run(const Options& options) {
  const qwen::Model model = simulated_model(options.model, options.rope);
  if (options.against) return compare_with(model, options);
  require_positions(model, options);
  const Machine machine = machine_for(model, options);
  note_unknown_kernels(machine, options);
  const std::vector<PrefillRow> prefills = prefill_cases(options, machine);
  const std::vector<TokensRow> tokens = tokens_cases(options, machine);
  command_line::LeftOut left_out("pager_sim", prefills.size() + tokens.size());
  ProgressBar bar = progress(options, prefills.size());
  const auto predicted_prefills = predict_all(
      prefills, [&](const PrefillCase& what) { return predict_prefill(model, what); }, left_out,
      bar);
  ProgressBar other = progress(options, tokens.size());
  const auto predicted_tokens = predict_all(
      tokens, [&](const TokensCase& what) { return predict_placed_tokens(model, what); }, left_out,
      other);
  left_out.require_some();
  const auto print = options.format == Format::json ? print_json : print_tables;
  print(model, machine, predicted_prefills, predicted_tokens);
}

}  // namespace

int main(int argc, char** argv) {
  return command_line::run_program(
      "pager_sim", [&] { run(parse_options(argc, argv)); },
      "choose a smaller -p or -n, or fewer values");
}
