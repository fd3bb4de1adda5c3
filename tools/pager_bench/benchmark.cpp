#include "benchmark.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "qwen/error.hpp"

namespace tensor_pager::pager_bench {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

bool use_gpu(const Options& options) {
  const bool there = qwen::gpu_count() > 0;
  if (options.device == command_line::DeviceKind::cuda && !there) {
    throw qwen::Error("--device cuda: no GPU was found; use --device host");
  }
  return there && options.device != command_line::DeviceKind::host;
}

// What happened while `work` ran. Copies for steps to come are counted with the run that asked for
// them, but not timed.
template <class Work>
Sample measured(qwen::Inference& inference, const Work& work) {
  const Statistics before = inference.statistics();
  const auto begin = Clock::now();
  work();
  const Seconds time = Clock::now() - begin;
  inference.settle();
  const Statistics after = inference.statistics();
  return {.seconds = time.count(),
          .stalled = Seconds(after.stalled - before.stalled).count(),
          .copied = after.link.copied - before.link.copied,
          .optimal = after.core.optimal - before.core.optimal,
          .link_busy = Seconds(after.link.busy - before.link.busy).count()};
}

}  // namespace

const Sample& Row::median() const {
  std::vector<const Sample*> ordered;
  for (const Sample& sample : samples) ordered.push_back(&sample);
  std::ranges::sort(ordered, {}, &Sample::seconds);
  return *ordered.at((ordered.size() - 1) / 2);
}

double Row::bound_seconds() const {
  const double link = static_cast<double>(median().optimal.count) / rates.link;
  return std::max(link, operations / rates.arithmetic);
}

std::vector<Case> cases_of(const Options& options) {
  std::vector<Case> cases;
  for (const auto& vram : options.vram) {
    for (const auto& arena : options.arenas) {
      for (const double rate : options.link_rates) {
        for (const std::uint32_t prompt : options.prompts) {
          if (prompt > 0) cases.push_back({vram, arena, rate, prompt, 0});
        }
        for (const std::uint32_t generated : options.generated) {
          if (generated > 0) cases.push_back({vram, arena, rate, 0, generated});
        }
      }
    }
  }
  return cases;
}

Benchmark::Benchmark(const qwen::Model& model, const Options& options)
    : model_(model),
      options_(options),
      gpu_(use_gpu(options)),
      rates_(gpu_ ? qwen::measure_cuda_rates(options.gpu) : qwen::measure_host_rates()) {}

// One pass warms the machine up; what stays in the arena is settled after another.
std::uint32_t Benchmark::runs() const {
  return options_.repetitions + (options_.warm ? 2 : 1);
}

qwen::Backend Benchmark::backend(const Case& what) {
  if (!gpu_) return qwen::host_backend(model_, nullptr, what.link_rate);
  qwen::Backend backend = qwen::cuda_backend(
      model_, {.gpu = options_.gpu, .link_bytes_per_second = what.link_rate, .store = store_});
  store_ = backend.store;
  return backend;
}

qwen::MemoryPlan Benchmark::plan(const Case& what, const qwen::Backend& backend) const {
  qwen::MemoryRequest request;
  request.vram_given = what.vram.has_value();
  request.vram = what.vram.value_or(Bytes{backend.free_memory.count / 10 * 9});
  request.arena = what.arena;
  request.page = options_.page;
  request.tokens = std::max(what.prompt, 1U);
  request.context = request.tokens + what.generated;
  request.ubatch = options_.ubatch;
  if (request.context > model_.config.context_length) {
    throw qwen::Error("-p or -n asks for " + std::to_string(request.context) +
                      " positions, more than the model's context of " +
                      std::to_string(model_.config.context_length));
  }
  return qwen::plan_memory(model_, qwen::request_for(backend, model_, request));
}

Row Benchmark::run(const Case& what, const qwen::PassProgress& progress) {
  qwen::Backend made = backend(what);
  qwen::MemoryPlan memory = plan(what, made);
  Row row;
  row.what = what;
  row.arena = what.prompt > 0 ? memory.arena : memory.decode_arena;
  row.page = memory.layout.page;
  row.budget = memory.budget;
  row.ubatch = what.prompt > 0 ? memory.prefill.ubatch : 1;
  row.warm = options_.warm;
  row.rates = rates_;
  if (what.link_rate > 0) row.rates.link = std::min(rates_.link, what.link_rate);
  row.operations = what.prompt > 0 ? qwen::pass_operations(memory.graph, memory.prefill)
                                   : what.generated * qwen::pass_operations(memory.graph, {});
  qwen::Inference inference(model_, std::move(memory), std::move(made),
                            {.policy = options_.policy});
  for (std::size_t i = 0; i < runs(); ++i) {
    const auto part = [&](std::size_t done, std::size_t total) {
      progress(i * total + done, runs() * total);
    };
    const Sample sample =
        what.prompt > 0 ? prefill(inference, part) : generate(inference, what.generated, part);
    if (i + options_.repetitions >= runs()) row.samples.push_back(sample);
  }
  row.peak = inference.statistics().memory.peak;
  return row;
}

Sample Benchmark::prefill(qwen::Inference& inference, const qwen::PassProgress& progress) const {
  std::vector<loaders::TokenId> tokens(inference.plan().prefill.tokens);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = token(i);
  qwen::LastLogits logits(1, model_.config.vocab_size);
  if (!options_.warm) inference.evict_all();
  return measured(inference, [&] { inference.prefill(tokens, logits, progress); });
}

Sample Benchmark::generate(qwen::Inference& inference, std::uint32_t tokens,
                           const qwen::PassProgress& progress) const {
  qwen::LastLogits logits(1, model_.config.vocab_size);
  const loaders::TokenId first = token(0);
  inference.prefill({&first, 1}, logits);
  return measured(inference, [&] {
    for (std::uint32_t i = 0; i < tokens; ++i) {
      inference.decode(token(i + 1), logits);
      progress(i + 1, tokens);
    }
  });
}

loaders::TokenId Benchmark::token(std::size_t index) const {
  return static_cast<loaders::TokenId>((index * 7919 + 5) % model_.config.vocab_size);
}

}  // namespace tensor_pager::pager_bench
