// SPDX-License-Identifier: Apache-2.0
#include "qwen/generation_placement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "kernels/matmul.hpp"
#include "qwen/error.hpp"
#include "qwen/processors.hpp"

namespace tensor_pager::qwen {
namespace {

using loaders::TensorType;
using Clock = std::chrono::steady_clock;

// More than caches hold.
constexpr std::size_t kSample = std::size_t{160} << 20;
constexpr std::size_t kRead = std::size_t{4} << 20;
constexpr double kMeasured = 0.06;         // seconds, of each type
constexpr std::uint32_t kWholeTokens = 8;  // with which a whole slice is multiplied at once
constexpr int kWindows = 3;                // that this is divided into
constexpr double kBeside = 0.08;           // of the type with the most weights

// Estimates, until they are measured: of kernels that read the weights of one token, by the rate at
// which the GPU copies within its memory; of launches; of a signal, waking threads and a launch.
constexpr double kGpuMemoryShare = 0.6;
constexpr double kGpuStep = 10e-6;
constexpr double kHandover = 60e-6;

// Of a sample that several tokens are multiplied with, if it has as many.
constexpr std::size_t kFewestRows = 256;

bool is_feed_forward(const loaders::Step& step) {
  return step.op == loaders::Op::ffn_gate_up || step.op == loaders::Op::ffn_down;
}

// Bytes of the feed-forward matrices of each type.
std::map<TensorType, std::uint64_t> types_of(const Model& model, const loaders::Graph& graph) {
  std::map<TensorType, std::uint64_t> bytes;
  for (const loaders::Step& step : graph.steps) {
    if (!is_feed_forward(step)) continue;
    for (const loaders::WeightSlice& slice : step.weights) {
      const loaders::TensorInfo& tensor = model.gguf.tensors()[slice.tensor];
      if (tensor.dimensions > 1) bytes[tensor.type] += slice.bytes.size.count;
    }
  }
  return bytes;
}

// Bytes of an average weight of the feed-forward parts.
double bytes_per_weight(const Model& model, const loaders::Graph& graph) {
  double bytes = 0;
  double weights = 0;
  for (const loaders::Step& step : graph.steps) {
    if (!is_feed_forward(step)) continue;
    for (const loaders::WeightSlice& slice : step.weights) {
      bytes += static_cast<double>(slice.bytes.size.count);
      weights += static_cast<double>(slice.rows) *
                 static_cast<double>(model.gguf.tensors()[slice.tensor].ne[0]);
    }
  }
  return weights > 0 ? bytes / weights : 1;
}

// At which a GPU's kernels get through weights. For more than a few tokens they become halves
// first, which are written and read.
double gpu_weights(double memory, double bytes_per_weight, std::uint32_t sequences) {
  constexpr double kHalves = 4;
  if (sequences <= most_few_tokens()) return kGpuMemoryShare * memory;
  return memory * bytes_per_weight / (bytes_per_weight + kHalves);
}

/// The model's own feed-forward matrices of one type, since made-up scales would be numbers that
/// processors are slow with: one after another where they lie in memory, as in a pass, since what
/// is multiplied over and over may come from a cache; or rows of the first, over and over, in a
/// buffer.
class SampleMatrix {
 public:
  SampleMatrix(const Model& model, const loaders::Graph& graph, const BackingStore& store,
               TensorType type, HostThreads& threads, bool in_memory)
      : threads_(threads) {
    if (in_memory) add_where_they_lie(model, graph, store, type);
    if (parts_.empty()) add_copy(model, graph, store, type);
    x_.assign(parts_.front().cols, 0.5F);
    multiply_next();
  }

  /// Bytes of weights per second that one token is multiplied with, over about that time.
  double rate(double seconds) {
    return per_second(seconds, [this] { return multiply_next(); });
  }
  /// The best of some such times: what disturbs one of them only ever makes it slower.
  double best_rate(double seconds) {
    double best = 0;
    for (int i = 0; i < kWindows; ++i) best = std::max(best, rate(seconds / kWindows));
    return best;
  }

