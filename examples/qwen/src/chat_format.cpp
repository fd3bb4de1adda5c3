// SPDX-License-Identifier: Apache-2.0
#include "qwen/chat_format.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

using Tokens = std::vector<loaders::TokenId>;

constexpr std::string_view kStart = "<|im_start|>";
constexpr std::string_view kEnd = "<|im_end|>";

std::string chat_template(const Model& model) {
  return model.gguf.metadata().get_or<std::string>("tokenizer.chat_template", "");
}

// A template has it as a Jinja string of its own, in which line ends are written out:
// '<|im_start|>system\nYou are ...<|im_end|>\n'.
std::string system_of_template(const std::string& text) {
  const std::string before = fmt::format("{}system\\n", kStart);
  for (std::size_t at = text.find(before); at != std::string::npos; at = text.find(before, at)) {
    at += before.size();
    const std::size_t end = text.find(kEnd, at);
    std::string content = text.substr(at, end == std::string::npos ? 0 : end - at);
    if (!content.empty() && content.find_first_of("'\"{}\n") == std::string::npos) return content;
  }
  return {};
}

void append(Tokens& tokens, const Tokens& more) {
  tokens.insert(tokens.end(), more.begin(), more.end());
}

}  // namespace

ChatFormat::ChatFormat(const Model& model)
    : tokenizer_(model.tokenizer ? &*model.tokenizer : nullptr) {
  if (tokenizer_ == nullptr) {
    throw Error(
        fmt::format("{}: the model has no vocabulary that is understood, so that nobody can "
                    "talk to it; give another model",
                    display_name(model)));
  }
  const std::string form = chat_template(model);
  const auto start = control(kStart);
  const auto end = control(kEnd);
  if (!start || !end || (!form.empty() && form.find(kStart) == std::string::npos)) {
    throw Error(
        fmt::format("{}: this model's conversations are not in ChatML ({}); give a chat "
                    "model of Qwen, or use qwen_prefill",
                    display_name(model), kStart));
  }
  start_ = *start;
  end_ = *end;
  const auto think = control("<think>");
  const auto thought = control("</think>");
  if (think && thought && form.find("<think>") != std::string::npos) {
    think_ = Thought{*think, *thought};
  }
  default_system_ = system_of_template(form);
}

std::optional<loaders::TokenId> ChatFormat::control(std::string_view name) const {
  const Tokens tokens = tokenizer_->encode(name, {.add_bos = false});
  if (tokens.size() != 1) return std::nullopt;
  return tokens.front();
}

Tokens ChatFormat::text(std::string_view text) const {
  return tokenizer_->encode(text, {.add_bos = false, .parse_control = false});
}

Tokens ChatFormat::message(std::string_view role, std::string_view content) const {
  Tokens tokens{start_};
  append(tokens, text(fmt::format("{}\n{}", role, content)));
  append(tokens, answer_end());
  return tokens;
}

Tokens ChatFormat::answer_begin(bool think) const {
  Tokens tokens{start_};
  append(tokens, text("assistant\n"));
  if (think_ && !think) {
    tokens.push_back(think_->begin);
    append(tokens, text("\n\n"));
    tokens.push_back(think_->end);
    append(tokens, text("\n\n"));
  }
  return tokens;
}

Tokens ChatFormat::answer_end() const {
  Tokens tokens{end_};
  append(tokens, text("\n"));
  return tokens;
}

Tokens ChatFormat::answer_kept(std::span<const loaders::TokenId> answer) const {
  if (!think_) return {answer.begin(), answer.end()};
  const auto last = std::find(answer.rbegin(), answer.rend(), think_->end);
  if (last == answer.rend()) {
    const bool thinking = std::ranges::find(answer, think_->begin) != answer.end();
    return thinking ? Tokens{} : Tokens{answer.begin(), answer.end()};
  }
  const Tokens said(last.base(), answer.end());
  std::string content = tokenizer_->decode(said);
  content.erase(0, content.find_first_not_of('\n'));
  return text(content);
}

bool ChatFormat::begins_thought(loaders::TokenId token) const {
  return think_ && token == think_->begin;
}

bool ChatFormat::ends_thought(loaders::TokenId token) const {
  return think_ && token == think_->end;
}

std::vector<std::size_t> ChatFormat::questions(std::span<const loaders::TokenId> tokens) const {
  Tokens user{start_};
  append(user, text("user"));
  std::vector<std::size_t> found;
  for (auto at = tokens.begin();; ++at) {
    at = std::search(at, tokens.end(), user.begin(), user.end());
    if (at == tokens.end()) return found;
    found.push_back(static_cast<std::size_t>(std::distance(tokens.begin(), at)));
  }
}

}  // namespace tensor_pager::qwen
