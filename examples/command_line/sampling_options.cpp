// SPDX-License-Identifier: Apache-2.0
#include "command_line/sampling_options.hpp"

#include <CLI/CLI.hpp>
#include <cmath>

#include "command_line/checks.hpp"
#include "command_line/values.hpp"

namespace tensor_pager::command_line {

void SamplingArguments::add(CLI::App& app) {
  add_penalties(app);
  add_filters(app);
  add_draw(app);
}

void SamplingArguments::add_penalties(CLI::App& app) {
  app.add_option("--repeat-penalty", wishes_.repeat_penalty,
                 "Divides logits above 0 of tokens that came lately, multiplies others; at "
                 "temperature 0, too; 1: nothing")
      ->check(positive())
      ->check(finite())
      ->default_str("the file's advice, else 1")
      ->type_name("R");
  app.add_option("--presence-penalty", wishes_.presence_penalty,
                 "Taken from the logit of a token that came lately")
      ->check(finite())
      ->default_str("0")
      ->type_name("R");
  app.add_option("--frequency-penalty", wishes_.frequency_penalty,
                 "Taken from it for each time that it came")
      ->check(finite())
      ->default_str("0")
      ->type_name("R");
  app.add_option("--repeat-last-n", wishes_.repeat_last_n,
                 "Lately: among so many last tokens, prompt included; -1: all")
      ->check(not_negative_or_minus_one("all tokens"))
      ->default_str("the file's advice, else 64")
      ->type_name("N");
}

void SamplingArguments::add_filters(CLI::App& app) {
  app.add_option("--top-k", wishes_.top_k, "Choose from the K most likely tokens; 0 or -1: all")
      ->check(not_negative_or_minus_one("all tokens"))
      ->default_str("the file's advice, else " + defaults_.top_k)
      ->type_name("K");
  app.add_option("--top-p", wishes_.top_p,
                 "Of them, from the most likely that together have this probability; 1: all")
      ->check(in_range(0, 1))
      ->default_str("the file's advice, else " + defaults_.top_p)
      ->type_name("P");
  app.add_option("--min-p", wishes_.min_p,
                 "Of them, from those this many times as likely as the most likely; 0: all")
      ->check(in_range(0, 1))
      ->default_str("the file's advice, else " + defaults_.min_p)
      ->type_name("P");
}

void SamplingArguments::add_draw(CLI::App& app) {
  app.add_option("--temp", wishes_.temperature, "Temperature; 0 takes the most likely token")
      ->default_str("the file's advice; else " + defaults_.temperature)
      ->type_name("T");
  app.add_option(
         "-s,--seed", seed_,
         "Seed of the sampler: equal seeds, equal text; -1: another each time, which is said")
      ->capture_default_str()
      ->type_name("S");
}

SamplingWishes SamplingArguments::wishes() const {
  const float temperature = wishes_.temperature.value_or(0);
  if (!std::isfinite(temperature) || temperature < 0) {
    throw UsageError("--temp must be 0 or more");
  }
  return wishes_;
}

std::optional<std::uint64_t> SamplingArguments::seed() const {
  return parse_seed(seed_);
}

}  // namespace tensor_pager::command_line
