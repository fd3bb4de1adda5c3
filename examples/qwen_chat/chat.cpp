// SPDX-License-Identifier: Apache-2.0
#include "chat.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <variant>

#include "command_line/interrupt.hpp"
#include "command_line/note.hpp"
#include "command_line/values.hpp"
#include "home_folder.hpp"
#include "output/replacement_file.hpp"
#include "pager/counted.hpp"
#include "pager/types.hpp"
#include "qwen/error.hpp"
#include "qwen/memory_plan.hpp"

namespace tensor_pager::qwen_chat {
namespace {

using command_line::Interrupted;

constexpr Bytes kLongestFile = MiB(16);
constexpr const char* kBlanks = " \t\n";  // a line that was pasted may have line ends

double ratio(double a, double b) {
  return b > 0 ? a / b : 0;
}

// Before it is kept for a question: what cannot be asked would be in the way of all that follow.
void require_text(const qwen::Inference& inference, const std::string& path,
                  const std::string& content) {
  std::size_t tokens = 0;
  try {
    tokens = inference.model().tokenizer->encode(content).size();
  } catch (const loaders::TokenizerError& error) {
    throw qwen::Error(fmt::format("{}: {}", path, error.what()));
  }
  if (tokens < inference.context()) return;
  throw qwen::Error(
      fmt::format("{}: the file has {} tokens, but the context only {}; give a "
                  "shorter one, or {}",
                  path, tokens, inference.context(), more_context(inference)));
}

std::string read_file(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored)) {
    throw qwen::Error(fmt::format("{}: is not a file with text; give another one", path));
  }
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> in(std::fopen(path.c_str(), "rb"),
                                                           std::fclose);
  std::string content;
  std::array<char, 65'536> piece{};
  while (in != nullptr && content.size() <= kLongestFile.count) {
    const std::size_t size = std::fread(piece.data(), 1, piece.size(), in.get());
    if (size == 0) break;
    content.append(piece.data(), size);
  }
  if (in == nullptr || std::ferror(in.get()) != 0) {
    throw qwen::Error(fmt::format("{}: cannot read the file: {}; give another one", path,
                                  std::generic_category().message(errno)));
  }
  if (content.size() > kLongestFile.count) {
    throw qwen::Error(fmt::format("{}: the file is longer than {}; give a shorter one", path,
                                  to_string(kLongestFile)));
  }
  return content;
}

std::variant<Bytes, qwen::Percent> size_of(const std::string& text) {
  try {
    return command_line::parse_arena("/budget", text);
  } catch (const command_line::UsageError& error) {
    throw qwen::Error(error.what());  // not of the command line
  }
}

}  // namespace

Chat::Chat(const Options& options, qwen::Inference& inference, Conversation& conversation,
           Console& console)
    : options_(options), inference_(inference), conversation_(conversation), console_(console) {}

const std::vector<Chat::Command>& Chat::commands() {
  static const std::vector<Command> all = {
      {"/system", "TEXT", "begins anew, with TEXT as what the model is told first", &Chat::system},
      {"/clear", "", "begins anew", &Chat::clear},
      {"/drop", "", "leaves out the oldest question and its answer", &Chat::drop},
      {"/file", "PATH", "puts a text file before the next question", &Chat::file},
      {"/save", "PATH", "keeps the conversation, with what was prefilled", &Chat::save},
      {"/load", "PATH", "goes on from one that was kept", &Chat::load},
      {"/budget", "SIZE", "changes the memory for weights: 6GiB, say, or 25% of them",
       &Chat::budget},
      {"/help", "", "lists these", &Chat::help},
      {"/quit", "", "ends the program, as Ctrl-D does", &Chat::quit},
  };
  return all;
}

void Chat::run() {
  while (!done_) {
    const std::optional<std::string> line = console_.read_line();
    if (!line) return;
    const command_line::InterruptGuard guard;
    try {
      take(*line);
      command_line::InterruptGuard::check();
    } catch (const Interrupted& interrupted) {
      // Nobody is there to go on, or somebody asked for more than that.
      if (!console_.is_terminal() || interrupted.signal() != SIGINT) throw;
    } catch (const output::OutputError&) {
      throw;  // answers go nowhere
    } catch (const std::runtime_error& error) {
      if (!console_.is_terminal()) throw;
      console_.note(error.what());
    }
  }
}

// "//" is how a question begins with "/".
void Chat::take(const std::string& line) {
  const std::size_t first = line.find_first_not_of(kBlanks);
  if (first == std::string::npos) return;
  if (line[first] != '/') return ask(line);
  if (line.compare(first, 2, "//") == 0) return ask(line.substr(first + 1));
  command(line.substr(first));
}

// A text of several lines that begins with a path, say, is still a question.
void Chat::command(const std::string& line) {
  const std::size_t blank = line.find_first_of(kBlanks);
  const std::string name = line.substr(0, blank);
  const std::size_t begin = line.find_first_not_of(kBlanks, blank);
  std::string argument = begin == std::string::npos ? "" : line.substr(begin);
  argument.erase(argument.find_last_not_of(kBlanks) + 1);
  const auto found = std::ranges::find(commands(), name, &Command::name);
  if (found == commands().end() && line.find('\n') != std::string::npos) return ask(line);
  if (found == commands().end()) {
    throw qwen::Error(
        fmt::format("{} is no command; /help lists them, and a question that begins "
                    "with / begins with //",
                    name));
  }
  if (argument.empty() != found->argument.empty()) {
    throw qwen::Error(found->argument.empty()
                          ? fmt::format("{} takes nothing", name)
                          : fmt::format("{} needs its {}", name, found->argument));
  }
  (this->*found->run)(argument);
}

