// SPDX-License-Identifier: Apache-2.0
#include "thinking_model.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../edited_model.hpp"
#include "loaders/gguf.hpp"

namespace tensor_pager::tests {
namespace {

const std::string kModel = TEST_DATA_DIR "/models/tiny-qwen2-q4_k_m.gguf";

}  // namespace

const char* const kChatTemplate =
    "{%- if messages[0]['role'] == 'system' %}\n{{- '<|im_start|>system\\n' + x + '<|im_end|>\\n' "
    "}}\n{%- else %}\n{{- '<|im_start|>system\\nYou are Qwen. You help.<|im_end|>\\n' }}\n";

std::filesystem::path write_thinking_model(const std::filesystem::path& path,
                                           const std::map<std::string, float>& bias) {
  const auto model = loaders::GgufModel::open(kModel);
  const auto strings = [&](const char* key) {
    return model.metadata().get<std::vector<std::string>>(key);
  };
  std::vector<std::string> tokens = strings("tokenizer.ggml.tokens");
  std::vector<std::string> merges = strings("tokenizer.ggml.merges");
  auto types = model.metadata().get<std::vector<std::int32_t>>("tokenizer.ggml.token_type");
  for (const char* mark : {"<think>", "</think>"}) {
    std::string merged = merges.back();
    merges.pop_back();
    merged.erase(merged.find(' '), 1);
    const auto at = std::ranges::find(tokens, merged);
    types[static_cast<std::size_t>(at - tokens.begin())] = 4;  // user-defined
    *at = mark;
  }
  EditedModel edited(kModel);
  edited.set_array("tokenizer.ggml.tokens", tokens)
      .set_array("tokenizer.ggml.merges", merges)
      .set_array("tokenizer.ggml.token_type", types)
      .set("tokenizer.chat_template",
           std::string(kChatTemplate) + "{{- '<think>\\n\\n</think>' }}");
  if (!bias.empty()) {
    std::vector<float> values(tokens.size());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (bias.contains(tokens[i])) values[i] = bias.at(tokens[i]);
    }
    edited.add("output.bias", {values.size()}, values);
  }
  return edited.write(path);
}

}  // namespace tensor_pager::tests
