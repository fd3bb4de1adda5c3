// SPDX-License-Identifier: Apache-2.0
#include "prediction/rates_json.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/tensor_type.hpp"

namespace tensor_pager::prediction {
namespace {

using Json = nlohmann::ordered_json;
using loaders::PlacementRates;
using loaders::SharedRate;
using loaders::TensorType;

Json json_of(const SharedRate& rate) {
  return {{"alone", rate.alone}, {"together", rate.together}};
}

SharedRate shared_rate(const Json& json) {
  return {.alone = json.at("alone"), .together = json.at("together")};
}

std::optional<TensorType> type_of(std::string_view name) {
  constexpr std::uint32_t kNumbers = 64;  // more than there are
  for (std::uint32_t number = 0; number < kNumbers; ++number) {
    const auto type = loaders::tensor_type_from_number(number);
    if (type && loaders::to_string(*type) == name) return type;
  }
  return std::nullopt;
}

bool possible(const PlacementRates& rates) {
  std::vector<double> all = {rates.link.together,  rates.cpu.alone, rates.cpu.together,
                             rates.gpu_arithmetic, rates.gpu_step,  rates.handover};
  for (const auto& [type, kernel] : rates.cpu_kernels) {
    all.push_back(kernel.weights);
    all.push_back(kernel.arithmetic);
  }
  return std::isfinite(rates.link.alone) && rates.link.alone > 0 &&
         std::isfinite(rates.gpu_memory) && rates.gpu_memory > 0 &&
         std::ranges::all_of(all, [](double rate) { return std::isfinite(rate) && rate >= 0; });
}

}  // namespace

Json rates_json(const PlacementRates& rates) {
  Json kernels = Json::object();
  for (const auto& [type, kernel] : rates.cpu_kernels) {
    kernels[std::string(to_string(type))] = {{"weights", kernel.weights},
                                             {"arithmetic", kernel.arithmetic}};
  }
  return {{"link", json_of(rates.link)},
          {"cpu", json_of(rates.cpu)},
          {"cpu_kernels", kernels},
          {"gpu_memory", rates.gpu_memory},
          {"gpu_arithmetic", rates.gpu_arithmetic},
          {"gpu_step", rates.gpu_step},
          {"handover", rates.handover}};
}

PlacementRates rates_from_json(const Json& json) {
  PlacementRates rates{.link = shared_rate(json.at("link")), .cpu = shared_rate(json.at("cpu"))};
  for (const auto& [name, kernel] : json.at("cpu_kernels").items()) {
    const std::optional<TensorType> type = type_of(name);
    if (!type) continue;
    rates.cpu_kernels[*type] = {.weights = kernel.at("weights"),
                                .arithmetic = kernel.at("arithmetic")};
  }
  rates.gpu_memory = json.at("gpu_memory");
  rates.gpu_arithmetic = json.at("gpu_arithmetic");
  rates.gpu_step = json.at("gpu_step");
  rates.handover = json.at("handover");
  if (possible(rates)) return rates;
  throw std::invalid_argument("a rate is not one that can be measured");
}

}  // namespace tensor_pager::prediction
