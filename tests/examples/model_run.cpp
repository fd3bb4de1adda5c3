// SPDX-License-Identifier: Apache-2.0
#include "model_run.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <random>
#include <stdexcept>
#include <thread>

#include "pager/host_device.hpp"

namespace tensor_pager::qwen {

// Tests that run on another machine than they were built on are told where the data is.
std::filesystem::path test_data(const std::string& name) {
  const char* const moved = std::getenv("TENSOR_PAGER_TEST_DATA");
  return std::filesystem::path(moved != nullptr ? moved : TEST_DATA_DIR) / name;
}

std::vector<float> read_floats(const std::filesystem::path& path) {
  std::vector<float> values(std::filesystem::file_size(path) / sizeof(float));
  std::ifstream in(path, std::ios::binary);
  in.read(reinterpret_cast<char*>(values.data()),
          static_cast<std::streamsize>(values.size() * sizeof(float)));
  if (!in) throw std::runtime_error("cannot read " + path.string());
  return values;
}

std::vector<loaders::TokenId> read_tokens(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::vector<loaders::TokenId> tokens;
  for (loaders::TokenId token = 0; in >> token;) tokens.push_back(token);
  return tokens;
}

double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) throw std::invalid_argument("logits of different shapes");
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    difference += d * d;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(difference / norm);
}

void AllLogits::take(std::size_t first, std::size_t first_token,
                     const kernels::ConstMatrixView& logits) {
  for (std::size_t r = 0; r < logits.rows; ++r) {
    std::copy_n(logits.row(r), logits.cols, &values.at((first + r) * vocabulary_ + first_token));
  }
}

MemoryRequest memory_request(std::size_t tokens, const RunOptions& options) {
  const auto count = static_cast<std::uint32_t>(tokens);
  return {.vram = options.vram,
          .arena = options.arena,
          .page = options.page,
          .page_granularity = make_host_device()->info().page_granularity,
          .context = count,
          .tokens = count,
          .wanted = count,
          .ubatch = options.ubatch};
}

std::vector<float> prompt_logits(const Model& model, const std::vector<loaders::TokenId>& tokens,
                                 const RunOptions& options) {
  Backend backend = options.on_gpu ? cuda_backend(model, {}) : host_backend(model);
  const MemoryRequest request = request_for(backend, model, memory_request(tokens.size(), options));
  Inference inference(model, plan_memory(model, request), std::move(backend),
                      {.policy = options.policy});
  AllLogits logits(tokens.size(), model.config.vocab_size);
  inference.prefill(tokens, logits);
  return std::move(logits.values);
}

Bytes minimum_vram(const Model& model, MemoryRequest request) {
  request.vram = {};
  try {
    plan_memory(model, request);
  } catch (const MemoryError& error) {
    return error.minimum();
  }
  throw std::logic_error("no memory at all was accepted");
}

double idle_processor_seconds(std::chrono::milliseconds time) {
  const auto used = [] {
    timespec clock{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &clock);
    return static_cast<double>(clock.tv_sec) + 1e-9 * static_cast<double>(clock.tv_nsec);
  };
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const double before = used();
  std::this_thread::sleep_for(time);
  return used() - before;
}

loaders::Places places_of_layers(const loaders::Graph& graph, std::uint32_t layers_on_cpu) {
  loaders::Places places;
  for (const loaders::Step& step : graph.steps) {
    const bool feed_forward =
        step.op == loaders::Op::ffn_gate_up || step.op == loaders::Op::ffn_down;
    const bool cpu = feed_forward && (layers_on_cpu >> step.layer & 1U) != 0;
    places.push_back(cpu ? loaders::Place::cpu : loaders::Place::gpu);
  }
  return places;
}

MemoryRequest generation_request(std::size_t prompt, std::size_t tokens,
                                 const RunOptions& options) {
  MemoryRequest request = memory_request(prompt, options);
  request.context = static_cast<std::uint32_t>(tokens);
  request.wanted = 1;
  return request;
}

std::vector<float> generated_logits(Inference& inference, const Model& model,
                                    const std::vector<loaders::TokenId>& tokens,
                                    std::size_t prompt) {
  AllLogits logits(1, model.config.vocab_size);
  inference.prefill(std::span(tokens).first(prompt), logits);
  std::vector<float> all;
  for (std::size_t i = prompt; i < tokens.size(); ++i) {
    inference.decode(tokens[i], logits);
    all.insert(all.end(), logits.values.begin(), logits.values.end());
  }
  return all;
}

std::vector<float> generated_logits(const Model& model, const std::vector<loaders::TokenId>& tokens,
                                    std::size_t prompt, const RunOptions& options) {
  Backend backend = options.on_gpu ? cuda_backend(model, {}) : host_backend(model);
  MemoryPlan plan = plan_memory(
      model, request_for(backend, model, generation_request(prompt, tokens.size(), options)));
  GenerationPlaces places{.places = places_of_layers(plan.graph, options.layers_on_cpu),
                          .prefetch_depth = options.prefetch_depth,
                          .threads = {.threads = options.threads}};
  Inference inference(model, std::move(plan), std::move(backend),
                      {.policy = options.policy, .generation = std::move(places)});
  return generated_logits(inference, model, tokens, prompt);
}

int runs_disturbed_by_arena(const Model& model, const std::vector<loaders::TokenId>& tokens,
                            const RunOptions& options, int runs, Bytes most) {
  Backend backend = options.on_gpu ? cuda_backend(model, {}) : host_backend(model);
  const MemoryRequest request = request_for(backend, model, memory_request(tokens.size(), options));
  Inference inference(model, plan_memory(model, request), std::move(backend),
                      {.policy = options.policy});
  AllLogits first(tokens.size(), model.config.vocab_size);
  inference.prefill(tokens, first);
  std::atomic<bool> stop = false;
  std::thread resizer([&] {
    std::mt19937_64 random(7);
    const Bytes least = inference.minimum_arena();
    while (!stop) {
      inference.set_arena(least + Bytes{random() % (most - least).count});
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    }
  });
  int disturbed = 0;
  for (int run = 0; run < runs; ++run) {
    AllLogits logits(tokens.size(), model.config.vocab_size);
    inference.prefill(tokens, logits);
    disturbed += logits.values == first.values ? 0 : 1;
  }
  stop = true;
  resizer.join();
  return disturbed;
}

}  // namespace tensor_pager::qwen