  /// Floating-point operations per second with so many tokens, over about that time.
  double arithmetic(std::uint32_t tokens, double seconds) {
    const std::vector<float> x(tokens * most_cols(), 0.5F);
    std::vector<float> y;
    std::size_t first = 0;
    const auto multiply_some = [&] {
      const kernels::Weights& w = parts_[next_];
      // Calls as long as those of a pass, up to a point: beginning and ending one takes time, too.
      const std::size_t part = std::max<std::size_t>(tokens / kWholeTokens, 1);
      const std::size_t rows = std::min(std::max(w.rows / part, kFewestRows), w.rows);
      y.resize(std::max(y.size(), tokens * rows));
      if (first + rows > w.rows) first = 0;
      const kernels::Weights some = w.slice(first, std::min(rows, w.rows - first));
      threads_.run([&] {
        kernels::cpu::matmul(some, {x.data(), tokens, w.cols}, {y.data(), tokens, some.rows});
      });
      // Other rows each time, which are in no cache.
      first += rows;
      if (first + rows > w.rows) first = 0, next_ = (next_ + 1) % parts_.size();
      return 2.0 * static_cast<double>(w.cols * some.rows * tokens);
    };
    multiply_some();
    return per_second(seconds, multiply_some);
  }

 private:
  // What calls that take about that time together, and return what each of them has done, do in a
  // second.
  template <class Work>
  static double per_second(double seconds, const Work& work) {
    const auto begin = Clock::now();
    double done = 0;
    double time = 0;
    do {
      done += work();
      time = std::chrono::duration<double>(Clock::now() - begin).count();
    } while (time < seconds);
    return done / time;
  }

  static std::vector<const loaders::WeightSlice*> slices(const Model& model,
                                                         const loaders::Graph& graph,
                                                         TensorType type) {
    std::vector<const loaders::WeightSlice*> found;
    for (const loaders::Step& step : graph.steps) {
      if (!is_feed_forward(step)) continue;
      for (const loaders::WeightSlice& slice : step.weights) {
        const loaders::TensorInfo& tensor = model.gguf.tensors()[slice.tensor];
        if (tensor.type == type && tensor.dimensions > 1) found.push_back(&slice);
      }
    }
    if (!found.empty()) return found;
    throw Error(fmt::format("no feed-forward matrix is {}", loaders::to_string(type)));
  }

  void add_where_they_lie(const Model& model, const loaders::Graph& graph,
                          const BackingStore& store, TensorType type) {
    for (const loaders::WeightSlice* slice : slices(model, graph, type)) {
      const std::byte* const data = store.address(slice->bytes);
      if (data == nullptr) return parts_.clear();
      const loaders::TensorInfo& tensor = model.gguf.tensors()[slice->tensor];
      parts_.push_back({weight_type(model.gguf, tensor), data, slice->rows, tensor.ne[0]});
    }
  }

  void add_copy(const Model& model, const loaders::Graph& graph, const BackingStore& store,
                TensorType type) {
    const loaders::WeightSlice& slice = *slices(model, graph, type).front();
    const loaders::TensorInfo& tensor = model.gguf.tensors()[slice.tensor];
    const std::size_t row = slice.bytes.size.count / slice.rows;
    // Not initialised: threads write it first.
    data_.reset(new std::byte[kSample / row * row]);
    parts_.push_back({weight_type(model.gguf, tensor), data_.get(), kSample / row, tensor.ne[0]});
    fill(store, slice, std::max<std::size_t>(kRead / row, 1) * row, kSample / row * row);
  }

  // In pieces of whole rows, each from the beginning of the slice.
  void fill(const BackingStore& store, const loaders::WeightSlice& slice, std::size_t piece,
            std::size_t size) {
    const std::size_t step = std::min<std::size_t>(piece, slice.bytes.size.count);
    const std::size_t threads = threads_.count();
    std::vector<std::future<void>> readers;
    for (std::size_t t = 0; t < threads; ++t) {
      readers.push_back(std::async(std::launch::async, [&, t] {
        for (std::size_t at = t * step; at < size; at += threads * step) {
          store.read(slice.bytes.offset, {data_.get() + at, std::min(step, size - at)});
        }
      }));
    }
    for (std::future<void>& reader : readers) reader.get();
  }

