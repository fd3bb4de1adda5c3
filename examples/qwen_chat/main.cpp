// SPDX-License-Identifier: Apache-2.0
// qwen_chat: a conversation with a model whose weights are paged.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "chat.hpp"
#include "command_line/run_program.hpp"
#include "console.hpp"
#include "conversation.hpp"
#include "options.hpp"
#include "qwen/backend.hpp"
#include "qwen/chat_format.hpp"
#include "qwen/error.hpp"
#include "qwen/memory_plan.hpp"

namespace {

using namespace tensor_pager;
using namespace tensor_pager::qwen_chat;

constexpr std::uint32_t kContext = 8192;
// Of a question's prefill, at a time: longer ones are taken in pieces.
constexpr std::uint32_t kPrefill = 2048;

qwen::Backend make_backend(const Options& options, const qwen::Model& model) {
  using command_line::DeviceKind;
  const bool gpu = qwen::gpu_count() > 0;
  if (options.device == DeviceKind::cuda && !gpu) {
    throw qwen::Error("--device cuda: no GPU was found; use --device host");
  }
  if (options.device == DeviceKind::host || !gpu) return qwen::host_backend(model);
  return qwen::cuda_backend(model, {.gpu = options.gpu});
}

std::uint32_t choose_context(const Options& options, const qwen::Model& model) {
  const std::uint32_t longest = model.config.context_length;
  if (options.context.value_or(0) > longest) {
    throw qwen::Error(
        fmt::format("--ctx {} is longer than the model's context of {} tokens; give at most that",
                    *options.context, longest));
  }
  return options.context.value_or(std::min(kContext, longest));
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
  const qwen::Model model = qwen::open_model(options.model, options.rope);
  const qwen::ChatFormat format(model);
  const bool think = format.can_think() && options.thinking != Thinking::off;
  const command_line::Sampling sampling = sampling_of(options, model, think);
  qwen::Backend backend = make_backend(options, model);
  const qwen::MemoryPlan plan = plan_memory(options, model, backend);
  qwen::Inference inference(model, plan, std::move(backend));
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
