// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "loaders/tokenizer.hpp"

namespace tensor_pager::qwen {

/// Names a sequence from its beginning to its end; no later one has the same.
struct SequenceId {
  std::uint32_t place = 0;   ///< in the key-value cache
  std::uint64_t number = 0;  ///< of the sequences begun so far

  bool operator==(const SequenceId&) const = default;
};

/// Which sequences there are, and the tokens that each consists of. Knows nothing of keys and
/// values.
class Sequences {
 public:
  /// At most `most` at a time, of `context` tokens each.
  Sequences(std::uint32_t most, std::uint32_t context);

  std::uint32_t most() const { return static_cast<std::uint32_t>(places_.size()); }
  std::uint32_t context() const { return context_; }
  std::uint32_t count() const;

  /// An empty one. Throws Error if there are as many as there may be.
  SequenceId begin();
  /// One that consists of the same tokens. Throws Error likewise.
  SequenceId fork(SequenceId from);
  /// Its place may be another's from now on.
  void end(SequenceId sequence);
  /// Throws Error if the context has no room for them.
  void require_room(SequenceId sequence, std::size_t tokens) const;
  void append(SequenceId sequence, std::span<const loaders::TokenId> tokens);
  /// Keeps the first `length` tokens. Throws std::invalid_argument if there are fewer.
  void rewind(SequenceId sequence, std::size_t length);
  /// Here and above, throws std::invalid_argument for a sequence that has ended.
  std::span<const loaders::TokenId> tokens(SequenceId sequence) const;

 private:
  struct Place {
    std::uint64_t number = 0;  // 0: nobody's
    std::vector<loaders::TokenId> tokens{};
  };

  const Place& at(SequenceId sequence) const;
  Place& at(SequenceId sequence);

  std::uint32_t context_;
  std::uint64_t begun_ = 0;
  std::vector<Place> places_;
};

/// How many tokens both begin with.
std::size_t common_beginning(std::span<const loaders::TokenId> a,
                             std::span<const loaders::TokenId> b);

}  // namespace tensor_pager::qwen
