// SPDX-License-Identifier: Apache-2.0
// qwen_chat as people use it: on a terminal, and in a pipe.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "child_process.hpp"
#include "terminal.hpp"
#include "thinking_model.hpp"

namespace tensor_pager::tests {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::string kModel = TEST_DATA_DIR "/models/tiny-qwen2-q4_k_m.gguf";

constexpr const char* kControlC = "\x03";
constexpr const char* kControlD = "\x04";
constexpr const char* kUp = "\x1b[A";

std::vector<std::string> arguments(const std::vector<std::string>& more) {
  std::vector<std::string> all{"-m", kModel, "--device", "host"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

class Chat : public testing::Test {
 protected:
  // Questions in, answers out.
  ProcessResult pipe(const std::string& lines, const std::vector<std::string>& more) const {
    const std::string in = directory_.write("lines", lines);
    std::string command = std::string("exec \"$0\" \"$@\" < ") + in;
    std::vector<std::string> all{"-c", command, QWEN_CHAT};
    const std::vector<std::string> own = arguments(more);
    all.insert(all.end(), own.begin(), own.end());
    return run_process("/bin/sh", all);
  }

  TemporaryDirectory directory_;
};

// Of the last question, as the line behind its answer says.
int tokens_read(const std::string& notes) {
  const std::size_t end = notes.rfind(" new of ");
  return std::stoi(notes.substr(notes.rfind(' ', end - 1) + 1));
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> all;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) all.push_back(line);
  return all;
}

TEST_F(Chat, APipeGetsAnswersAlone) {
  const ProcessResult both = pipe("Who art thou?\n\nAnd who else?\n", {"-n", "6", "--temp", "0"});
  EXPECT_EQ(both.status, 0) << both.err;
  ASSERT_EQ(lines(both.out).size(), 2U) << both.out;
  const ProcessResult quiet = pipe("Who art thou?\n", {"-n", "6", "--temp", "0", "-q"});
  EXPECT_EQ(lines(quiet.out)[0], lines(both.out)[0]);
  EXPECT_EQ(quiet.err, "");
  EXPECT_THAT(both.err, HasSubstr("6 tokens, "));
  EXPECT_EQ(pipe("", {}).out, "");
}

// Of the second question nothing is read that was read before; budgets change no answer.
TEST_F(Chat, ASecondQuestionReadsWhatIsNew) {
  const std::string questions = "Who art thou?\nAnd who else?\n";
  const ProcessResult plain = pipe(questions, {"-n", "8", "--temp", "0"});
  EXPECT_THAT(plain.err, testing::ContainsRegex("16 new of 16 read"));
  // The first turn, its answer but for the last token, and the second turn.
  EXPECT_THAT(plain.err, testing::ContainsRegex("new of 4[0-9] read"));
  EXPECT_THAT(plain.err, Not(testing::ContainsRegex("4[0-9] new of")));
  for (const char* arena : {"30%", "60%", "100%"}) {
    EXPECT_EQ(pipe(questions, {"-n", "8", "--temp", "0", "--arena", arena}).out, plain.out);
  }
  EXPECT_EQ(pipe("Who art thou?\n/budget 1MiB\nAnd who else?\n", {"-n", "8", "--temp", "0"}).out,
            plain.out);
}

// On the host device processors round as the device does, since they are it.
TEST_F(Chat, PlacesChangeNoAnswer) {
  const std::string questions = "Who art thou?\n/budget 1MiB\nAnd who else?\n";
  const std::vector<std::string> greedy{"-n", "8", "--temp", "0", "--arena", "40%"};
  const ProcessResult plain = pipe(questions, greedy);
  for (const char* place : {"cpu", "60%", "auto"}) {
    std::vector<std::string> placed = greedy;
    placed.insert(placed.end(), {"--place", place, "--threads", "2", "--explain"});
    const ProcessResult result = pipe(questions, placed);
    EXPECT_EQ(result.out, plain.out) << place << result.err;
    EXPECT_THAT(result.err, HasSubstr("generation")) << place;
  }
  EXPECT_THAT(pipe("", {"--place", "moon"}).err, HasSubstr("is not auto, gpu, cpu or a share"));
}

TEST_F(Chat, SeedsDecideAnswers) {
  const auto answer = [&](const char* seed) {
    return pipe("Who?\n", {"-n", "12", "--temp", "1", "--seed", seed}).out;
  };
  EXPECT_EQ(answer("3"), answer("3"));
  EXPECT_NE(answer("3"), answer("4"));
}

TEST_F(Chat, WhatGoesWrongInAPipeEndsIt) {
  const auto error = [&](const std::string& line, const std::vector<std::string>& more = {}) {
    const ProcessResult result = pipe(line + "\nWho?\n", more);
    EXPECT_EQ(result.status, 1) << line;
    EXPECT_EQ(result.out, "") << line;
    EXPECT_EQ(lines(result.err).back().find("qwen_chat: "), 0U) << result.err;
    return lines(result.err).back();
  };
  EXPECT_THAT(error("/nothing"), HasSubstr("/nothing is no command; /help lists them"));
  EXPECT_THAT(error("/save"), HasSubstr("/save needs its PATH"));
  EXPECT_THAT(error("/clear it"), HasSubstr("/clear takes nothing"));
  EXPECT_THAT(error("/budget 1KiB"), HasSubstr("give it at least"));
  EXPECT_THAT(error("/budget much"), HasSubstr("/budget \"much\" is not a size"));
  EXPECT_THAT(error("/file /nonexistent"), HasSubstr("cannot read the file"));
  EXPECT_THAT(error("/load /nonexistent"), HasSubstr("cannot read the session"));
  EXPECT_THAT(error("/save " + directory_.write("x", "").string()), HasSubstr("nothing to save"));
  EXPECT_THAT(error("/save " + kModel), HasSubstr("would replace the model"));
  EXPECT_THAT(error("/drop"), HasSubstr("no older question"));
  EXPECT_THAT(error("Who art thou?", {"-c", "10"}), HasSubstr("has no room for this"));
}

// The conversation goes on as it was.
TEST_F(Chat, WhatTheModelIsToldHasToFit) {
  Terminal terminal(QWEN_CHAT, arguments({"-c", "64", "-n", "3", "--temp", "0"}));
  terminal.until("> ");
  terminal.type("/system " + std::string(2000, 'a') + "\n");
  terminal.until("has no room for what the model is told first");
  terminal.type("Who?\n");
  terminal.until("in use of 64");
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.wait(), 0);
  EXPECT_EQ(pipe("Who?\n", {"--system", "Speak.", "--load-session", "x"}).status, 2);
}

TEST_F(Chat, AFullContextIsSaid) {
  const ProcessResult result = pipe("Who?\n", {"-c", "24", "--temp", "0"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("the context of 24 tokens is full: /drop leaves out"));
  EXPECT_THAT(result.err, HasSubstr("a larger --ctx gives more"));
  // The model has no more than 4096.
  const std::string long_text = directory_.write("long", std::string(20'000, 'a'));
  EXPECT_THAT(pipe("/file " + long_text + "\n", {}).err, HasSubstr("--rope-scaling yarn"));
}

// With the oldest question left out there is room, and the rest is read again.
TEST_F(Chat, TheOldestQuestionCanBeLeftOut) {
  const std::vector<std::string> small{"-c", "56", "-n", "4", "--temp", "0", "--system", "Speak."};
  EXPECT_EQ(pipe("One?\nTwo?\nThree?\n", small).status, 1);
  const ProcessResult dropped = pipe("One?\nTwo?\n/drop\nThree?\n", small);
  EXPECT_EQ(dropped.status, 0) << dropped.err;
  EXPECT_EQ(lines(dropped.out).size(), 3U);
}

TEST_F(Chat, QuestionsAreLeftOutOneAfterAnother) {
  const std::vector<std::string> greedy{"-n", "4", "--temp", "0", "-q"};
  const std::string three = "One?\nTwo?\nThree?\n/drop\n/drop\n";
  EXPECT_EQ(pipe(three, greedy).status, 0);
  EXPECT_EQ(pipe(three + "/drop\n", greedy).status, 1);
}

TEST_F(Chat, AFullConversationIsKept) {
  const std::string file = directory_ / "full";
  const std::vector<std::string> small{"-c", "24", "--temp", "0", "-q"};
  EXPECT_EQ(pipe("Who?\n/save " + file + "\n", small).status, 0);
  EXPECT_EQ(pipe("/load " + file + "\nAnd?\n", {"-c", "64", "-n", "3", "-q"}).status, 0);
}

// What cannot be asked is not in the way of what is asked next.
TEST_F(Chat, AFileThatCannotBeAskedIsNotKept) {
  Terminal terminal(QWEN_CHAT, arguments({"-n", "3", "--temp", "0", "-c", "64"}));
  terminal.until("> ");
  const std::string latin = directory_.write("latin", "caf\xe9");
  const std::string long_text = directory_.write("long", std::string(4000, 'a'));
  ASSERT_EQ(::mkfifo((directory_ / "fifo").c_str(), 0600), 0);
  for (const auto& [file, problem] : std::vector<std::pair<std::string, std::string>>{
           {latin, "not UTF-8"},
           {long_text, "but the context only 64"},
           {directory_ / "fifo", "is not a file with text"},
           {"/", "is not a file with text"}}) {
    terminal.type("/file " + file + "\n");
    terminal.until(problem);
  }
  terminal.type("/load " + std::string(directory_ / "fifo") + "\n");
  terminal.until("is not a saved session");
  terminal.type("Who?\n");
  terminal.until("in use of");
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.wait(), 0);
}

// What is typed could not be seen.
TEST_F(Chat, WithoutATerminalForItsNotesLinesAreReadAsTheyAre) {
  const std::string command =
      std::string("exec ") + QWEN_CHAT + " -m " + kModel + " -n 3 --temp 0 2>/dev/null";
  Terminal terminal("/bin/sh", {"-c", command});
  terminal.type("Who art thou?\n");
  terminal.until("Who art thou?\r\n");
  terminal.until("\r\n");
  terminal.type(kControlC);
  EXPECT_EQ(terminal.wait(), 128 + SIGINT);
}

TEST_F(Chat, AnswersThatCannotBeWrittenEndIt) {
  const std::string in = directory_.write("lines", "Who?\nAnd?\n");
  const std::string command =
      std::string("exec ") + QWEN_CHAT + " -m " + kModel + " -n 3 -q < " + in + " > /dev/full";
  const ProcessResult result = run_process("/bin/sh", {"-c", command});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("stdout: cannot write"));
  EXPECT_EQ(lines(result.err).size(), 1U) << result.err;
  EXPECT_EQ(
      run_process("/bin/sh", {"-c", std::string("exec ") + QWEN_CHAT + " -m " + kModel + " -q < /"})
          .status,
      1);
}

TEST_F(Chat, WithoutALocaleTextIsStillUtf8) {
  const std::string command = std::string("unset LANG LC_ALL LC_CTYPE; exec ") + QWEN_CHAT +
                              " -m " + kModel + " -n 2 --temp 0";
  Terminal terminal("/bin/sh", {"-c", command});
  terminal.until("> ");
  terminal.type("caf\xc3\xa9\n");
  terminal.until("16 new of 16 read");  // 14 with "caf"
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.wait(), 0);
}

TEST_F(Chat, AFileIsPutBeforeTheQuestion) {
  const std::string file = directory_.write("psalm", "The LORD is my shepherd");
  const std::vector<std::string> greedy{"-n", "8", "--temp", "0", "-q"};
  const std::string answer = pipe("/file " + file + "\nWho?\n", greedy).out;
  EXPECT_NE(answer, pipe("Who?\n", greedy).out);
  EXPECT_EQ(lines(answer).size(), 1U);
}

TEST_F(Chat, ConversationsAreKeptAndGoOn) {
  const std::string file = directory_ / "kept";
  const std::vector<std::string> greedy{"-n", "8", "--temp", "0", "-q"};
  const std::string whole = pipe("Who art thou?\nAnd who else?\n", greedy).out;
  const std::string first = pipe("Who art thou?\n/save " + file + "\n", greedy).out;
  const std::string second = pipe("/load " + file + "\nAnd who else?\n", greedy).out;
  EXPECT_EQ(first + second, whole);
  std::vector<std::string> from_option = greedy;
  from_option.insert(from_option.end(), {"--load-session", file});
  EXPECT_EQ(pipe("And who else?\n", from_option).out, second);
  // One that is no session leaves the conversation as it was.
  const std::string other = directory_.write("other", "no session");
  EXPECT_EQ(pipe("/load " + other + "\n", greedy).status, 1);
}

TEST_F(Chat, TwoTurnsOnATerminal) {
  Terminal terminal(QWEN_CHAT, arguments({"-n", "8", "--temp", "0"}));
  terminal.until("/help lists");
  terminal.until("> ");
  terminal.type("Who art thou?\n");
  terminal.until("16 new of 16 read");
  terminal.until("> ");
  terminal.type("And who else?\n");
  EXPECT_THAT(terminal.until("tokens/s; "), HasSubstr("[8 tokens"));
  terminal.until("> ");
  terminal.type(kControlD);
  EXPECT_EQ(terminal.wait(), 0);
}

TEST_F(Chat, ControlCEndsTheAnswerAndNotTheSession) {
  Terminal terminal(QWEN_CHAT, arguments({"--temp", "1", "--seed", "5"}));
  terminal.until("> ");
  terminal.type("Who art thou?\n");
  terminal.until("\r\n");
  terminal.until(" ");  // of the answer
  terminal.type(kControlC);
  terminal.until("[");
  terminal.until("> ");
  // At the prompt it gives up what was typed.
  terminal.type("never asked");
  terminal.until("never asked");
  terminal.type(kControlC);
  terminal.until("> ");
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.wait(), 0);
}

