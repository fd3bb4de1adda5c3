// SPDX-License-Identifier: Apache-2.0
#include "loaders/tokenizer.hpp"

#include <fmt/format.h>

#include <utility>

#include "tokenizer_literals.hpp"
#include "tokenizer_merges.hpp"
#include "tokenizer_quoted.hpp"
#include "tokenizer_unicode.hpp"
#include "tokenizer_words.hpp"

namespace tensor_pager::loaders {
namespace {

bool is_literal(TokenType type) {
  return type == TokenType::control || type == TokenType::user_defined;
}

void check_model(const Vocabulary& vocabulary) {
  if (vocabulary.model == "gpt2") return;
  throw TokenizerError(
      fmt::format("unknown tokenizer model {} (tokenizer.ggml.model); supported: gpt2; give token "
                  "ids instead of text",
                  quoted(vocabulary.model)));
}

void check_types(const Vocabulary& vocabulary) {
  const std::size_t count = vocabulary.tokens.size();
  if (!vocabulary.types.empty() && vocabulary.types.size() != count) {
    throw TokenizerError(fmt::format(
        "the vocabulary has {} tokens but {} types (tokenizer.ggml.token_type); convert "
        "the model again",
        count, vocabulary.types.size()));
  }
  for (std::size_t id = 0; id < vocabulary.types.size(); ++id) {
    const TokenType type = vocabulary.types[id];
    if (type >= TokenType::normal && type <= TokenType::byte) continue;
    throw TokenizerError(
        fmt::format("token {} has type {} (tokenizer.ggml.token_type), which is not one of 1 to 6; "
                    "convert the model again",
                    id, static_cast<unsigned>(type)));
  }
}

void check_sequence_token(const char* name, std::optional<TokenId> id, std::size_t count) {
  if (!id || *id < count) return;
  throw TokenizerError(
      fmt::format("{} is token {}, but the vocabulary has {} tokens; convert the model again", name,
                  *id, count));
}

TokenIndex index_tokens(const std::vector<std::string>& tokens) {
  TokenIndex index;
  index.reserve(tokens.size());
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const auto [entry, is_new] = index.emplace(tokens[id], static_cast<TokenId>(id));
    if (is_new) continue;
    throw TokenizerError(
        fmt::format("tokens {} and {} (tokenizer.ggml.tokens) are both {}; convert the model again",
                    entry->second, id, quoted(tokens[id])));
  }
  return index;
}

/// Checks what Tokenizer's constructor promises about everything but the merges.
TokenIndex check_and_index(const Vocabulary& vocabulary) {
  const std::size_t count = vocabulary.tokens.size();
  check_model(vocabulary);
  check_types(vocabulary);
  if (count > UINT32_MAX) {
    throw TokenizerError(fmt::format(
        "the vocabulary has {} tokens (tokenizer.ggml.tokens), but ids have 32 bits; use "
        "a smaller one",
        count));
  }
  check_sequence_token("tokenizer.ggml.bos_token_id", vocabulary.bos, count);
  check_sequence_token("tokenizer.ggml.eos_token_id", vocabulary.eos, count);
  if (vocabulary.add_bos && !vocabulary.bos) {
    throw TokenizerError(
        "tokenizer.ggml.add_bos_token is set, but there is no tokenizer.ggml.bos_token_id; convert "
        "the model again");
  }
  return index_tokens(vocabulary.tokens);
}

}  // namespace

struct Tokenizer::Parts {
  explicit Parts(const Vocabulary& vocabulary)
      : merges(check_and_index(vocabulary), vocabulary.merges),
        words(vocabulary.pre),
        bos(vocabulary.bos),
        eos(vocabulary.eos),
        add_bos(vocabulary.add_bos) {
    token_bytes.reserve(vocabulary.tokens.size());
    is_control.reserve(vocabulary.tokens.size());
    for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
      add_token(vocabulary.tokens[id],
                vocabulary.types.empty() ? TokenType::normal : vocabulary.types[id]);
    }
  }

  void add_token(const std::string& text, TokenType type) {
    const auto id = static_cast<TokenId>(token_bytes.size());
    is_control.push_back(type == TokenType::control);
    if (!is_literal(type)) {
      token_bytes.push_back(bytes_from_alphabet(text).value_or(text));
      return;
    }
    token_bytes.push_back(text);
    // token_bytes has its final capacity: the views stay valid.
    any_literal.add(token_bytes.back(), id);
    if (type == TokenType::user_defined) user_literal.add(token_bytes.back(), id);
  }

  void encode_between(std::string_view text, bool nfc, MergeTable::Workspace& workspace,
                      std::vector<TokenId>& ids) const {
    if (text.empty()) return;
    std::string composed;
    if (nfc && words.wants_nfc()) text = compose_nfc(text, composed);
    WordCursor cursor(words, text);
    for (std::string_view word = cursor.next(); !word.empty(); word = cursor.next()) {
      merges.encode(word, workspace, ids);
    }
  }

  MergeTable merges;
  WordSplitter words;
  LiteralMatcher any_literal;   // control and user-defined tokens
  LiteralMatcher user_literal;  // user-defined tokens only
  std::vector<std::string> token_bytes;
  std::vector<bool> is_control;
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;
  bool add_bos;
};

Tokenizer::Tokenizer(const Vocabulary& vocabulary)
    : parts_(std::make_unique<const Parts>(vocabulary)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::size_t Tokenizer::size() const {
  return parts_->token_bytes.size();
}
std::optional<TokenId> Tokenizer::bos() const {
  return parts_->bos;
}
std::optional<TokenId> Tokenizer::eos() const {
  return parts_->eos;
}
bool Tokenizer::adds_bos() const {
  return parts_->add_bos;
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  if (text.size() >= UINT32_MAX) {
    throw TokenizerError(fmt::format(
        "text of {} bytes is too long to encode at once; split it below 4 GiB", text.size()));
  }
  check_utf8(text);
  const LiteralMatcher& literals =
      options.parse_control ? parts_->any_literal : parts_->user_literal;
  std::vector<TokenId> ids;
  if (options.add_bos && parts_->add_bos) ids.push_back(*parts_->bos);
  MergeTable::Workspace workspace;
  std::size_t position = 0;
  while (position < text.size()) {
    const auto literal = literals.find(text, position);
    const std::size_t end = literal ? literal->offset : text.size();
    parts_->encode_between(text.substr(position, end - position), options.nfc, workspace, ids);
    if (literal) ids.push_back(literal->id);
    position = literal ? end + literal->length : end;
  }
  return ids;
}

std::string_view Tokenizer::bytes(TokenId id, const DecodeOptions& options) const {
  if (id >= size()) {
    throw TokenizerError(fmt::format(
        "token id {} is outside the vocabulary of {} tokens; use ids below that", id, size()));
  }
  if (parts_->is_control[id] && !options.render_control) return {};
  return parts_->token_bytes[id];
}

std::string Tokenizer::decode(std::span<const TokenId> ids, const DecodeOptions& options) const {
  std::string text;
  for (const TokenId id : ids) text += bytes(id, options);
  return text;
}

}  // namespace tensor_pager::loaders
