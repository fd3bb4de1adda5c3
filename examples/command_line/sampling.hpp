// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "loaders/metadata.hpp"
#include "qwen/sampler.hpp"

namespace tensor_pager::command_line {

/// What a user, or a model's file, wants of the sampler; nothing: it is left to others. Numbers
/// mean what they do in llama.cpp.
struct SamplingWishes {
  std::optional<float> temperature{};   ///< 0 or less: the most likely token
  std::optional<std::int32_t> top_k{};  ///< 0 or less: all
  std::optional<float> top_p{};
  std::optional<float> min_p{};
  std::optional<float> repeat_penalty{};
  std::optional<float> presence_penalty{};
  std::optional<float> frequency_penalty{};
  std::optional<std::int32_t> repeat_last_n{};  ///< less than 0: all that came before
};

/// The advice of a file's makers: its keys `general.sampling.*`. Throws GgufError if one has the
/// wrong type, is not finite, or penalises by a factor that is not positive.
SamplingWishes sampling_advice(const loaders::Metadata& metadata);

struct Sampling {
  qwen::SamplerOptions options;
  std::string description;  ///< for people, in one line
};

/// Each number is the user's, else the file's, else what llama.cpp takes. The temperature is else
/// 0, unless somebody wants top-k, top-p or min-p, which say nothing without one. Throws what
/// sampling_advice throws.
Sampling choose_sampling(const SamplingWishes& user, const loaders::Metadata& metadata,
                         std::uint64_t seed);

/// Another one each time.
std::uint64_t random_seed();

}  // namespace tensor_pager::command_line