// A model that thinks once it is asked, and does not come to an end: of tokens that were there none
// comes again, so that the first alone begins a thought.
class ThinkingChat : public Chat {
 protected:
  std::vector<std::string> thinking(const std::vector<std::string>& more) const {
    std::vector<std::string> all{
        "-m", model_,   "--device", "host", "--presence-penalty", "100", "--repeat-last-n",
        "-1", "--temp", "0"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  ProcessResult ask(const std::vector<std::string>& more) const {
    std::vector<std::string> all{"-c", "echo 'Who art thou?' | \"$0\" \"$@\"", QWEN_CHAT};
    const std::vector<std::string> own = thinking(more);
    all.insert(all.end(), own.begin(), own.end());
    return run_process("/bin/sh", all);
  }

  const std::string model_ = write_thinking_model(directory_ / "thinking.gguf",
                                                  {{"<think>", 60.0F}, {"</think>", -60.0F}});
};

TEST_F(ThinkingChat, APipeGetsNoThoughts) {
  for (const char* kind : {"dim", "hide"}) {
    const ProcessResult result = ask({"-n", "9", "--thinking", kind});
    EXPECT_EQ(result.out, "\n") << kind;
    EXPECT_THAT(result.err, HasSubstr("[9 tokens (9 thought), ")) << kind;
  }
}

TEST_F(ThinkingChat, WithoutThoughtsThereIsAnAnswer) {
  // It was told that it has thought, so that the mark does not come again.
  const ProcessResult result = ask({"-n", "9", "--thinking", "off"});
  EXPECT_GT(result.out.size(), 5U);
  EXPECT_THAT(result.err, HasSubstr("[9 tokens, "));
}

TEST_F(ThinkingChat, AnEndlessThoughtIsDimmedAndControlCEndsIt) {
  Terminal terminal(QWEN_CHAT, thinking({}));
  terminal.until("> ");
  terminal.type("Who art thou?\n");
  terminal.until("\x1b[?2004l");
  terminal.until("\x1b[2m");
  terminal.until(" ");  // of the thought
  terminal.type(kControlC);
  EXPECT_THAT(terminal.until("thought), "), HasSubstr("\x1b[0m\r\n"));
  terminal.until("> ");
  terminal.type("And?\n");
  terminal.until("\x1b[2m");
  terminal.until(" ");
  terminal.type(kControlC);
  terminal.until("in use of");
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.wait(), 0);
}

// Of which nothing stays: another question finds room.
TEST_F(ThinkingChat, AThoughtThatFillsTheContextLeavesRoomForAnotherQuestion) {
  Terminal terminal(QWEN_CHAT, thinking({"-c", "72", "--thinking", "hide"}));
  terminal.until("> ");
  for (int i = 0; i < 2; ++i) {
    terminal.type("Who art thou?\n");
    terminal.until("it thinks; Ctrl-C ends that");
    terminal.until("the context of 72 tokens is full");
    terminal.until("in use of 72");
    terminal.type("/clear\n");
    terminal.until("begins anew");
  }
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.wait(), 0);
}

