// SPDX-License-Identifier: Apache-2.0
// qwen_chat: a conversation with a model whose weights are paged.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "chat.hpp"
#include "command_line/chosen_places.hpp"
#include "command_line/model_device.hpp"
#include "command_line/run_program.hpp"
#include "console.hpp"
#include "conversation.hpp"
#include "options.hpp"
#include "qwen/backend.hpp"
#include "qwen/chat_format.hpp"
#include "qwen/memory_plan.hpp"

namespace {

using namespace tensor_pager;
using namespace tensor_pager::qwen_chat;

constexpr std::uint32_t kContext = 8192;
// Of a question's prefill, at a time: longer ones are taken in pieces.
constexpr std::uint32_t kPrefill = 2048;

qwen::Backend make_backend(std::optional<int> gpu, const qwen::Model& model) {
  return gpu ? qwen::cuda_backend(model, {.gpu = *gpu}) : qwen::host_backend(model);
}

std::uint32_t choose_context(const Options& options, const qwen::Model& model) {
  command_line::require_trained(options.context, model);
  return options.context.value_or(std::min(kContext, model.config.context_length));
}

qwen::MemoryPlan plan_memory(const Options& options, const qwen::Model& model,
                             const qwen::Backend& backend) {
  qwen::MemoryRequest request;
  request.vram_given = options.vram.has_value();
  request.vram = options.vram.value_or(Bytes{backend.free_memory.count / 10 * 9});
  request.arena = options.arena;
  request.context = choose_context(options, model);
  request.tokens = std::min(request.context, kPrefill);
  return qwen::plan_memory(model, qwen::request_for(backend, model, request));
}

// Qwen's own advice, where neither the user nor the file has any.
command_line::Sampling sampling_of(const Options& options, const qwen::Model& model, bool thinks) {
  command_line::SamplingWishes wishes = options.sampling;
  const command_line::SamplingWishes file = command_line::sampling_advice(model.gguf.metadata());
  const auto advise = [](auto& wish, const auto& of_file, auto value) {
    if (!wish && !of_file) wish = value;
  };
  advise(wishes.temperature, file.temperature, thinks ? 0.6F : 0.7F);
  advise(wishes.top_k, file.top_k, 20);
  advise(wishes.top_p, file.top_p, thinks ? 0.95F : 0.8F);
  advise(wishes.min_p, file.min_p, 0.0F);
  return command_line::choose_sampling(wishes, model.gguf.metadata(),
                                       options.seed ? *options.seed : command_line::random_seed());
}

void run(const Options& options) {
  const std::optional<int> gpu = command_line::gpu_of(options);  // before a large model is opened
  const qwen::Model model = qwen::open_model(options.model, options.rope);
  const qwen::ChatFormat format(model);
  const bool think = format.can_think() && options.thinking != Thinking::off;
  const command_line::Sampling sampling = sampling_of(options, model, think);
  qwen::Backend backend = make_backend(gpu, model);
  const qwen::MemoryPlan plan = plan_memory(options, model, backend);
  const auto places =
      command_line::choose_places("qwen_chat", options, model, plan, *backend.store,
                                  {.name = backend.device->info().name, .gpu = gpu});
  qwen::Inference inference(model, plan, std::move(backend),
                            {.generation = command_line::generation_places(places)});
  Conversation conversation(model, format, inference,
                            {.system = options.system.value_or(format.default_system()),
                             .think = think,
                             .most = options.most,
                             .sampling = sampling.options});
  if (options.session) conversation.load(*options.session);
  Console console;
  if (!options.quiet) {
    console.note(fmt::format("{}, {} of weights, {} of memory for them on {}; context {}",
                             qwen::display_name(model), to_string(model.gguf.weights_bytes()),
                             to_string(plan.decode_arena), inference.device().name, plan.context));
    console.note(fmt::format("sampling {}", sampling.description));
    if (console.is_terminal()) console.note("/help lists what can be asked for");
  }
  Chat(options, inference, conversation, console).run();
}

}  // namespace

int main(int argc, char** argv) {
  return command_line::run_program(
      "qwen_chat", [&] { run(parse_options(argc, argv)); }, "choose a smaller --ctx or --vram");
}
