// SPDX-License-Identifier: Apache-2.0
#include "qwen/sequences.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "qwen/error.hpp"

namespace tensor_pager::qwen {

Sequences::Sequences(std::uint32_t most, std::uint32_t context)
    : context_(context), places_(most) {}

std::uint32_t Sequences::count() const {
  const auto is_taken = [](const Place& place) { return place.number != 0; };
  return static_cast<std::uint32_t>(std::ranges::count_if(places_, is_taken));
}

SequenceId Sequences::begin() {
  const auto free = std::ranges::find(places_, std::uint64_t{0}, &Place::number);
  if (free == places_.end()) {
    throw Error(fmt::format("all {} sequences are in use; end one, or plan the run for more",
                            places_.size()));
  }
  free->number = ++begun_;
  return {static_cast<std::uint32_t>(std::distance(places_.begin(), free)), free->number};
}

SequenceId Sequences::fork(SequenceId from) {
  std::vector<loaders::TokenId> tokens = at(from).tokens;
  const SequenceId sequence = begin();
  at(sequence).tokens = std::move(tokens);
  return sequence;
}

void Sequences::end(SequenceId sequence) {
  at(sequence) = {};
}

void Sequences::require_room(SequenceId sequence, std::size_t tokens) const {
  const std::size_t length = at(sequence).tokens.size();
  if (tokens <= context_ - length) return;
  if (tokens == 1) {
    throw Error(fmt::format("the context of {} tokens is full; give a larger one", context_));
  }
  throw Error(
      fmt::format("the context of {} tokens, {} of which are in use, has no room for {} more; give "
                  "a larger one",
                  context_, length, tokens));
}

void Sequences::append(SequenceId sequence, std::span<const loaders::TokenId> tokens) {
  require_room(sequence, tokens.size());
  std::vector<loaders::TokenId>& all = at(sequence).tokens;
  all.insert(all.end(), tokens.begin(), tokens.end());
}

void Sequences::rewind(SequenceId sequence, std::size_t length) {
  std::vector<loaders::TokenId>& all = at(sequence).tokens;
  if (length > all.size()) {
    throw std::invalid_argument(
        fmt::format("a sequence of {} tokens cannot go back to {}", all.size(), length));
  }
  all.resize(length);
}

std::span<const loaders::TokenId> Sequences::tokens(SequenceId sequence) const {
  return at(sequence).tokens;
}

const Sequences::Place& Sequences::at(SequenceId sequence) const {
  const bool is_there = sequence.place < places_.size() && sequence.number != 0 &&
                        places_[sequence.place].number == sequence.number;
  if (is_there) return places_[sequence.place];
  throw std::invalid_argument("a sequence that has ended, or never was, cannot be used");
}

Sequences::Place& Sequences::at(SequenceId sequence) {
  return const_cast<Place&>(std::as_const(*this).at(sequence));
}

std::size_t common_beginning(std::span<const loaders::TokenId> a,
                             std::span<const loaders::TokenId> b) {
  const auto differ = std::ranges::mismatch(a, b).in1;
  return static_cast<std::size_t>(std::distance(a.begin(), differ));
}

}  // namespace tensor_pager::qwen
