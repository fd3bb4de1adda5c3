// SPDX-License-Identifier: Apache-2.0
#include "prediction/rates_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "output/replacement_file.hpp"
#include "prediction/rates_json.hpp"

namespace tensor_pager::prediction {
namespace {

using Json = nlohmann::ordered_json;
using loaders::PlacementRates;
using loaders::TensorType;

constexpr int kVersion = 3;

// FNV-1a: the same on every machine, unlike std::hash.
std::uint64_t hash(const std::string& text) {
  std::uint64_t value = 0xcbf29ce484222325;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return value;
}

std::string types_text(const RatesKey& key) {
  std::string text;
  for (const TensorType type : key.types) {
    if (!text.empty()) text += ' ';
    text += to_string(type);
  }
  return text;
}

// Of the machine and the model: versions may change, and the file with them.
std::string file_name(const RatesKey& key) {
  return fmt::format("rates-{:016x}.json",
                     hash(fmt::format("{}\n{}\n{}\n{}\n{}", key.cpu, key.cores, key.gpu,
                                      types_text(key), key.sequences)));
}

Json json_of(const RatesKey& key) {
  return {{"cpu", key.cpu},
          {"cores", key.cores},
          {"gpu", key.gpu},
          {"driver", key.driver},
          {"program", key.program},
          {"types", types_text(key)},
          {"sequences", key.sequences}};
}

// What of the key is not that of the file; nothing if all is.
std::string difference(const Json& stored, const RatesKey& key) {
  const Json own = json_of(key);
  for (const auto& [name, value] : own.items()) {
    if (stored.at(name) != value) return name;
  }
  return {};
}

}  // namespace

RatesFile::RatesFile(const std::filesystem::path& folder, RatesKey key) : key_(std::move(key)) {
  std::ranges::sort(key_.types);
  key_.types.erase(std::unique(key_.types.begin(), key_.types.end()), key_.types.end());
  path_ = folder / file_name(key_);
}

StoredRates RatesFile::read() const {
  std::error_code ignored;
  const bool is_file = std::filesystem::is_regular_file(path_, ignored);
  if (std::filesystem::exists(path_, ignored) && !is_file) {
    return {.rates = {}, .why_not = "something else has the file's place"};
  }
  std::ifstream in(path_);
  if (!in) return {.rates = {}, .why_not = "none were stored"};
  const Json json = Json::parse(in, nullptr, /*allow_exceptions=*/false);
  try {
    if (json.at("version") != kVersion)
      return {.rates = {}, .why_not = "another program stored them"};
    const std::string other = difference(json.at("measured"), key_);
    if (!other.empty())
      return {.rates = {}, .why_not = fmt::format("they were measured with another {}", other)};
    return {.rates = rates_from_json(json.at("rates")), .date = json.at("date"), .why_not = {}};
  } catch (const Json::exception&) {
    // It lacks something.
  } catch (const std::invalid_argument&) {
    // It has what cannot be.
  }
  return {.rates = {}, .why_not = "the file is damaged"};
}

void RatesFile::write(const PlacementRates& rates, const std::string& date) const {
  std::error_code ignored;  // what cannot be created cannot be written to either, which is reported
  std::filesystem::create_directories(path_.parent_path(), ignored);
  const Json json = {{"version", kVersion},
                     {"date", date},
                     {"measured", json_of(key_)},
                     {"rates", rates_json(rates)}};
  const std::string text = json.dump(1, ' ', false, Json::error_handler_t::replace);
  output::ReplacementFile file(path_);
  file.write([&](std::ostream& out) { out << text << '\n'; });
  file.commit();
}

std::optional<std::filesystem::path> rates_folder(const char* cache_home, const char* home) {
  // The specification has relative paths ignored.
  if (cache_home != nullptr && std::filesystem::path(cache_home).is_absolute())
    return std::filesystem::path(cache_home) / "tensor-pager";
  if (home != nullptr && std::filesystem::path(home).is_absolute())
    return std::filesystem::path(home) / ".cache" / "tensor-pager";
  return std::nullopt;
}

}  // namespace tensor_pager::prediction
