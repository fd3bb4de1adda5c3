// SPDX-License-Identifier: Apache-2.0
#include "report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "command_line/json.hpp"
#include "command_line/values.hpp"
#include "prediction/rates_json.hpp"

namespace tensor_pager::pager_bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kGiga = 1e9;

double count(Bytes bytes) {
  return static_cast<double>(bytes.count);
}

struct Spread {
  double mean = 0;
  double deviation = 0;  // of a sample
  double median = 0;
};

Spread spread(std::vector<double> values) {
  std::ranges::sort(values);
  Spread s;
  for (const double v : values) s.mean += v / static_cast<double>(values.size());
  for (const double v : values) s.deviation += (v - s.mean) * (v - s.mean);
  s.deviation =
      values.size() < 2 ? 0 : std::sqrt(s.deviation / static_cast<double>(values.size() - 1));
  s.median = (values.at((values.size() - 1) / 2) + values.at(values.size() / 2)) / 2;
  return s;
}

std::vector<double> seconds(const Row& row) {
  std::vector<double> values;
  for (const Sample& sample : row.samples) values.push_back(sample.seconds);
  return values;
}

std::vector<double> rates(const Row& row) {
  std::vector<double> values;
  for (const Sample& sample : row.samples) values.push_back(row.tokens() / sample.seconds);
  return values;
}

double link_rate(const Sample& sample) {
  return sample.link_busy > 0 ? count(sample.copied) / sample.link_busy / kGiga : 0;
}

// What all rows have in common.
struct Subject {
  std::string file;
  std::string type;
  double bytes = 0;
  double parameters = 0;
  std::string device;

  Subject(const qwen::Model& model, std::string device_kind)
      : file(model.gguf.files().front().path.string()),
        type(fmt::format("{} {}", loaders::to_string(model.config.architecture),
                         qwen::file_type(model.gguf))),
        bytes(count(model.gguf.weights_bytes())),
        device(std::move(device_kind)) {
    for (const loaders::TensorInfo& tensor : model.gguf.tensors()) {
      parameters += static_cast<double>(tensor.rows()) * static_cast<double>(tensor.ne[0]);
    }
  }
};

Json to_json(const Subject& subject, const Row& row) {
  const Sample& median = row.median();
  const Spread time = spread(seconds(row));
  const Spread rate = spread(rates(row));
  const auto nanoseconds = [](double s) { return static_cast<std::uint64_t>(s * 1e9); };
  std::vector<std::uint64_t> samples;
  for (const double s : seconds(row)) samples.push_back(nanoseconds(s));
  Json json;
  json["model_filename"] = subject.file;
  json["model_type"] = subject.type;
  json["model_size"] = subject.bytes;
  json["model_n_params"] = subject.parameters;
  json["backends"] = subject.device;
  json["n_ubatch"] = row.ubatch;
  json["warm"] = row.warm;
  json["n_prompt"] = row.what.prompt;
  json["n_gen"] = row.what.generated;
  json["n_parallel"] = row.what.sequences;
  json["n_depth"] = row.what.depth;
  json["avg_ns"] = nanoseconds(time.mean);
  json["stddev_ns"] = nanoseconds(time.deviation);
  json["median_ns"] = nanoseconds(time.median);
  json["avg_ts"] = rate.mean;
  json["stddev_ts"] = rate.deviation;
  json["median_ts"] = rate.median;
  json["samples_ns"] = samples;
  json["samples_ts"] = rates(row);
  json["vram_bytes"] = row.budget.count;
  json["peak_bytes"] = row.peak.count;
  json["arena_bytes"] = row.arena.count;
  json["page_bytes"] = row.page.count;
  json["link_limit_gb_per_s"] = row.what.link_rate / kGiga;
  json["copied_bytes"] = median.copied.count;
  json["optimal_bytes"] = median.optimal.count;
  json["link_gb_per_s"] = link_rate(median);
  json["stall_fraction"] = median.stalled / median.seconds;
  json["processor_wait_s"] = median.usage.waited;
  json["disk_bytes"] = median.usage.disk.count;
  json["bound_link_s"] = row.bound().link;
  json["bound_memory_s"] = row.bound().memory;
  json["bound_compute_s"] = row.bound().arithmetic;
  json["bound_fraction"] = row.fraction();
  json["limit"] = row.limit();
  // Rows of a table have the same columns, whatever was asked of them.
  const loaders::PlacementPrediction predicted =
      row.places ? row.places->predicted : loaders::PlacementPrediction{};
  json["place"] = command_line::place_text(row.place);
  json["prefetch_depth"] = row.places ? row.places->places.prefetch_depth : 0;
  json["cpu_layers"] = row.cpu_layers;
  json["placement_rates"] =
      row.placement_rates ? prediction::rates_json(*row.placement_rates) : Json::object();
  json["on_cpu_bytes"] = predicted.on_cpu.count;
  json["predicted_s"] = row.what.generated * predicted.seconds;
  json["bound_joint_s"] = row.bound().joint;
  json["doubt"] = row.doubt();
  json["calibrated_link_gb_per_s"] = row.rates.link / kGiga;
  json["calibrated_memory_gb_per_s"] = row.rates.memory / kGiga;
  json["calibrated_tflops"] = row.rates.arithmetic / 1e12;
  return json;
}

class Markdown final : public Report {
 public:
  explicit Markdown(Subject subject) : subject_(std::move(subject)) {}

