// SPDX-License-Identifier: Apache-2.0
#include "console.hpp"

#include <fmt/format.h>
#include <histedit.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string_view>
#include <system_error>

#include "command_line/note.hpp"
#include "output/replacement_file.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::qwen_chat {
namespace {

constexpr int kHistory = 1000;  // lines
constexpr const char* kDim = "\x1b[2m";
constexpr const char* kPlain = "\x1b[0m";

// A terminal that is asked to puts what is pasted between two marks, so that line ends in it are
// text and no keys.
constexpr const char* kMarkPastes = "\x1b[?2004h";
constexpr const char* kMarkNoPastes = "\x1b[?2004l";
constexpr const char* kPasteBegins = "\\e[200~";
constexpr std::wstring_view kPasteEnds = L"\x1b[201~";
constexpr wchar_t kControlC = 3;

bool knows_pastes() {
  const char* const terminal = std::getenv("TERM");
  return terminal != nullptr && *terminal != '\0' && std::string_view(terminal) != "dumb";
}

void mark_pastes(bool marked) {
  if (knows_pastes()) std::fputs(marked ? kMarkPastes : kMarkNoPastes, stderr);
}

// Without what would move the cursor or ring.
std::wstring printable(std::wstring_view pasted) {
  std::wstring text;
  for (std::size_t i = 0; i < pasted.size(); ++i) {
    wchar_t c = pasted[i];
    if (c == L'\r' && pasted.substr(i + 1).starts_with(L'\n')) continue;
    if (c == L'\r') c = L'\n';
    if (c >= L' ' || c == L'\n' || c == L'\t') text.push_back(c);
  }
  return text;
}

char* prompt(EditLine* /*editor*/) {
  static char text[] = "> ";
  return text;
}

// Whether the line was given up; the editor has no other way to say so.
bool was_interrupted = false;

unsigned char interrupt(EditLine* /*editor*/, int /*key*/) {
  was_interrupted = true;
  return CC_NEWLINE;
}

unsigned char suspend(EditLine* /*editor*/, int /*key*/) {
  mark_pastes(false);
  ::raise(SIGTSTP);
  mark_pastes(true);
  return CC_REDISPLAY;
}

unsigned char paste(EditLine* editor, int key) {
  std::wstring text;
  while (!text.ends_with(kPasteEnds)) {
    wchar_t c = 0;
    if (::el_wgetc(editor, &c) != 1) return CC_EOF;
    if (c == kControlC) return interrupt(editor, key);
    text.push_back(c);
  }
  text.resize(text.size() - kPasteEnds.size());
  return ::el_winsertstr(editor, printable(text).c_str()) == 0 ? CC_REFRESH : CC_ERROR;
}

}  // namespace

class Console::Editor {
 public:
  Editor() : history_(::history_init()), editor_(::el_init("qwen_chat", stdin, stderr, stderr)) {
    HistEvent event{};
    ::history(history_, &event, H_SETSIZE, kHistory);
    ::history(history_, &event, H_SETUNIQUE, 1);
    ::el_set(editor_, EL_HIST, ::history, history_);
    ::el_set(editor_, EL_PROMPT, prompt);
    ::el_set(editor_, EL_EDITOR, "emacs");
    ::el_set(editor_, EL_SIGNAL, 1);  // the terminal as it was, whatever ends the program
    ::el_set(editor_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    // While a line is edited Ctrl-C is a key, which gives it up; so Ctrl-Z is one, too.
    ::el_set(editor_, EL_SETTY, "-d", "-isig", nullptr);
    ::el_set(editor_, EL_ADDFN, "give-up", "Gives the line up", interrupt);
    ::el_set(editor_, EL_BIND, "^C", "give-up", nullptr);
    ::el_set(editor_, EL_BIND, "^I", "ed-insert", nullptr);  // a tab is text
    ::el_set(editor_, EL_ADDFN, "suspend", "Stops the program", suspend);
    ::el_set(editor_, EL_BIND, "^Z", "suspend", nullptr);
    ::el_set(editor_, EL_ADDFN, "paste", "Takes in what is pasted", paste);
    ::el_set(editor_, EL_BIND, kPasteBegins, "paste", nullptr);
  }
  ~Editor() {
    ::el_end(editor_);
    ::history_end(history_);
  }
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;

  std::optional<std::string> read_line() {
    for (;;) {
      was_interrupted = false;
      // Before the prompt is written: what is typed as soon as it is seen is a key already.
      ::el_set(editor_, EL_PREP_TERM, 1);
      mark_pastes(true);
      int size = 0;
      const char* const line = ::el_gets(editor_, &size);
      mark_pastes(false);
      if (was_interrupted) {
        std::fputs("\n", stderr);
        continue;
      }
      if (line == nullptr || size <= 0) {
        std::fputs("\n", stderr);
        return std::nullopt;
      }
      std::string text(line, static_cast<std::size_t>(size));
      while (text.ends_with('\n')) text.pop_back();
      HistEvent event{};
      if (!text.empty()) ::history(history_, &event, H_ENTER, text.c_str());
      return text;
    }
  }

 private:
  History* history_;
  EditLine* editor_;
};

Console::Console() {
  // In whose characters lines are edited. Where nobody says, they are still UTF-8.
  std::setlocale(LC_CTYPE, "");
  if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
  // What is typed is shown on stderr.
  const bool seen = ::isatty(STDIN_FILENO) == 1 && ::isatty(STDERR_FILENO) == 1;
  if (seen) editor_ = std::make_unique<Editor>();
}

Console::~Console() {
  if (dim_ && ::isatty(STDOUT_FILENO) == 1) std::fputs(kPlain, stdout);
  std::fflush(stdout);
}

std::optional<std::string> Console::read_line() {
  if (editor_) return editor_->read_line();
  std::string line;
  errno = 0;
  if (!std::getline(std::cin, line)) {
    if (errno != 0) {
      throw qwen::Error(fmt::format("standard input: cannot read: {}; give questions in a file",
                                    std::generic_category().message(errno)));
    }
    return std::nullopt;
  }
  if (line.ends_with('\r')) line.pop_back();
  return line;
}

void Console::say(std::string_view text) {
  write(text, false);
}

void Console::think(std::string_view text) {
  if (::isatty(STDOUT_FILENO) == 0) return;
  write(text, true);
}

void Console::write(std::string_view text, bool dim) {
  if (dim != dim_ && ::isatty(STDOUT_FILENO) == 1) std::fputs(dim ? kDim : kPlain, stdout);
  dim_ = dim;
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (std::fflush(stdout) != 0 || !written) {
    throw output::OutputError(
        fmt::format("stdout: cannot write: {}; give the answers another place",
                    std::generic_category().message(errno)));
  }
}

void Console::note(std::string_view text) const {
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  command_line::note(fmt::format("{}{}{}\n", terminal ? kDim : "", text, terminal ? kPlain : ""));
}

}  // namespace tensor_pager::qwen_chat
