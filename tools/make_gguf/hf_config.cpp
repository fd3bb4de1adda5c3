// SPDX-License-Identifier: Apache-2.0
#include "hf_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "loaders/gguf_error.hpp"
#include "loaders/model_config.hpp"
#include "pager/system_error.hpp"

namespace tensor_pager::make_gguf {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kLargestConfig = std::size_t{1} << 20;  // real ones have 1 to 2 KiB
// Far above any model there is; they keep products of sizes far from overflow.
constexpr std::uint32_t kMostLayers = 4096;
constexpr std::uint32_t kMostHeads = 4096;
constexpr std::uint32_t kLongestHead = 4096;
constexpr std::uint32_t kWidest = 1 << 20;
constexpr std::uint32_t kMostTokens = 1 << 24;
constexpr Bytes kLargestModel = GiB(4096);
constexpr std::uint32_t kMostPositions = 1 << 30;
// Of transformers' Qwen2Config and Qwen3Config.
constexpr std::uint32_t kDefaultPositions = 32768;
constexpr double kDefaultTheta = 10000;
constexpr double kDefaultEpsilon = 1e-6;
constexpr std::uint32_t kDefaultQwen3Head = 128;

class Config {
 public:
  explicit Config(const std::filesystem::path& path) : path_(path) {
    json_ = Json::parse(text(), nullptr, /*allow_exceptions=*/false);
    if (json_.is_object()) return;
    throw error("", "is no JSON object; give the config.json of a model");
  }

  loaders::GgufError error(std::string_view key, const std::string& problem) const {
    return {path_, std::string(key), std::nullopt, problem};
  }

  std::string model_type() const {
    constexpr std::string_view kKey = "model_type";
    const Json* const value = find(kKey);
    if (value != nullptr && value->is_string()) return value->get<std::string>();
    throw error(kKey, "is missing, or no text; give the config.json of a model");
  }

  std::uint32_t count(std::string_view key, std::uint32_t most) const {
    const Json* const value = find(key);
    if (value == nullptr) {
      throw error(key, "is missing; give the config.json of a Qwen2, Qwen2.5 or Qwen3 model");
    }
    const bool possible = value->is_number_unsigned() && value->get<std::uint64_t>() >= 1 &&
                          value->get<std::uint64_t>() <= most;
    if (possible) return value->get<std::uint32_t>();
    throw error(key, fmt::format("must be a whole number from 1 to {}; mend it", most));
  }
  std::uint32_t count_or(std::string_view key, std::uint32_t most, std::uint32_t fallback) const {
    return find(key) == nullptr ? fallback : count(key, most);
  }

  float positive_or(std::string_view key, double fallback) const {
    const Json* const value = find(key);
    if (value == nullptr) return static_cast<float>(fallback);
    if (value->is_number()) {
      const auto number = value->get<float>();
      if (std::isfinite(number) && number > 0) return number;
    }
    throw error(key, "must be a positive number; mend it");
  }

  bool flag_or(std::string_view key, bool fallback) const {
    const Json* const value = find(key);
    if (value == nullptr) return fallback;
    if (value->is_boolean()) return value->get<bool>();
    throw error(key, "must be true or false; mend it");
  }

 private:
  // transformers writes null for what has its default.
  const Json* find(std::string_view key) const {
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }

  // Other files than these are not waited for, and not read to their end.
  std::string text() const {
    std::error_code failed;
    const auto status = std::filesystem::status(path_, failed);
    if (!std::filesystem::exists(status) || std::filesystem::is_directory(status)) {
      const int cause = failed ? failed.value() : std::filesystem::exists(status) ? EISDIR : ENOENT;
      throw error("",
                  fmt::format("cannot open: {}; give the config.json of a model", cause_of(cause)));
    }
    if (!std::filesystem::is_regular_file(status)) {
      throw error("", "not a regular file; give the config.json of a model");
    }
    errno = 0;
    std::ifstream in(path_, std::ios::binary);
    if (!in) {
      throw error("",
                  fmt::format("cannot open: {}; give the config.json of a model", cause_of(errno)));
    }
    std::string text(kLargestConfig + 1, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(in.gcount()));
    if (text.size() <= kLargestConfig) return text;
    throw error("", fmt::format("has more than {} bytes, which no configuration has; give the "
                                "config.json of a model",
                                kLargestConfig));
  }

  std::filesystem::path path_;
  Json json_;
};

// GGUF's names have no underscores: qwen2_moe is qwen2moe there.
std::string gguf_name(std::string model_type) {
  std::erase(model_type, '_');
  return model_type;
}

// Those of a model that is not run are the error of its file.
std::string read_architecture(const Config& config) {
  const auto error = [&](const std::string& problem) {
    return config.error("model_type", problem);
  };
  const auto& architecture = loaders::find_architecture(gguf_name(config.model_type()), error);
  loaders::require_dense(architecture, error);
  return std::string(architecture.name);
}

std::uint32_t read_head_length(const Config& config, const ModelDesign& design) {
  const ModelSizes& sizes = design.sizes;
  if (design.architecture.qk_norm)
    return config.count_or("head_dim", kLongestHead, kDefaultQwen3Head);
  if (sizes.embedding % sizes.heads == 0) return sizes.embedding / sizes.heads;
  throw config.error(
      "num_attention_heads",
      fmt::format("{} heads do not divide hidden_size {}; mend it", sizes.heads, sizes.embedding));
}

std::uint32_t read_kv_heads(const Config& config, std::uint32_t heads) {
  constexpr std::string_view kKey = "num_key_value_heads";
  const std::uint32_t kv_heads = config.count_or(kKey, heads, heads);
  if (heads % kv_heads == 0) return kv_heads;
  throw config.error(
      kKey, fmt::format("{} do not divide num_attention_heads {}; mend it", kv_heads, heads));
}

// Planning goes through all rows.
void require_possible(const Config& config, const ModelDesign& design) {
  Bytes weights;
  for (const RandomTensor& tensor : tensors_of(design)) weights += padded_bytes(tensor);
  if (weights <= kLargestModel) return;
  throw config.error("", fmt::format("describes {} of weights, more than any model has; give the "
                                     "config.json of a model",
                                     to_string(weights)));
}

}  // namespace

ModelDesign read_hf_config(const std::filesystem::path& path, const std::string& type) {
  const Config config(path);
  const std::string architecture = read_architecture(config);
  ModelDesign design{.architecture = find_architecture(architecture),
                     .type = find_type(type),
                     .sizes = {},
                     .name = fmt::format("{} as {}", path.string(), type)};
  ModelSizes& sizes = design.sizes;
  sizes.layers = config.count("num_hidden_layers", kMostLayers);
  sizes.embedding = config.count("hidden_size", kWidest);
  sizes.feed_forward = config.count("intermediate_size", kWidest);
  sizes.heads = config.count("num_attention_heads", kMostHeads);
  sizes.kv_heads = read_kv_heads(config, sizes.heads);
  sizes.head_length = read_head_length(config, design);
  sizes.vocabulary = config.count("vocab_size", kMostTokens);
  design.tied = config.flag_or("tie_word_embeddings", false);
  design.context = config.count_or("max_position_embeddings", kMostPositions, kDefaultPositions);
  design.rope_freq_base = config.positive_or("rope_theta", kDefaultTheta);
  design.rms_epsilon = config.positive_or("rms_norm_eps", kDefaultEpsilon);
  require_possible(config, design);
  return design;
}

}  // namespace tensor_pager::make_gguf
