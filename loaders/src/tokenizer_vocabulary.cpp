// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "loaders/metadata.hpp"
#include "loaders/tokenizer.hpp"

namespace tensor_pager::loaders {
namespace {

constexpr std::string_view kModel = "tokenizer.ggml.model";
constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kTypes = "tokenizer.ggml.token_type";

std::vector<TokenType> read_types(const Metadata& metadata) {
  std::vector<TokenType> types;
  if (!metadata.contains(kTypes)) return types;
  const auto numbers = metadata.get<std::vector<std::int32_t>>(kTypes);
  types.reserve(numbers.size());
  for (const std::int32_t number : numbers) {
    if (number < 1 || number > 6) {
      throw metadata.error(
          kTypes,
          fmt::format("token {} has type {}, which is not one of 1 to 6; convert the model again",
                      types.size(), number));
    }
    types.push_back(static_cast<TokenType>(number));
  }
  return types;
}

}  // namespace

std::optional<Vocabulary> read_vocabulary(const Metadata& metadata) {
  const auto model = metadata.get_or<std::string>(kModel, "no_vocab");
  if (model == "no_vocab") return std::nullopt;
  using Strings = std::vector<std::string>;
  const auto id = [&](const char* name) {
    return metadata.get_optional<TokenId>(fmt::format("tokenizer.ggml.{}_token_id", name));
  };
  return Vocabulary{
      .model = model,
      .pre = metadata.get_or<std::string>("tokenizer.ggml.pre", ""),
      .tokens = metadata.get<Strings>(kTokens),
      .types = read_types(metadata),
      .merges = metadata.get_or<Strings>("tokenizer.ggml.merges", {}),
      .bos = id("bos"),
      .eos = id("eos"),
      .eot = id("eot"),
      .eom = id("eom"),
      .fim_pad = id("fim_pad"),
      .fim_repo = id("fim_rep"),
      .fim_separator = id("fim_sep"),
      .add_bos = metadata.get_or("tokenizer.ggml.add_bos_token", false),
  };
}

}  // namespace tensor_pager::loaders
