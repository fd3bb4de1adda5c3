// SPDX-License-Identifier: Apache-2.0
#include "command_line/sampling.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>
#include <string_view>
#include <vector>

namespace tensor_pager::command_line {
namespace {

// llama.cpp's.
constexpr float kTemperature = 0.8F;
constexpr std::int32_t kTopK = 40;
constexpr float kTopP = 0.95F;
constexpr float kMinP = 0.05F;
constexpr std::int32_t kRepeatLastN = 64;

std::string key(std::string_view name) {
  return fmt::format("general.sampling.{}", name);
}

std::optional<float> read_number(const loaders::Metadata& metadata, std::string_view name) {
  const auto number = metadata.get_optional<float>(key(name));
  if (number && !std::isfinite(*number)) {
    throw metadata.error(key(name), "is not a finite number; convert the model again");
  }
  return number;
}

std::optional<float> read_positive(const loaders::Metadata& metadata, std::string_view name) {
  const auto number = read_number(metadata, name);
  if (number && *number <= 0) {
    throw metadata.error(
        key(name), fmt::format("{} is not a positive number; convert the model again", *number));
  }
  return number;
}

// Keys that ask for what this program does not have: another order of steps, other samplers.
std::vector<std::string> keys_not_followed(const loaders::Metadata& metadata) {
  std::vector<std::string> keys;
  for (const char* name : {"sequence", "xtc_probability", "xtc_threshold", "mirostat",
                           "mirostat_tau", "mirostat_eta"}) {
    if (metadata.contains(key(name))) keys.push_back(key(name));
  }
  return keys;
}

// Picks numbers, and notes where they are from.
class Picker {
 public:
  template <class T>
  T pick(std::string_view name, std::optional<T> user, std::optional<T> file, T usual) {
    const T value = user.value_or(file.value_or(usual));
    parts_.push_back(
        fmt::format("{} {:g}{}", name, static_cast<double>(value), !user && file ? " (file)" : ""));
    return value;
  }
  std::string text() const { return fmt::format("{}", fmt::join(parts_, ", ")); }

 private:
  std::vector<std::string> parts_;
};

bool wants_filters(const SamplingWishes& wishes) {
  return wishes.top_k || wishes.top_p || wishes.min_p;
}

bool is_neutral(const qwen::Penalties& penalties) {
  return penalties.repeat == 1 && penalties.presence == 0 && penalties.frequency == 0;
}

}  // namespace

SamplingWishes sampling_advice(const loaders::Metadata& metadata) {
  return {.temperature = read_number(metadata, "temp"),
          .top_k = metadata.get_optional<std::int32_t>(key("top_k")),
          .top_p = read_number(metadata, "top_p"),
          .min_p = read_number(metadata, "min_p"),
          .repeat_penalty = read_positive(metadata, "penalty_repeat"),
          .repeat_last_n = metadata.get_optional<std::int32_t>(key("penalty_last_n"))};
}

Sampling choose_sampling(const SamplingWishes& user, const loaders::Metadata& metadata,
                         std::uint64_t seed) {
  const SamplingWishes file = sampling_advice(metadata);
  const float usual = wants_filters(user) || wants_filters(file) ? kTemperature : 0;
  Picker steps;
  Picker penalties;
  Sampling sampling;
  qwen::SamplerOptions& options = sampling.options;
  options.seed = seed;
  options.temperature = steps.pick("temp", user.temperature, file.temperature, usual);
  options.top_k = static_cast<std::size_t>(
      std::max(steps.pick("top-k", user.top_k, file.top_k, kTopK), std::int32_t{0}));
  options.top_p = steps.pick("top-p", user.top_p, file.top_p, kTopP);
  options.min_p = steps.pick("min-p", user.min_p, file.min_p, kMinP);
  options.penalties = {
      .repeat = penalties.pick("repeat", user.repeat_penalty, file.repeat_penalty, 1.0F),
      .presence = penalties.pick<float>("presence", user.presence_penalty, {}, 0),
      .frequency = penalties.pick<float>("frequency", user.frequency_penalty, {}, 0)};
  const std::int32_t last =
      penalties.pick("last", user.repeat_last_n, file.repeat_last_n, kRepeatLastN);
  options.repeat_last_n.reset();
  if (last >= 0) options.repeat_last_n = static_cast<std::size_t>(last);

  sampling.description = options.temperature > 0 ? fmt::format("{}, seed {}", steps.text(), seed)
                                                 : "the most likely token (temp 0)";
  if (!is_neutral(options.penalties)) sampling.description += "; penalties " + penalties.text();
  const std::vector<std::string> ignored = keys_not_followed(metadata);
  if (!ignored.empty()) {
    sampling.description += fmt::format("; not followed: {}", fmt::join(ignored, ", "));
  }
  return sampling;
}

std::uint64_t random_seed() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

}  // namespace tensor_pager::command_line