TEST_F(Chat, EarlierLinesComeBack) {
  Terminal terminal(QWEN_CHAT, arguments({"-n", "3", "--temp", "0"}));
  terminal.until("> ");
  terminal.type("Who art thou?\n");
  terminal.until("in use of");
  terminal.until("> ");
  terminal.type(std::string(kUp) + "\n");
  EXPECT_THAT(terminal.until("in use of"), HasSubstr("Who art thou?"));
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.wait(), 0);
}

// A terminal sends it between marks, once it was asked to.
TEST_F(Chat, WhatIsPastedIsOneQuestion) {
  Terminal terminal(QWEN_CHAT, arguments({"-n", "3", "--temp", "0"}));
  terminal.until("\x1b[?2004h");
  terminal.type("Say: \x1b[200~Who art thou?\r\ncaf\xc3\xa9\r/clear\n\nAnd\twho else?\x1b[201~");
  terminal.until("who else?");
  terminal.type(" Now\n");
  terminal.until("\x1b[?2004l");
  const std::string status = terminal.until("in use of");
  const std::string file =
      directory_.write("pasted", "Say: Who art thou?\ncaf\xc3\xa9\n/clear\n\nAnd\twho else? Now");
  const ProcessResult same = pipe("/file " + file + "\nx\n", {"-n", "3", "--temp", "0"});
  EXPECT_EQ(tokens_read(status), tokens_read(same.err) - 2);  // "\n\n" and "x"
  terminal.type(std::string(kUp) + "\n");                     // it comes back as a whole
  terminal.until("in use of");
  terminal.type(std::string("\x1b[200~never") + kControlC);
  terminal.until("> ");
  terminal.type("\x1b[200~/usr/bin is a path,\nand no command\x1b[201~\n");
  terminal.until("in use of");
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.wait(), 0);
}

