// SPDX-License-Identifier: Apache-2.0
#include "benchmark.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "command_line/model_device.hpp"
#include "command_line/note.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::pager_bench {
namespace {

using command_line::gpu_of;
using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

// What happened while `work` ran. Copies for steps to come are counted with the run that asked for
// them, but not timed.
template <class Work>
Sample measured(qwen::Inference& inference, const Work& work) {
  const Statistics before = inference.statistics();
  const qwen::ProcessUsage usage = qwen::process_usage();
  const auto begin = Clock::now();
  work();
  const Seconds time = Clock::now() - begin;
  inference.settle();
  const Statistics after = inference.statistics();
  return {.seconds = time.count(),
          .stalled = Seconds(after.stalled - before.stalled).count(),
          .copied = after.link.copied - before.link.copied,
          .optimal = after.core.optimal - before.core.optimal,
          .link_busy = Seconds(after.link.busy - before.link.busy).count(),
          .usage = qwen::process_usage() - usage};
}

// Of the prompt before a generation at a time: more would only take more memory.
constexpr std::uint32_t kDepthPiece = 2048;

// Keys and values that a token of each sequence reads, half-way through the generation.
double kept_bytes(const Case& what, const qwen::MemoryPlan& memory) {
  if (what.prompt > 0) return 0;
  const double before = what.depth + what.generated / 2.0;
  return static_cast<double>(memory.kv_cache.count) * before / memory.context;
}

// 0: as fast as it is. On the host a thread imitates the link, which gets the processors as rarely
// beside others as when it copies faster.
loaders::PlacementRates over_link(loaders::PlacementRates rates, double limit, bool gpu) {
  loaders::SharedRate& link = rates.link;
  if (limit <= 0 || limit >= link.alone) return rates;
  link.together = gpu ? std::min(link.together, limit) : limit * link.together / link.alone;
  link.alone = limit;
  return rates;
}

std::vector<std::uint32_t> layers_on_cpu(const loaders::Graph& graph,
                                         const loaders::Places& places) {
  std::vector<std::uint32_t> layers;
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (places[i] != loaders::Place::cpu) continue;
    const std::uint32_t layer = graph.steps[i].layer;
    if (layers.empty() || layers.back() != layer) layers.push_back(layer);
  }
  return layers;
}

}  // namespace

qwen::MachineRates measure_rates(const command_line::ModelOptions& options) {
  const std::optional<int> gpu = gpu_of(options);
  return gpu ? qwen::measure_cuda_rates(*gpu) : qwen::measure_host_rates();
}

std::string device_name(const command_line::ModelOptions& options) {
  return gpu_of(options) ? "CUDA" : "host";
}

double Bound::seconds() const {
  return joint > 0 ? joint : std::max({link, memory, arithmetic});
}

std::string Case::name() const {
  if (prompt > 0) return fmt::format("pp{}", prompt);
  return fmt::format("tg{}{}{}", generated, depth > 0 ? fmt::format("@{}", depth) : "",
                     sequences > 1 ? fmt::format("x{}", sequences) : "");
}

std::string Case::text() const {
  std::string text = name();
  if (const Bytes* const bytes = arena ? std::get_if<Bytes>(&*arena) : nullptr) {
    text += fmt::format(" with --arena {}", bytes->count);
  } else if (arena) {
    text += fmt::format(" with --arena {}%", std::get<qwen::Percent>(*arena).value);
  }
  if (vram) text += fmt::format(" with --vram {}", vram->count);
  return text;
}

const Sample& Row::median() const {
  std::vector<const Sample*> ordered;
  for (const Sample& sample : samples) ordered.push_back(&sample);
  std::ranges::sort(ordered, {}, &Sample::seconds);
  return *ordered.at((ordered.size() - 1) / 2);
}

// Where everything stays on the device, neither link nor processors limit it.
bool Row::shares_host_memory() const {
  return places && places->predicted.on_cpu + places->predicted.streamed > Bytes{0};
}

Bound Row::bound() const {
  // Where nothing was copied although pages came, they are the file's, and there is no link.
  const Bytes linked = median().copied == Bytes{0} ? Bytes{0} : median().optimal;
  return {.link = static_cast<double>(linked.count) / rates.link,
          .memory = rates.memory > 0 ? read_bytes / rates.memory : 0,
          .arithmetic = operations / rates.arithmetic,
          .joint = shares_host_memory() ? what.generated * places->predicted.bound : 0};
}

