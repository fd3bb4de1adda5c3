// pager_sim: what a prefill would take with another arena, link, processor or policy.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "command_line/run_program.hpp"
#include "options.hpp"
#include "pager/pager.hpp"
#include "prediction.hpp"
#include "qwen/memory_plan.hpp"
#include "qwen/model.hpp"
#include "qwen/rates.hpp"

namespace {

using namespace tensor_pager;
using namespace tensor_pager::pager_sim;

constexpr double kGiga = 1e9;

struct Case {
  std::variant<Bytes, qwen::Percent> arena;
  std::string policy;
  std::uint32_t prompt = 0;
  double link = 0;
  double arithmetic = 0;
};

struct Row {
  Case what;
  Bytes arena;
  std::uint32_t tokens = 0;  // of the passes counted
  Prediction prediction;
};

std::vector<Case> cases_of(const Options& options) {
  std::vector<Case> cases;
  for (const std::uint32_t prompt : options.prompts) {
    for (const std::string& policy : options.policies) {
      for (const double link : options.link_rates) {
        for (const double arithmetic : options.arithmetic) {
          for (const auto& arena : options.arenas) {
            cases.push_back({arena, policy, prompt, link, arithmetic});
          }
        }
      }
    }
  }
  return cases;
}

// As qwen_prefill would lay it out, memory beside the arena being plentiful.
qwen::MemoryPlan plan_for(const qwen::Model& model, const Options& options, const Case& what) {
  qwen::MemoryRequest request;
  request.vram = GiB(1U << 20);
  request.arena = what.arena;
  request.page = options.page;
  request.page_granularity = options.granularity;
  request.tokens = what.prompt;
  request.context = what.prompt;
  request.ubatch = std::min(options.ubatch, what.prompt);
  return qwen::plan_memory(model, request);
}

Row predict_case(const qwen::Model& model, const Options& options, const Case& what) {
  const qwen::MemoryPlan plan = plan_for(model, options, what);
  const qwen::PassSize& size = plan.prefill;
  const std::uint32_t ubatches = (size.tokens + size.ubatch - 1) / size.ubatch;
  std::vector<double> seconds;
  for (const loaders::ScheduledStep& entry : loaders::schedule(plan.graph, ubatches)) {
    const loaders::Step& step = plan.graph.steps[entry.step];
    double time = qwen::step_operations(plan.graph, step, size, entry.ubatch) / what.arithmetic;
    for (const loaders::WeightSlice& slice : step.weights) {
      if (options.weights_rate > 0) {
        time += static_cast<double>(slice.bytes.size.count) / options.weights_rate;
      }
    }
    seconds.push_back(time);
  }
  CoreOptions core{.layout = plan.layout};
  core.frames = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(plan.arena / plan.layout.page, plan.layout.page_count()));
  core.policy = command_line::parse_policy(what.policy, std::nullopt);
  core.pages_per_copy = pages_per_copy(plan.layout.page);
  const AccessPlan access =
      loaders::access_plan(plan.graph, {.ubatches = ubatches, .ubatch_tokens = size.ubatch});
  const std::uint32_t passes = options.warm ? options.passes : 1;
  Row row{.what = what, .arena = plan.arena, .tokens = size.tokens * passes, .prediction = {}};
  row.prediction = predict(core, access, seconds,
                           {.link = what.link, .copy_latency = 10e-6, .map = options.map_seconds},
                           options.warm ? 1 : 0, passes);
  return row;
}

double ratio(double a, double b) {
  return b > 0 ? a / b : 0;
}

double count(Bytes bytes) {
  return static_cast<double>(bytes.count);
}

void print_table(const std::vector<Row>& rows) {
  fmt::print(
      "| test | policy | arena | link GB/s | TFLOP/s | t/s | seconds | stall % | hits % | copied "
      "GB "
      "| optimal GB |\n|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const Row& row : rows) {
    const Prediction& p = row.prediction;
    fmt::print(
        "| pp{} | {} | {} | {:.1f} | {:.0f} | {:.0f} | {:.4f} | {:.1f} | {:.1f} | {:.2f} | {:.2f} "
        "|\n",
        row.what.prompt, row.what.policy, to_string(row.arena), row.what.link / kGiga,
        row.what.arithmetic / 1e12, row.tokens / p.seconds, p.seconds,
        100 * ratio(p.stalled, p.seconds),
        100 * ratio(static_cast<double>(p.hits), static_cast<double>(p.accesses)),
        count(p.copied) / kGiga, count(p.optimal) / kGiga);
  }
}

void print_json(const std::vector<Row>& rows) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const Row& row : rows) {
    const Prediction& p = row.prediction;
    all.push_back({{"n_prompt", row.what.prompt},
                   {"policy", row.what.policy},
                   {"arena_bytes", row.arena.count},
                   {"link_gb_per_s", row.what.link / kGiga},
                   {"tflops", row.what.arithmetic / 1e12},
                   {"tokens_per_s", row.tokens / p.seconds},
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

void run(const Options& options) {
  const qwen::Model model = qwen::open_model(options.model);
  std::vector<Row> rows;
  for (const Case& what : cases_of(options)) rows.push_back(predict_case(model, options, what));
  options.format == Format::json ? print_json(rows) : print_table(rows);
}

}  // namespace

int main(int argc, char** argv) {
  return command_line::run_program(
      "pager_sim", [&] { run(parse_options(argc, argv)); }, "choose a smaller -p or fewer values");
}