// More than the terminal has lines and columns.
TEST_F(Chat, LongTextsArePasted) {
  Terminal terminal(QWEN_CHAT, arguments({"-n", "3", "--temp", "0", "-c", "1500"}));
  terminal.until("> ");
  std::string text;
  for (int i = 0; i < 100; ++i) text += "line " + std::to_string(i) + "\n";
  terminal.type("\x1b[200~" + text + std::string(400, 'a') + "\x1b[201~\n");
  const std::string status = terminal.until("in use of 1500");
  const ProcessResult same =
      pipe("/file " + directory_.write("long", text + std::string(400, 'a')).string() + "\nx\n",
           {"-n", "3", "--temp", "0", "-c", "1500"});
  EXPECT_EQ(tokens_read(status), tokens_read(same.err) - 2);
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.wait(), 0);
}

TEST_F(Chat, ATerminalThatKnowsNoMarksGetsNone) {
  Terminal terminal("/bin/sh",
                    {"-c", std::string("TERM=dumb exec ") + QWEN_CHAT + " -m " + kModel});
  EXPECT_THAT(terminal.until("> "), Not(HasSubstr("2004")));
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.wait(), 0);
}

TEST_F(Chat, WhatWasDoneIsSaid) {
  const std::string file = directory_ / "kept";
  Terminal terminal(QWEN_CHAT, arguments({"-n", "3", "--temp", "0"}));
  terminal.until("> ");
  const auto says = [&](const std::string& line, const std::string& answer) {
    terminal.type(line + "\n");
    terminal.until(answer);
  };
  says("/system Speak.", "the conversation begins anew, with this as what the model is told");
  says("Who?", "in use of");
  says("And?", "in use of");
  says("/save " + file, " tokens kept in " + file);
  says("/drop", "the oldest question is left out; ");
  says("/clear", "the conversation begins anew");
  says("/load " + file, " in " + file + " goes on");
  says("/budget 50%", "for weights");
  says("/budget 101%", "/budget \"101%\" is not a share of the weights");
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.wait(), 0);
}