std::string Row::limit() const {
  const Bytes brought = std::max(median().copied, median().optimal);
  if (2 * median().usage.disk.count > brought.count && brought > Bytes{0}) {
    return "disk";
  }
  const Bound least = bound();
  if (least.joint > 0) return "link and CPU";
  if (least.seconds() == least.link) return "link";
  return least.seconds() == least.memory ? "memory" : "arithmetic";
}

std::string Row::doubt() const {
  std::vector<std::string> reasons;
  if (fraction() > 1.02) {
    reasons.push_back(fmt::format("it was {:.0f}% faster than the machine's rates allow",
                                  100 * fraction() - 100));
  }
  if (disagreement > kAgreement) {
    reasons.push_back(
        fmt::format("the machine's rates before and after differ by {:.0f}%", 100 * disagreement));
  }
  const auto [fastest, slowest] = std::ranges::minmax(samples, {}, &Sample::seconds);
  if (slowest.seconds > (1 + 2 * kAgreement) * fastest.seconds) {
    reasons.push_back(fmt::format("the slowest run took {:.1f} times as long as the fastest",
                                  slowest.seconds / fastest.seconds));
  }
  if (median().usage.was_starved()) {
    reasons.push_back(
        fmt::format("threads waited {:.2g} s for processors and had them for {:.2g} s",
                    median().usage.waited, median().usage.processor));
  }
  if (limit() == "disk") {
    reasons.push_back(fmt::format("{} were read from a disk whose rate is not among those measured",
                                  to_string(median().usage.disk)));
  }
  return fmt::format("{}", fmt::join(reasons, "; "));
}

std::vector<Case> generations(const Options& options) {
  std::vector<Case> cases;
  for (const std::uint32_t depth : options.depths) {
    for (const std::uint32_t sequences : options.sequences) {
      for (const std::uint32_t generated : options.generated) {
        if (generated == 0) continue;
        cases.push_back({.generated = generated, .sequences = sequences, .depth = depth});
      }
    }
  }
  return cases;
}

std::vector<Case> cases_of(const Options& options) {
  std::vector<Case> cases;
  for (const auto& vram : options.vram) {
    for (const auto& arena : options.arenas) {
      for (const double rate : options.link_rates) {
        for (const std::uint32_t prompt : options.prompts) {
          if (prompt > 0) cases.push_back({vram, arena, rate, prompt, 0});
        }
        for (const Case& what : generations(options)) {
          cases.push_back({vram, arena, rate, 0, what.generated, what.sequences, what.depth});
        }
      }
    }
  }
  return cases;
}

Benchmark::Benchmark(const qwen::Model& model, const Options& options)
    : model_(model),
      options_(options),
      gpu_(gpu_of(options).has_value()),
      rates_(measure_rates(options)) {}

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
  const std::uint32_t before = std::max({what.prompt, what.depth, 1U});
  request.tokens = what.prompt > 0 ? what.prompt : std::min(before, kDepthPiece);
  const std::uint64_t positions = std::uint64_t{before} + what.generated;
  request.sequences = what.sequences;
  request.ubatch = options_.ubatch;
  if (positions > model_.config.context_length) {
    throw qwen::Error("-p, -d or -n asks for " + std::to_string(positions) +
                      " positions, more than the model's context of " +
                      std::to_string(model_.config.context_length) +
                      "; give fewer, or make the context longer (--rope-scaling yarn "
                      "--rope-scale N)");
  }
  request.context = static_cast<std::uint32_t>(positions);
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
  row.ubatch = what.prompt > 0 ? memory.prefill.ubatch : what.sequences;
  row.warm = options_.warm;
  const qwen::PassSize size = what.prompt > 0
                                  ? memory.prefill
                                  : qwen::PassSize{what.sequences, what.sequences, what.sequences};
  const double passes = what.prompt > 0 ? 1 : what.generated;
  row.operations = passes * qwen::pass_operations(memory.graph, size, what.depth);
  row.read_bytes = passes * std::max(qwen::pass_weight_bytes(memory.graph, size) +
                                         kept_bytes(what, memory) - rates_.cache,
                                     0.0);
  place(row, memory, made);
  measure(row, std::move(memory), std::move(made), progress);
  const qwen::MachineRates before = std::exchange(rates_, measure_rates(options_));
  row.rates = qwen::best_of(before, rates_);
  row.disagreement = qwen::disagreement(before, rates_);
  if (what.link_rate > 0) row.rates.link = std::min(row.rates.link, what.link_rate);
  return row;
}

