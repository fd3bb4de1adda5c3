// SPDX-License-Identifier: Apache-2.0
#include "kernels/rope.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "cpu/parallel.hpp"
#include "cpu/shape_check.hpp"

namespace tensor_pager::kernels {
namespace {

void require_valid(const RopeParameters& p) {
  if (p.rotary_dims == 0 || p.rotary_dims % 2 != 0) {
    throw Error("rope: rotary_dims is " + std::to_string(p.rotary_dims) +
                ", but must be even and positive");
  }
  if (!(p.frequency_base > 1.0)) {
    throw Error("rope: frequency_base is " + std::to_string(p.frequency_base) +
                ", but must be greater than 1");
  }
  if (p.scaling != RopeScaling::none && !(p.factor > 0.0)) {
    throw Error("rope: scaling factor is " + std::to_string(p.factor) + ", but must be positive");
  }
  if (p.scaling == RopeScaling::yarn && p.original_context == 0) {
    throw Error("rope: yarn scaling needs the original context length, which is 0");
  }
  if (!p.factors.empty() && p.factors.size() != p.rotary_dims / 2) {
    throw Error("rope: " + std::to_string(p.factors.size()) + " factors for " +
                std::to_string(p.rotary_dims / 2) + " rotated pairs; give one for each");
  }
}

// The pair index whose angle makes `turns` full turns within the original context.
double pair_with_turns(const RopeParameters& p, double turns) {
  const double context = static_cast<double>(p.original_context);
  return static_cast<double>(p.rotary_dims) * std::log(context / (turns * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(p.frequency_base));
}

void apply_yarn(const RopeParameters& p, RopeFrequencies& frequencies) {
  const double last = static_cast<double>(p.rotary_dims) - 1.0;
  const double low = std::max(0.0, std::floor(pair_with_turns(p, p.beta_fast)));
  const double high = std::min(last, std::ceil(pair_with_turns(p, p.beta_slow)));
  for (std::size_t i = 0; i < frequencies.inverse.size(); ++i) {
    const double position = (static_cast<double>(i) - low) / std::max(0.001, high - low);
    const double keep = (1.0 - std::clamp(position, 0.0, 1.0)) * p.extrapolation_factor;
    const double unscaled = frequencies.inverse[i];
    frequencies.inverse[i] = unscaled / p.factor * (1.0 - keep) + unscaled * keep;
  }
  // A context that becomes no longer needs no other temperature.
  if (p.extrapolation_factor != 0.0) {
    frequencies.magnitude *= 1.0 + 0.1 * std::log(std::max(p.factor, 1.0));
  }
}

}  // namespace

RopeFrequencies rope_frequencies(const RopeParameters& p) {
  require_valid(p);
  RopeFrequencies result;
  result.magnitude = p.attention_factor;
  result.inverse.resize(p.rotary_dims / 2);
  for (std::size_t i = 0; i < result.inverse.size(); ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(p.rotary_dims);
    result.inverse[i] = std::pow(p.frequency_base, exponent);
    if (!p.factors.empty()) result.inverse[i] /= static_cast<double>(p.factors[i]);
    if (p.scaling == RopeScaling::linear) result.inverse[i] /= p.factor;
  }
  if (p.scaling == RopeScaling::yarn) apply_yarn(p, result);
  return result;
}

RopeTable::RopeTable(const RopeFrequencies& frequencies, std::size_t first_position,
                     std::size_t positions)
    : first_position_(first_position),
      positions_(positions),
      pairs_(frequencies.inverse.size()),
      values_(positions * 2 * pairs_) {
  for (std::size_t p = 0; p < positions; ++p) fill(frequencies, p, first_position + p);
}

RopeTable::RopeTable(const RopeFrequencies& frequencies, std::span<const std::size_t> positions)
    : first_position_(0),
      positions_(positions.size()),
      pairs_(frequencies.inverse.size()),
      values_(positions_ * 2 * pairs_) {
  for (std::size_t i = 0; i < positions_; ++i) fill(frequencies, i, positions[i]);
}

void RopeTable::fill(const RopeFrequencies& frequencies, std::size_t row, std::size_t position) {
  float* const cosines = values_.data() + row * 2 * pairs_;
  for (std::size_t i = 0; i < pairs_; ++i) {
    const double angle = static_cast<double>(position) * frequencies.inverse[i];
    cosines[i] = static_cast<float>(frequencies.magnitude * std::cos(angle));
    cosines[pairs_ + i] = static_cast<float>(frequencies.magnitude * std::sin(angle));
  }
}

namespace cpu {
namespace {

void require_valid(const MatrixView& x, std::size_t heads, std::size_t first_position,
                   const RopeTable& table) {
  require_shape("rope: x", x, x.rows, x.cols);
  if (heads == 0 || x.cols % heads != 0 || x.cols / heads < 2 * table.pairs()) {
    throw Error("rope: rows of " + std::to_string(x.cols) + " do not hold " +
                std::to_string(heads) + " heads of at least " + std::to_string(2 * table.pairs()) +
                " rotated dimensions");
  }
  const std::size_t table_end = table.first_position() + table.positions();
  if (first_position < table.first_position() || first_position + x.rows > table_end) {
    throw Error("rope: positions " + std::to_string(first_position) + " to " +
                std::to_string(first_position + x.rows) + " are outside the table's, " +
                std::to_string(table.first_position()) + " to " + std::to_string(table_end));
  }
}

}  // namespace

void rope(const MatrixView& x, std::size_t heads, std::size_t first_position,
          const RopeTable& table) {
  require_valid(x, heads, first_position, table);
  const std::size_t pairs = table.pairs();
  const std::size_t head_dim = x.cols / heads;
  const double rotations =
      static_cast<double>(x.rows) * static_cast<double>(heads) * static_cast<double>(pairs);
  parallel_tasks(x.rows, 6 * rotations, [&](std::size_t t) {
    const float* cosines = table.at(first_position + t);
    const float* sines = cosines + pairs;
    for (std::size_t h = 0; h < heads; ++h) {
      float* head = x.row(t) + h * head_dim;
      for (std::size_t i = 0; i < pairs; ++i) {
        const float a = head[i];
        const float b = head[i + pairs];
        head[i] = a * cosines[i] - b * sines[i];
        head[i + pairs] = a * sines[i] + b * cosines[i];
      }
    }
  });
}

}  // namespace cpu
}  // namespace tensor_pager::kernels
