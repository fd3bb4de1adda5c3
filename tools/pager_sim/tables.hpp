// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "comparison.hpp"
#include "measured_tokens.hpp"
#include "prediction/machine.hpp"
#include "prediction/prefill.hpp"
#include "prediction/tokens.hpp"

namespace tensor_pager::pager_sim {

/// A predicted prefill, and what the table calls its policy.
struct PrefillRow {
  prediction::PrefillCase what;
  std::string policy;
  prediction::PredictedPrefill predicted;
};

/// The same of generation.
struct TokensRow {
  prediction::TokensCase what;
  std::string policy;
  prediction::PredictedTokens predicted;
};

/// "tg64", or "tg64x8" for 8 sequences, as pager_bench has it.
std::string test_text(const prediction::TokensCase& what);

/// A table of each kind that there are rows of, with what model and machine are.
void print_tables(const qwen::Model& model, const prediction::Machine& machine,
                  const std::vector<PrefillRow>& prefills, const std::vector<TokensRow>& tokens);
/// One array.
void print_json(const qwen::Model& model, const prediction::Machine& machine,
                const std::vector<PrefillRow>& prefills, const std::vector<TokensRow>& tokens);

void print_comparison(const prediction::StepRates& rates, const std::vector<Comparison>& rows);
void print_comparison(const TokenRates& rates, const std::vector<TokensComparison>& rows);

}  // namespace tensor_pager::pager_sim