  std::size_t most_cols() const {
    return std::ranges::max(parts_, {}, &kernels::Weights::cols).cols;
  }

  // One token with a part; the bytes that it read.
  double multiply_next() {
    const kernels::Weights& w = parts_[next_];
    next_ = (next_ + 1) % parts_.size();
    x_.resize(std::max(x_.size(), w.cols), 0.5F);
    y_.resize(std::max(y_.size(), w.rows));
    threads_.run([&] { kernels::cpu::matmul(w, {x_.data(), 1, w.cols}, {y_.data(), 1, w.rows}); });
    return static_cast<double>(kernels::row_bytes(w.type, w.rows * w.cols));
  }

  HostThreads& threads_;
  std::vector<kernels::Weights> parts_;
  std::size_t next_ = 0;
  std::unique_ptr<std::byte[]> data_;
  std::vector<float> x_;
  std::vector<float> y_;
};

// Of all those weights, one after another: what a rate of each type, per byte, comes to.
template <class Rate>
double mean_rate(const std::map<TensorType, std::uint64_t>& types, const Rate& rate) {
  double sum = 0;
  double seconds = 0;
  for (const auto& [type, bytes] : types) {
    sum += static_cast<double>(bytes);
    seconds += static_cast<double>(bytes) / rate(type);
  }
  return sum / seconds;
}

// The device is the processors.
void set_device(loaders::PlacementRates& rates, const std::map<TensorType, std::uint64_t>& types,
                std::uint32_t sequences) {
  rates.gpu_memory =
      mean_rate(types, [&](TensorType type) { return rates.cpu_kernels.at(type).weights; });
  if (sequences == 1) return;
  const auto arithmetic = [&](TensorType type) { return rates.cpu_kernels.at(type).arithmetic; };
  rates.gpu_arithmetic = mean_rate(types, arithmetic);
}

loaders::Explanation explain_prefill(const Model& model, const MemoryPlan& plan,
                                     const loaders::PlacementRates& rates) {
  const loaders::PlacementRequest request{
      .arena = plan.arena, .page = plan.layout.page, .batch = plan.prefill.ubatch};
  const loaders::Placement placed = loaders::predict_places(
      plan.graph, model.gguf.tensors(), loaders::Places(plan.graph.steps.size()), rates, request);
  loaders::Explanation explanation =
      loaders::explain("prefill", plan.graph, model.gguf.tensors(), rates, request, placed);
  explanation.alternatives.clear();  // there is no other way to run it
  return explanation;
}

}  // namespace

std::vector<TensorType> feed_forward_types(const Model& model, const loaders::Graph& graph) {
  std::vector<TensorType> types;
  for (const auto& [type, bytes] : types_of(model, graph)) types.push_back(type);
  return types;
}

HostThreadsChoice choose_host_threads(std::optional<int> gpu, std::optional<std::uint32_t> wanted) {
  ProcessorRequest request = this_machine(gpu ? gpu_address(*gpu) : std::nullopt);
  request.threads = wanted;
  const ProcessorChoice choice = choose_processors_here(request);
  constexpr unsigned kFew = 4;
  const bool leave_one = gpu && !wanted && choice.threads() > kFew;
  return {.threads = {.threads = choice.threads() - (leave_one ? 1U : 0U),
                      .processors = choice.processors},
          .what = choice.what + (leave_one ? ", of which one commands copies" : ""),
          .notes = choice.notes};
}

loaders::PlacementRates measure_placement_rates(const Model& model, const loaders::Graph& graph,
                                                const BackingStore& store, HostThreads& threads,
                                                const RatesRequest& request) {
  const auto& [device, gpu, sequences] = request;
  loaders::PlacementRates rates{
      .link = {device.link, device.link},
      .cpu = {},
      .gpu_memory = gpu ? gpu_weights(device.memory, bytes_per_weight(model, graph), sequences)
                        : device.memory,
      .gpu_arithmetic = device.arithmetic,
      .gpu_step = gpu ? kGpuStep : 0,
      .handover = gpu ? kHandover : 0};
  if (!gpu) {
    const auto nothing = [] {
      std::this_thread::sleep_for(std::chrono::duration<double>(kMeasured));
    };
    // The better of two: what disturbs one makes it slower.
    rates.link.alone =
        std::max(measure_copies_beside(store, nothing), measure_copies_beside(store, nothing));
    rates.link.together = rates.link.alone;
  }
  const std::map<TensorType, std::uint64_t> types = types_of(model, graph);
  if (types.empty()) return rates;
  const TensorType main =
      std::ranges::max_element(types, {}, [](const auto& type) { return type.second; })->first;
  // The best rate is taken for the memory's, and others to be slowed down by copies as the main
  // type's is.
  double kept = 1;
  for (const auto& [type, bytes] : types) {
    // Where a GPU reads the store, all of it is in memory.
    SampleMatrix sample(model, graph, store, type, threads, gpu.has_value());
    const double alone = sample.best_rate(kMeasured);
    rates.cpu_kernels[type] = {.weights = alone};
    if (sequences > 1) rates.cpu_kernels[type].arithmetic = sample.arithmetic(sequences, kMeasured);
    rates.cpu.alone = std::max(rates.cpu.alone, alone);
    if (type != main) continue;
    double beside = 0;
    const auto work = [&] { beside = sample.rate(kBeside); };
    const double link =
        gpu ? measure_link_beside(*gpu, store, work) : measure_copies_beside(store, work);
    rates.link.together = std::min(rates.link.alone, link);
    kept = std::min(1.0, beside / alone);
  }
  rates.cpu.together = rates.cpu.alone * kept;
  if (!gpu) set_device(rates, types, sequences);
  return rates;
}

void wait_until_ready(const BackingStore& store) {
  std::mutex mutex;
  std::condition_variable changed;
  Bytes ready;
  const Subscription subscription = store.announce([&](ByteRange range) {
    const std::lock_guard lock(mutex);
    ready += range.size;
    changed.notify_all();
  });
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return ready >= store.size(); });
}