  void begin() override {
    fmt::print(
        "| model | size | params | backend | arena | ubatch | test | t/s | copied GB | link GB/s "
        "| stall % | bound t/s | of bound % | limit |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
  }
  void add(const Row& row) override {
    const Sample& median = row.median();
    const Spread rate = spread(rates(row));
    std::string device = subject_.device;
    if (row.what.link_rate > 0) {
      device += fmt::format(", link {:g} GB/s", row.what.link_rate / kGiga);
    }
    if (row.places && row.places->predicted.on_cpu > Bytes{0}) {
      device += fmt::format(", {} on the CPU", to_string(row.places->predicted.on_cpu));
    }
    fmt::print(
        "| {} | {} | {:.2f} B | {} | {} | {} | {} | {:.1f} ± {:.1f} | {:.2f} | {:.1f} | {:.1f} "
        "| {:.0f} | {:.1f}{} | {} |\n",
        subject_.type, to_string(Bytes{static_cast<std::uint64_t>(subject_.bytes)}),
        subject_.parameters / 1e9, device, to_string(row.arena), row.ubatch, row.what.name(),
        rate.median, rate.deviation, count(median.copied) / kGiga, link_rate(median),
        100 * median.stalled / median.seconds, row.tokens() / row.bound().seconds(),
        100 * row.fraction(), row.doubt().empty() ? "" : " ?", row.limit());
    std::fflush(stdout);
    if (!row.doubt().empty()) {
      doubts_ += fmt::format("? {}, {}: not to be trusted, since {}\n", row.what.name(),
                             to_string(row.arena), row.doubt());
    }
  }
  void end() override {
    if (!doubts_.empty()) fmt::print("\n{}", doubts_);
  }

 private:
  Subject subject_;
  std::string doubts_;  // behind the table
};

class JsonArray final : public Report {
 public:
  explicit JsonArray(Subject subject) : subject_(std::move(subject)) {}

  void add(const Row& row) override { rows_.push_back(to_json(subject_, row)); }
  void end() override { fmt::print("{}\n", command_line::to_text(rows_)); }

 private:
  Subject subject_;
  Json rows_ = Json::array();
};

class JsonLines final : public Report {
 public:
  explicit JsonLines(Subject subject) : subject_(std::move(subject)) {}

  void add(const Row& row) override {
    fmt::print("{}\n", command_line::to_text(to_json(subject_, row), -1));
    std::fflush(stdout);
  }

 private:
  Subject subject_;
};

// The fields of the JSON objects; lists and objects are left to those.
class Csv final : public Report {
 public:
  explicit Csv(Subject subject) : subject_(std::move(subject)) {}

  void add(const Row& row) override {
    std::string names;
    std::string values;
    const Json json = to_json(subject_, row);
    for (const auto& [name, value] : json.items()) {
      if (value.is_structured()) continue;
      const char* const separator = names.empty() ? "" : ",";
      names += separator + name;
      values += separator + (value.is_string() ? quoted(value.get<std::string>()) : value.dump());
    }
    if (!std::exchange(headed_, true)) fmt::print("{}\n", names);
    fmt::print("{}\n", values);
    std::fflush(stdout);
  }

 private:
  static std::string quoted(const std::string& text) {
    std::string result = "\"";
    for (const char c : text) result += c == '"' ? std::string("\"\"") : std::string(1, c);
    return result + "\"";
  }

  Subject subject_;
  bool headed_ = false;
};

}  // namespace

std::unique_ptr<Report> make_report(Format format, const qwen::Model& model,
                                    const std::string& device) {
  Subject subject(model, device);
  switch (format) {
    case Format::md:
      return std::make_unique<Markdown>(std::move(subject));
    case Format::csv:
      return std::make_unique<Csv>(std::move(subject));
    case Format::json:
      return std::make_unique<JsonArray>(std::move(subject));
    case Format::jsonl:
      return std::make_unique<JsonLines>(std::move(subject));
  }
  return nullptr;
}

std::string describe(const qwen::MachineRates& rates) {
  return fmt::format("link {:.1f} GB/s, memory {:.4g} GB/s, arithmetic {:.4g} TFLOP/s",
                     rates.link / kGiga, rates.memory / kGiga, rates.arithmetic / 1e12);
}

std::string calibration(Format format, const std::string& device, const qwen::MachineRates& first,
                        const qwen::MachineRates& second) {
  const qwen::MachineRates rates = qwen::best_of(first, second);
  const double differ = qwen::disagreement(first, second);
  const std::string doubt =
      differ > kAgreement
          ? fmt::format("two measurements differ by {:.0f}%: the machine does other work",
                        100 * differ)
          : "";
  if (format == Format::md) {
    return describe(rates) + (doubt.empty() ? "" : "; not to be trusted: " + doubt);
  }
  const Json json = {{"backends", device},
                     {"calibrated_link_gb_per_s", rates.link / kGiga},
                     {"calibrated_memory_gb_per_s", rates.memory / kGiga},
                     {"calibrated_tflops", rates.arithmetic / 1e12},
                     {"doubt", doubt}};
  if (format != Format::csv) return command_line::to_text(json, format == Format::jsonl ? -1 : 2);
  return fmt::format(
      "backends,calibrated_link_gb_per_s,calibrated_memory_gb_per_s,"
      "calibrated_tflops,doubt\n{},{},{},{},\"{}\"",
      device, rates.link / kGiga, rates.memory / kGiga, rates.arithmetic / 1e12, doubt);
}

}  // namespace tensor_pager::pager_bench
