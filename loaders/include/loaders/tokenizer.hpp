// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "pager/export.hpp"

namespace tensor_pager::loaders {

/// Index of a token in the vocabulary, and of its row in the embedding matrix.
using TokenId = std::uint32_t;

/// What a token stands for; the values are those of GGUF's `tokenizer.ggml.token_type`.
enum class TokenType : std::uint8_t {
  normal = 1,        ///< bytes of text, reached by merges
  unknown = 2,       ///< stands for what the vocabulary lacks; byte-level models never produce it
  control = 3,       ///< steers the model (`<|im_start|>`); matched literally, not part of the text
  user_defined = 4,  ///< matched literally, part of the text (`<tool_call>`)
  unused = 5,        ///< padding of the embedding matrix
  byte = 6,          ///< one byte of a byte-fallback model; treated as `normal` here
};

/// A tokenizer or its vocabulary cannot do what was asked; the message says what, where and what
/// to do, in one line.
class TENSOR_PAGER_EXPORT TokenizerError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The vocabulary as a model file states it. Plain data: nothing is checked before a `Tokenizer` is
/// made of it.
struct Vocabulary {
  std::string model = "gpt2";  ///< algorithm; "gpt2" is byte-level BPE, the only one known here
  std::string pre = "qwen2";   ///< pre-tokeniser: how text is cut into words before merging
  std::vector<std::string> tokens;  ///< by id; normal tokens in GPT-2's byte-to-unicode alphabet
  std::vector<TokenType> types;     ///< by id; empty means that all are `normal`
  std::vector<std::string> merges;  ///< "left right", best first
  std::optional<TokenId> bos;       ///< beginning of a sequence
  std::optional<TokenId> eos;       ///< end of a sequence
  std::optional<TokenId> eot;       ///< end of a turn
  std::optional<TokenId> eom;       ///< end of a message
  /// Behind a completed file: padding, the next repository, the next file.
  std::optional<TokenId> fim_pad;
  std::optional<TokenId> fim_repo;
  std::optional<TokenId> fim_separator;
  bool add_bos = false;  ///< whether the model was trained with `bos` before each text
};

class Metadata;

/// The vocabulary in the metadata of a GGUF file (`tokenizer.ggml.*`); nothing if the file has
/// none: `tokenizer.ggml.model` is `no_vocab`, or is not there. Throws GgufError if a key has the
/// wrong type or an id or token type cannot be represented.
TENSOR_PAGER_EXPORT std::optional<Vocabulary> read_vocabulary(const Metadata& metadata);

struct EncodeOptions {
  bool add_bos = true;        ///< put `bos` first, if the vocabulary asks for it
  bool parse_control = true;  ///< recognise control tokens in the text; false: they are plain text
  bool nfc = true;  ///< compose characters (Unicode NFC) first, if the pre-tokeniser asks for it
};

struct DecodeOptions {
  bool render_control = true;  ///< write control tokens as their names; false: leave them out
};

/// Text to token ids and back: byte-level byte-pair encoding with the Qwen pre-tokenisers: `qwen2`
/// (also by the names `deepseek-r1-qwen`, `f2llmv2`, `kormo` and `megrez`) and `qwen35`.
///
/// Encoding follows the model's own `tokenizer.json`: control and user-defined tokens are matched
/// first (leftmost, then longest), what lies between is normalised to NFC, cut into words by the
/// pre-tokeniser's regular expression, and merged word by word, best merge first. Time is
/// O(n log n) in the length of the longest word.
///
/// Since NFC comes first, `decode(encode(text))` is the NFC form of `text`; with
/// `EncodeOptions::nfc` off it is `text`, byte for byte.
///
/// Immutable: one tokenizer may be used by several threads at once.
class TENSOR_PAGER_EXPORT Tokenizer {
 public:
  /// Throws TokenizerError if the model or pre-tokeniser is unknown, `types` is neither empty nor
  /// as long as `tokens`, a type is none of TokenType's, a token occurs twice, `bos` or `eos` is
  /// outside the vocabulary, `add_bos` has no `bos`, or a merge is not two tokens whose
  /// concatenation is a token. Of two equal merges the first counts.
  explicit Tokenizer(const Vocabulary& vocabulary);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// Number of tokens; ids are less than this.
  std::size_t size() const;
  std::optional<TokenId> bos() const;
  std::optional<TokenId> eos() const;
  /// Whether encode puts `bos` before each text, unless it is told not to.
  bool adds_bos() const;

  /// Ids of `text`; an empty text has none (but `bos`). Throws TokenizerError if `text` is not
  /// UTF-8, naming the byte offset, if it is 4 GiB or longer, or if it needs a byte that the
  /// vocabulary has no token for.
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const;

  /// The bytes that one token stands for (perhaps a part of a UTF-8 character); they live as long
  /// as the tokenizer. Throws TokenizerError if `id` is not less than size().
  std::string_view bytes(TokenId id, const DecodeOptions& options = {}) const;

  /// The bytes of all `ids` in a row. Valid UTF-8 only if the ids spell whole characters.
  std::string decode(std::span<const TokenId> ids, const DecodeOptions& options = {}) const;

 private:
  struct Parts;
  std::unique_ptr<const Parts> parts_;
};

/// Decodes a stream of tokens for display: what it returns is always valid UTF-8. Bytes of a
/// character that is not complete yet are held back (at most three); bytes that cannot become a
/// character are replaced by U+FFFD, one for each maximal ill-formed part (Unicode 15, 3.9, U+FFFD
/// Substitution of Maximal Subparts).
class TENSOR_PAGER_EXPORT StreamDecoder {
 public:
  /// `tokenizer` must outlive the decoder.
  explicit StreamDecoder(const Tokenizer& tokenizer, const DecodeOptions& options = {});

  /// The text that is certain now that `id` has come. Throws as Tokenizer::bytes, without change.
  std::string push(TokenId id);

  /// Ends the stream: U+FFFD if a character was left incomplete, or nothing. Ready for a new one.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  DecodeOptions options_;
  std::string held_back_;
};

}  // namespace tensor_pager::loaders