PlacementMeasurements measure_placement(const Model& model, const loaders::Graph& graph,
                                        const BackingStore& store, const RatesRequest& request,
                                        std::optional<std::uint32_t> wanted_threads) {
  wait_until_ready(store);
  PlacementMeasurements measured{.threads = choose_host_threads(request.gpu, wanted_threads),
                                 .rates = {}};
  HostThreads threads(measured.threads.threads);
  measured.rates = measure_placement_rates(model, graph, store, threads, request);
  return measured;
}

std::vector<std::string> ChosenPlaces::lines() const {
  std::vector<std::string> all = loaders::lines(prefill);
  const std::vector<std::string> more = loaders::lines(generation);
  all.insert(all.end(), more.begin(), more.end());
  if (!rates_origin.empty()) all.push_back("       " + rates_origin);
  return all;
}

ChosenPlaces choose_places(const Model& model, const MemoryPlan& plan,
                           const loaders::PlacementRates& rates, const PlaceWish& wish,
                           const HostThreadsOptions& threads) {
  loaders::PlacementRequest request{
      .arena = plan.decode_arena, .page = plan.layout.page, .batch = plan.sequences};
  if (const Percent* const share = std::get_if<Percent>(&wish)) {
    request.cpu_share = share->value / 100;
  } else if (std::holds_alternative<OnDevice>(wish)) {
    request.cpu_share = 0;
  }
  const std::span<const loaders::TensorInfo> tensors = model.gguf.tensors();
  const loaders::Placement placed = loaders::place(plan.graph, tensors, rates, request);
  ChosenPlaces chosen{
      .places = {},
      .predicted = placed.predicted,
      .generation = loaders::explain("generation", plan.graph, tensors, rates, request, placed),
      .prefill = explain_prefill(model, plan, rates)};
  // Without the processors generation is left as it is, the pager's own depth included.
  if (placed.predicted.on_cpu > Bytes{0}) {
    chosen.places = {
        .places = placed.places, .prefetch_depth = placed.prefetch_depth, .threads = threads};
  }
  return chosen;
}

}  // namespace tensor_pager::qwen
