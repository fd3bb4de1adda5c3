// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "console.hpp"
#include "conversation.hpp"
#include "options.hpp"

namespace tensor_pager::qwen_chat {

/// Lines of a console: questions, and commands that begin with "/".
class Chat {
 public:
  /// All of it outlives the chat.
  Chat(const Options& options, qwen::Inference& inference, Conversation& conversation,
       Console& console);

  /// Until the lines end. What goes wrong with one line is said, and the next one is read; without
  /// a terminal it is thrown. Throws OutputError if an answer cannot be written, and
  /// command_line::Interrupted if something asked the program to end, on a terminal something else
  /// than Ctrl-C.
  void run();

 private:
  struct Command {
    std::string_view name;
    std::string_view argument;  ///< what it is called in help; empty: it takes none
    std::string_view help;
    void (Chat::*run)(const std::string& argument);
  };
  /// Of an answer, so far.
  struct Shown {
    bool thought = false;
    bool answer = false;
  };
  static const std::vector<Command>& commands();

  void take(const std::string& line);
  void command(const std::string& line);
  void ask(const std::string& question);
  void show_thought(std::string_view text, Shown& shown);
  void show_answer(std::string_view text, Shown& shown);
  void note_answer(const Answer& answer, const Statistics& before) const;
  void confirm(const std::string& done) const;

  void help(const std::string& argument);
  void system(const std::string& text);
  void clear(const std::string& argument);
  void drop(const std::string& argument);
  void file(const std::string& typed);
  void save(const std::string& typed);
  void load(const std::string& typed);
  void budget(const std::string& size);
  void quit(const std::string& argument);

  const Options& options_;
  qwen::Inference& inference_;
  Conversation& conversation_;
  Console& console_;
  std::string attached_;  // to the next question
  bool done_ = false;
};

}  // namespace tensor_pager::qwen_chat
