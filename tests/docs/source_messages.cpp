// SPDX-License-Identifier: Apache-2.0
#include "source_messages.hpp"

#include <algorithm>
#include <cctype>
#include <string_view>
#include <utility>

namespace tensor_pager::tests {
namespace {

enum class Kind { word, text, sign };

struct Token {
  Kind kind;
  std::string text;
  std::size_t line;
};

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

// Words, string literals and signs; no comments, no preprocessor's business.
class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> tokens() {
    while (at_ < source_.size()) next();
    return std::move(tokens_);
  }

 private:
  bool looks_at(std::string_view what) const { return source_.substr(at_).starts_with(what); }

  void skip(std::size_t count) {
    for (; count > 0 && at_ < source_.size(); --count) line_ += source_[at_++] == '\n' ? 1 : 0;
  }
  void skip_past(std::string_view end) {
    const std::size_t found = source_.find(end, at_);
    skip((found == std::string_view::npos ? source_.size() : found + end.size()) - at_);
  }

  void next() {
    const char c = source_[at_];
    if (looks_at("//")) return skip_past("\n");
    if (looks_at("/*")) return skip_past("*/");
    if (looks_at("R\"")) return raw_text();
    if (c == '"') return text();
    if (is_word(c)) return word();
    if (c == '\'') return skip(source_[at_ + 1] == '\\' ? 4 : 3);  // a character
    if (std::isspace(static_cast<unsigned char>(c)) == 0) {
      tokens_.push_back({Kind::sign, std::string(1, c), line_});
    }
    skip(1);
  }

  void word() {
    Token token{Kind::word, {}, line_};
    // With the quotes between digits: 65'535.
    while (at_ < source_.size() &&
           (is_word(source_[at_]) || (source_[at_] == '\'' && is_number(token.text)))) {
      token.text += source_[at_];
      skip(1);
    }
    tokens_.push_back(std::move(token));
  }
  static bool is_number(const std::string& text) {
    return std::isdigit(static_cast<unsigned char>(text.front())) != 0;
  }

  void text() {
    Token token{Kind::text, {}, line_};
    for (skip(1); at_ < source_.size() && source_[at_] != '"'; skip(1)) {
      if (source_[at_] == '\\') skip(1);
      token.text += source_[at_];
    }
    skip(1);
    append(std::move(token));
  }
  void raw_text() {
    const std::size_t begin = source_.find('(', at_) + 1;
    const std::string end = ")" + std::string(source_.substr(at_ + 2, begin - at_ - 3)) + "\"";
    Token token{Kind::text, {}, line_};
    token.text = source_.substr(begin, source_.find(end, begin) - begin);
    skip_past(end);
    append(std::move(token));
  }
  // Neighbouring literals are one.
  void append(Token token) {
    const bool neighbour = !tokens_.empty() && tokens_.back().kind == Kind::text;
    if (neighbour) {
      tokens_.back().text += token.text;
    } else {
      tokens_.push_back(std::move(token));
    }
  }

  std::string_view source_;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  std::vector<Token> tokens_;
};

// What stands around the {} of a format string.
void add_pieces(const std::string& format, std::vector<std::string>& pieces) {
  std::string piece;
  for (std::size_t i = 0; i < format.size(); ++i) {
    const char c = format[i];
    const bool twice = i + 1 < format.size() && format[i + 1] == c;
    if ((c == '{' || c == '}') && twice) {
      piece += c;
      ++i;
    } else if (c == '{') {
      pieces.push_back(std::exchange(piece, {}));
      i = std::min(format.find('}', i), format.size());
    } else {
      piece += c;
    }
  }
  pieces.push_back(piece);
}

class SiteFinder {
 public:
  explicit SiteFinder(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  std::vector<MessageSite> sites() {
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      const bool kept = is(i, "failure") && is(i + 1, "=");
      if (is_throw(i) || kept) add(i, end_of_statement(i));
      if (makes_error(i)) add(i, end_of_body(i));
    }
    return std::move(sites_);
  }

 private:
  bool is(std::size_t i, std::string_view text) const {
    return i < tokens_.size() && tokens_[i].kind != Kind::text && tokens_[i].text == text;
  }
  // A TextRequest is no error: it asks for help, say.
  bool is_throw(std::size_t i) const {
    return is(i, "throw") && !is(i + 1, ";") && !is(i + 1, "TextRequest");
  }
  // "GgufError GgufModel::missing_tensor(...) const {": the body follows.
  bool makes_error(std::size_t i) const {
    if (tokens_[i].kind != Kind::word || !tokens_[i].text.ends_with("Error")) return false;
    if (i + 1 >= tokens_.size() || tokens_[i + 1].kind != Kind::word) return false;
    std::size_t at = i + 1;
    while (at < tokens_.size() && !is(at, "(") && !is(at, ";") && !is(at, "{")) ++at;
    while (at < tokens_.size() && !is(at, ";") && !is(at, "{")) ++at;
    return is(at, "{") && at - i < 40;
  }

  std::size_t end_of_statement(std::size_t i) const {
    while (i < tokens_.size() && !is(i, ";")) ++i;
    return i;
  }
  std::size_t end_of_body(std::size_t i) const {
    while (!is(i, "{")) ++i;
    for (int depth = 0; i < tokens_.size(); ++i) {
      depth += is(i, "{") ? 1 : is(i, "}") ? -1 : 0;
      if (depth == 0) break;
    }
    return i;
  }

  void add(std::size_t begin, std::size_t end) {
    MessageSite site{.file = {}, .line = tokens_[begin].line, .texts = {}};
    for (std::size_t i = begin; i < end; ++i) {
      if (tokens_[i].kind == Kind::text) add_pieces(tokens_[i].text, site.texts);
    }
    if (tokens_[begin].text == "throw" || !site.texts.empty()) sites_.push_back(std::move(site));
  }

  std::vector<Token> tokens_;
  std::vector<MessageSite> sites_;
};

}  // namespace

std::vector<MessageSite> message_sites(const std::filesystem::path& file, const std::string& text) {
  std::vector<MessageSite> sites = SiteFinder(Lexer(text).tokens()).sites();
  for (MessageSite& site : sites) site.file = file;
  return sites;
}

}  // namespace tensor_pager::tests