// Measured once for each number of sequences: nothing else of it but an imitated link depends on
// the case.
const qwen::PlacementMeasurements& Benchmark::measured_placement(std::uint32_t sequences,
                                                                 const qwen::MemoryPlan& memory,
                                                                 const qwen::Backend& made) {
  if (const auto known = placement_.find(sequences); known != placement_.end())
    return known->second;
  const bool first = placement_.empty();
  const qwen::RatesRequest request{.device = rates_,
                                   .gpu = gpu_ ? std::optional(options_.gpu) : std::nullopt,
                                   .sequences = sequences};
  const qwen::PlacementMeasurements& measured =
      placement_
          .emplace(sequences, qwen::measure_placement(model_, memory.graph, *made.store, request,
                                                      options_.threads))
          .first->second;
  for (const std::string& note : measured.threads.notes) {
    if (first && is_placement_asked()) command_line::note_line("pager_bench", note);
  }
  return measured;
}

bool Benchmark::is_placement_asked() const {
  return !std::holds_alternative<qwen::OnDevice>(options_.place) || options_.explain;
}

void Benchmark::place(Row& row, const qwen::MemoryPlan& memory, const qwen::Backend& made) {
  if (row.what.generated == 0) return;
  const qwen::PlacementMeasurements& measured =
      measured_placement(row.what.sequences, memory, made);
  row.place = options_.place;
  row.placement_rates = over_link(measured.rates, row.what.link_rate, gpu_);
  if (!is_placement_asked()) return;
  row.places = qwen::choose_places(model_, memory, *row.placement_rates, options_.place,
                                   measured.threads.threads);
  row.cpu_layers = layers_on_cpu(memory.graph, row.places->places.places);
  if (!options_.explain) return;
  command_line::note(fmt::format("{}: {}\n", row.what.text(), measured.threads.what));
  for (const std::string& line : row.places->lines()) command_line::note(line + "\n");
}

// The runs of a row. What they ran on is gone afterwards, and its memory free.
void Benchmark::measure(Row& row, qwen::MemoryPlan memory, qwen::Backend made,
                        const qwen::PassProgress& progress) {
  const Case& what = row.what;
  qwen::Inference inference(
      model_, std::move(memory), std::move(made),
      {.policy = options_.policy,
       .generation = row.places ? row.places->places : qwen::GenerationPlaces{}});
  const std::vector<qwen::SequenceId> sequences =
      what.prompt > 0 ? std::vector<qwen::SequenceId>{} : begin_sequences(inference, what);
  for (std::size_t i = 0; i < runs(); ++i) {
    const auto part = [&](std::size_t done, std::size_t total) {
      progress(i * total + done, runs() * total);
    };
    const Sample sample =
        what.prompt > 0 ? prefill(inference, part) : generate(inference, sequences, what, part);
    if (i + options_.repetitions >= runs()) row.samples.push_back(sample);
  }
  row.peak = inference.statistics().memory.peak;
}

Sample Benchmark::prefill(qwen::Inference& inference, const qwen::PassProgress& progress) const {
  std::vector<loaders::TokenId> tokens(inference.plan().prefill.tokens);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = token(i);
  qwen::LastLogits logits(1, model_.config.vocab_size);
  if (!options_.warm) inference.evict_all();
  return measured(inference, [&] { inference.prefill(tokens, logits, progress); });
}

// All with the same beginning, of one token at least.
std::vector<qwen::SequenceId> Benchmark::begin_sequences(qwen::Inference& inference,
                                                         const Case& what) const {
  std::vector<loaders::TokenId> tokens(std::max(what.depth, 1U));
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = token(i);
  qwen::NoLogits nowhere;
  std::vector<qwen::SequenceId> sequences{inference.begin()};
  inference.extend(sequences.front(), tokens, nowhere);
  while (sequences.size() < what.sequences) sequences.push_back(inference.fork(sequences.front()));
  return sequences;
}

Sample Benchmark::generate(qwen::Inference& inference,
                           const std::vector<qwen::SequenceId>& sequences, const Case& what,
                           const qwen::PassProgress& progress) const {
  std::vector<qwen::NextToken> next;
  for (const qwen::SequenceId sequence : sequences) {
    inference.rewind(sequence, std::max(what.depth, 1U));
    next.push_back({sequence});
  }
  qwen::NoLogits nowhere;
  inference.settle();  // what was asked for by then is not the tokens'
  return measured(inference, [&] {
    for (std::uint32_t i = 0; i < what.generated; ++i) {
      for (std::size_t s = 0; s < next.size(); ++s) next[s].token = token(s + i + 1);
      inference.advance(next, nowhere);
      progress(i + 1, what.generated);
    }
  });
}

loaders::TokenId Benchmark::token(std::size_t index) const {
  return static_cast<loaders::TokenId>((index * 7919 + 5) % model_.config.vocab_size);
}

}  // namespace tensor_pager::pager_bench
