// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace tensor_pager::qwen_chat {

/// Where questions come from: a terminal, with a line that can be edited and a history of those
/// before, or anything else, line by line. Answers go to stdout, all else to stderr.
class Console {
 public:
  Console();
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  /// Whether somebody types.
  bool is_terminal() const { return editor_ != nullptr; }
  /// The next line, without its end; nothing when there are no more. On a terminal Ctrl-C begins
  /// the line again, and Ctrl-D on an empty one is the end; what is pasted there is part of one
  /// line, with the line ends that it has.
  std::optional<std::string> read_line();

  /// Part of an answer. Throws if stdout cannot be written.
  void say(std::string_view text);
  /// The same of what is thought: dimmed, where stdout is a terminal, and else nothing, since it
  /// could not be told from the answer.
  void think(std::string_view text);
  /// A line beside the conversation: dimmed, where stderr is a terminal.
  void note(std::string_view text) const;

 private:
  class Editor;

  void write(std::string_view text, bool dim);

  std::unique_ptr<Editor> editor_;
  bool dim_ = false;  // as stdout is now
};

}  // namespace tensor_pager::qwen_chat
