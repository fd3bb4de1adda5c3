// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "prediction/machine.hpp"
#include "prediction/prefill.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::pager_sim {

/// A prefill that pager_bench measured.
struct MeasuredPrefill {
  prediction::PrefillCase what;  ///< arena, prompt, ubatch, page, link and passes as it was run
  Bytes arena;
  double tokens_per_second = 0;  ///< median
  Bytes copied;
};

/// The prefills in the output of pager_bench -o json or jsonl. Throws qwen::Error if the file
/// cannot be read, or is something else.
std::vector<MeasuredPrefill> read_measurements(const std::filesystem::path& path);

/// A machine's rates as pager_bench calibrated them, with a row or alone. Bytes and operations per
/// second.
struct CalibratedRates {
  double link = 0;
  double memory = 0;
  double arithmetic = 0;
  bool host = false;    ///< its processors, not a GPU
  bool of_row = false;  ///< with a measured row
};

/// Those of every row, or of pager_bench --calibrate -o json or jsonl; at least one. Throws
/// qwen::Error if the file cannot be read, or is something else.
std::vector<CalibratedRates> read_calibrations(const std::filesystem::path& path);

/// The rates with which passes that copied nothing take as long as they took: with one prompt
/// length the arithmetic rate alone, with several both, by least squares of relative errors. Throws
/// qwen::Error if no pass of the measurements copied nothing.
prediction::StepRates fit_rates(const qwen::Model& model,
                                const std::vector<MeasuredPrefill>& measured);

/// A measurement, and what is predicted for it.
struct Comparison {
  MeasuredPrefill measured;
  prediction::PredictedPrefill predicted;

  /// How much faster the prediction is than the measurement: 0.1 for 10%.
  double error() const { return predicted.tokens_per_second() / measured.tokens_per_second - 1; }
  bool same_bytes() const;  ///< per pass
};

/// Predicts every measurement that copied something with `rates`.
std::vector<Comparison> compare(const qwen::Model& model, const prediction::StepRates& rates,
                                std::optional<double> map_seconds,
                                const std::vector<MeasuredPrefill>& measured);

/// What pager_bench wrote: rows with -o json or jsonl, from which rates are fitted as --against
/// does, or what --calibrate measured. With `sequences` what it generates with, too, a token of
/// each of so many at a time, fitted to rows of as many. Throws qwen::Error if it is neither.
prediction::Machine machine_of_file(const qwen::Model& model, const std::filesystem::path& path,
                                    std::optional<std::uint32_t> sequences);

}  // namespace tensor_pager::pager_sim
