// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/export.hpp"
#include "kernels/matrix_view.hpp"

namespace tensor_pager::kernels {

enum class RopeScaling { none, linear, yarn };

/// What a model file says about its rotary embedding. The fields from `factor` to
/// `extrapolation_factor` matter with linear (factor) or yarn.
struct RopeParameters {
  std::size_t rotary_dims = 0;  ///< leading dimensions of a head that are rotated; even
  double frequency_base = 10000.0;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1.0;  ///< context extension: 4 means four times the original context
  std::size_t original_context = 0;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double extrapolation_factor = 1.0;
  double attention_factor = 1.0;  ///< on the rotated values, with any scaling
  /// [rotary_dims / 2]: each pair's frequency is divided by its factor before it is scaled; empty:
  /// by 1.
  std::vector<float> factors{};
};

/// Angle per position of each rotated pair, in radians, and the factor on the rotated values.
struct RopeFrequencies {
  std::vector<double> inverse;  ///< [rotary_dims / 2]
  double magnitude = 1.0;

  bool operator==(const RopeFrequencies&) const = default;
};

/// Frequencies base^(-2i / rotary_dims) / factors[i], divided by `factor` if linear; if yarn, each
/// frequency is blended between the two according to how often it turns within the original
/// context, and magnitude = attention_factor * (1 + 0.1 ln factor) (Peng et al., YaRN, 2023,
/// sections 3.2 to 3.4). Throws Error if a parameter is out of range.
[[nodiscard]] TENSOR_PAGER_EXPORT RopeFrequencies
rope_frequencies(const RopeParameters& parameters);

/// Cosines and sines for positions, times the magnitude: computed once per pass, used by every
/// layer. Angles are computed in float64, so that position 1e6 is as exact as position 1.
class TENSOR_PAGER_EXPORT RopeTable {
 public:
  /// Table for the positions [first_position, first_position + positions).
  RopeTable(const RopeFrequencies& frequencies, std::size_t first_position, std::size_t positions);
  /// Table for the tokens of several sequences: what takes a position of it takes the index of one
  /// of these instead.
  RopeTable(const RopeFrequencies& frequencies, std::span<const std::size_t> positions);

  [[nodiscard]] std::size_t first_position() const { return first_position_; }
  [[nodiscard]] std::size_t positions() const { return positions_; }
  [[nodiscard]] std::size_t pairs() const { return pairs_; }

  /// Cosines [pairs] of an absolute position in range, followed by its sines [pairs].
  [[nodiscard]] const float* at(std::size_t position) const {
    return values_.data() + (position - first_position_) * 2 * pairs_;
  }

 private:
  void fill(const RopeFrequencies& frequencies, std::size_t row, std::size_t position);

  std::size_t first_position_;
  std::size_t positions_;
  std::size_t pairs_;
  std::vector<float> values_;
};

namespace cpu {

/// Rotates in place, NEOX style: in every head of x [tokens, heads * head_dim], the pair (i, i +
/// rotary_dims / 2) of token t turns by the angle of position first_position + t. Dimensions from
/// rotary_dims on stay as they are. Throws Error if the table lacks a position, or x.cols is not
/// heads * head_dim, or head_dim is smaller than rotary_dims.
TENSOR_PAGER_EXPORT void rope(const MatrixView& x, std::size_t heads, std::size_t first_position,
                              const RopeTable& table);

}  // namespace cpu
}  // namespace tensor_pager::kernels