// As shells have it.
TEST_F(Chat, HomeFoldersAreFound) {
  const std::string home = directory_ / "";
  directory_.write("psalm", "The LORD is my shepherd");
  const auto run = [&](const std::string& lines) {
    const std::string in = directory_.write("lines", lines);
    return run_process("/bin/sh", {"-c", "HOME=" + home + " exec \"$0\" \"$@\" < " + in, QWEN_CHAT,
                                   "-m", kModel, "-n", "3", "--temp", "0"});
  };
  const ProcessResult all = run("/file ~/psalm\nWho?\n/save ~/kept\n/load ~/kept\n");
  EXPECT_EQ(all.status, 0) << all.err;
  EXPECT_TRUE(std::filesystem::exists(directory_ / "kept"));
  EXPECT_EQ(run("/file '" + std::string(directory_ / "psalm") + "'\nWho?\n").status, 0);
  EXPECT_THAT(run("/file ~root/nonexistent\n").err, Not(HasSubstr("~")));
  EXPECT_THAT(run("/file ~nobody-has-this-name/x\n").err, HasSubstr("~nobody-has-this-name/x:"));
}

TEST_F(Chat, BudgetsChangeInAConversation) {
  Terminal terminal(QWEN_CHAT, arguments({"-n", "5", "--temp", "0", "--arena", "60%"}));
  terminal.until("> ");
  for (const char* size : {"1MiB", "2MiB", "40%", "1GiB"}) {
    terminal.type(std::string("/budget ") + size + "\n");
    terminal.until("for weights");
    terminal.type("Who art thou?\n");
    terminal.until("in use of");
  }
  terminal.type("/budget 1KiB\n");
  terminal.until("give it at least");
  terminal.type("Who art thou?\n");
  terminal.until("in use of");
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.wait(), 0);
}