void Chat::ask(const std::string& question) {
  const std::string whole = attached_.empty() ? question : attached_ + "\n\n" + question;
  const Statistics before = inference_.statistics();
  Shown shown;
  const auto show = [&](std::string_view text, bool thought) {
    thought ? show_thought(text, shown) : show_answer(text, shown);
  };
  Answer answer;
  try {
    answer = conversation_.ask(whole, show);
  } catch (const Interrupted&) {
    console_.note("interrupted before the answer began; ask again");
    throw;
  }
  console_.say("\n");
  attached_.clear();
  note_answer(answer, before);
}

// Somebody who sees nothing for minutes wants to know why.
void Chat::show_thought(std::string_view text, Shown& shown) {
  const bool first = !shown.thought;
  shown.thought = shown.thought || !text.empty();
  if (options_.thinking == Thinking::dim) return console_.think(text);
  if (first && shown.thought && console_.is_terminal()) confirm("it thinks; Ctrl-C ends that");
}

// It begins neither with an empty line nor in the line of a thought.
void Chat::show_answer(std::string_view text, Shown& shown) {
  if (!shown.answer) text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
  if (text.empty()) return;
  if (!shown.answer && shown.thought && options_.thinking == Thinking::dim) console_.think("\n");
  shown.answer = true;
  console_.say(text);
}

void Chat::note_answer(const Answer& answer, const Statistics& before) const {
  if (answer.end == End::context_full) {
    console_.note(
        fmt::format("the context of {} tokens is full: /drop leaves out the oldest "
                    "question, /clear begins anew, {} gives more",
                    inference_.context(), more_context(inference_)));
  }
  if (options_.quiet) return;
  const Statistics now = inference_.statistics();
  const auto accesses = static_cast<double>(now.core.accesses - before.core.accesses);
  const auto hits = static_cast<double>(now.core.hits - before.core.hits);
  console_.note(fmt::format(
      "[{}{}{}, {:.1f} tokens/s; {} new of {} read at {:.1f} tokens/s; {:.0f}% of accesses "
      "hit; {} in use of {}]",
      answer.end == End::interrupted ? "interrupted: " : "", counted(answer.generated, "token"),
      answer.thought > 0 ? fmt::format(" ({} thought)", answer.thought) : "",
      ratio(static_cast<double>(answer.generated), answer.seconds), answer.prefilled,
      answer.reused + answer.prefilled,
      ratio(static_cast<double>(answer.prefilled), answer.prefill_seconds),
      100 * ratio(hits, accesses), conversation_.tokens(), inference_.context()));
}

void Chat::help(const std::string& /*argument*/) {
  for (const Command& command : commands()) {
    console_.note(fmt::format("{:<16}{}", fmt::format("{} {}", command.name, command.argument),
                              command.help));
  }
  console_.note("Ctrl-C ends an answer; what else begins with / begins with //");
}

void Chat::confirm(const std::string& done) const {
  if (!options_.quiet) console_.note(done);
}

void Chat::system(const std::string& text) {
  conversation_.restart(text);
  attached_.clear();
  confirm("the conversation begins anew, with this as what the model is told first");
}

void Chat::clear(const std::string& /*argument*/) {
  conversation_.restart(conversation_.system());
  attached_.clear();
  confirm("the conversation begins anew");
}

void Chat::drop(const std::string& /*argument*/) {
  if (!conversation_.drop_oldest())
    throw qwen::Error("there is no older question; /clear begins anew");
  confirm(fmt::format("the oldest question is left out; {} in use of {}", conversation_.tokens(),
                      inference_.context()));
}

void Chat::file(const std::string& typed) {
  const std::string path = with_home(typed);
  const std::string content = read_file(path);
  require_text(inference_, path, content);
  attached_ += (attached_.empty() ? "" : "\n\n") + content;
  confirm(fmt::format("{} before the next question", counted(content.size(), "byte")));
}

void Chat::save(const std::string& typed) {
  const std::string path = with_home(typed);
  if (output::is_stdout(path)) {
    throw qwen::Error(fmt::format("/save {} would mix with the answers; give a file", path));
  }
  for (const std::filesystem::path& file : inference_.model().gguf.paths()) {
    if (!output::is_same_file(path, file)) continue;
    throw qwen::Error(fmt::format("/save {} would replace the model; give another file", path));
  }
  try {
    conversation_.save(path);
  } catch (const output::OutputError& error) {
    throw qwen::Error(error.what());  // that of an answer is another matter
  }
  confirm(fmt::format("{} kept in {}", counted(conversation_.tokens(), "token"), path));
}

void Chat::load(const std::string& typed) {
  const std::string path = with_home(typed);
  conversation_.load(path);
  attached_.clear();
  confirm(fmt::format("the conversation of {} in {} goes on",
                      counted(conversation_.tokens(), "token"), path));
}

void Chat::budget(const std::string& size) {
  const std::variant<Bytes, qwen::Percent> wish = size_of(size);
  const auto* const share = std::get_if<qwen::Percent>(&wish);
  inference_.resize_arena(
      share != nullptr
          ? qwen::share_of_weights(inference_.model(), inference_.plan().layout, *share)
          : std::get<Bytes>(wish));
  confirm(fmt::format("{} for weights", to_string(inference_.plan().arena)));
}

void Chat::quit(const std::string& /*argument*/) {
  done_ = true;
}

}  // namespace tensor_pager::qwen_chat