TEST_F(Chat, AFileThatCannotBeWrittenEndsNothing) {
  Terminal terminal(QWEN_CHAT, arguments({"-n", "3", "--temp", "0"}));
  terminal.until("> ");
  terminal.type("Who?\n");
  terminal.until("in use of");
  terminal.type("/save /nonexistent/x\n");
  terminal.until("cannot write");
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.wait(), 0);
}

TEST_F(Chat, MistakesAreSaidAndForgiven) {
  Terminal terminal(QWEN_CHAT, arguments({}));
  terminal.until("> ");
  terminal.type("/nothing\n");
  terminal.until("is no command");
  terminal.type("/help\n");
  terminal.until("/budget SIZE");
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.wait(), 0);
}

// README's picture: tools/record_terminal.py.
TEST_F(Chat, AConversationCanBeRecorded) {
  if (run_process("/bin/sh", {"-c", "command -v python3"}).status != 0)
    GTEST_SKIP() << "no python3";
  const std::string out = directory_ / "chat.svg";
  const auto record = [&](const std::vector<std::string>& arguments) {
    return run_process(RECORD_TERMINAL, arguments);
  };
  const ProcessResult run = record({out, "--line", "Who <art> thou?", "--", QWEN_CHAT, "-m", kModel,
                                    "--device", "host", "-n", "4", "--temp", "0"});
  ASSERT_EQ(run.status, 0) << run.err;
  std::ifstream in(out);
  const std::string svg{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  EXPECT_THAT(svg, HasSubstr("Who &lt;art&gt; thou?</text>"));
  EXPECT_THAT(svg, HasSubstr("[4 tokens, "));
  EXPECT_THAT(svg, HasSubstr("@keyframes"));
  EXPECT_THAT(svg, Not(HasSubstr("script")));
  EXPECT_NE(record({out, "--line", "x", "--", "/bin/echo"}).status, 0);
}

TEST_F(Chat, AModelThatIsNotThereIsOneLine) {
  const ProcessResult result = run_process(QWEN_CHAT, {"-m", "/nonexistent"});
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(lines(result.err).size(), 1U);
}

}  // namespace
}  // namespace tensor_pager::tests
