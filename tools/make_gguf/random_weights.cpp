// SPDX-License-Identifier: Apache-2.0
#include "random_weights.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>

namespace tensor_pager::make_gguf {
namespace {

using loaders::TensorType;

enum class ScaleForm {
  half,
  half_in_nibbles,  // the top four bits of four 16-bit words, lowest first
  e8m0,             // a power of two
  ue4m3,
};

// A scale (or offset) inside a quantised block.
struct BlockScale {
  TensorType type;
  std::uint32_t position;  // in the block
  // The field is deviation / divisor * factor. The divisor is the standard deviation of what the
  // type's random quants decode to under a scale of 1; the factor centres types that have a minimum
  // beside the scale.
  float divisor;
  float factor = 1;
  ScaleForm form = ScaleForm::half;
};

constexpr BlockScale kScales[] = {
    {TensorType::q4_0, 0, 4.6f, 1},
    {TensorType::q4_1, 0, 4.6f, 1},
    {TensorType::q4_1, 2, 4.6f, -7.5f},
    {TensorType::q5_0, 0, 9.2f, 1},
    {TensorType::q5_1, 0, 9.2f, 1},
    {TensorType::q5_1, 2, 9.2f, -15.5f},
    {TensorType::q8_0, 0, 74, 1},
    {TensorType::q2_k, 80, 14, 1},
    {TensorType::q2_k, 82, 14, 1.5f},
    {TensorType::q3_k, 108, 42, 1},
    {TensorType::q4_k, 0, 258, 1},
    {TensorType::q4_k, 2, 258, 7.5f},
    {TensorType::q5_k, 0, 527, 1},
    {TensorType::q5_k, 2, 527, 15.5f},
    {TensorType::q6_k, 208, 1365, 1},
    {TensorType::iq4_nl, 0, 68, 1},
    {TensorType::iq4_xs, 0, 1260, 1},
    {TensorType::iq2_xxs, 0, 53.4f},
    {TensorType::iq2_xs, 0, 55.9f},
    {TensorType::iq2_s, 0, 56.5f},
    {TensorType::iq3_xxs, 0, 142.5f},
    {TensorType::iq3_s, 0, 140.2f},
    {TensorType::iq1_s, 0, 7.21f},
    {TensorType::iq1_m, 48, 7.2f, 1, ScaleForm::half_in_nibbles},
    {TensorType::tq1_0, 52, 0.817f},
    {TensorType::tq2_0, 64, 0.707f},
    {TensorType::mxfp4, 0, 2.92f, 1, ScaleForm::e8m0},
    {TensorType::nvfp4, 0, 2.93f, 1, ScaleForm::ue4m3},
    {TensorType::nvfp4, 1, 2.93f, 1, ScaleForm::ue4m3},
    {TensorType::nvfp4, 2, 2.93f, 1, ScaleForm::ue4m3},
    {TensorType::nvfp4, 3, 2.93f, 1, ScaleForm::ue4m3},
};

bool is_plain(TensorType type) {
  return type == TensorType::f32 || type == TensorType::f16 || type == TensorType::bf16;
}

// Rounds a value far below the largest half (weights are) to half precision, ties away from zero.
std::uint16_t to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000;
  std::uint32_t exponent = (bits >> 23) & 0xff;
  constexpr std::uint32_t kBiasDifference = 127 - 15;
  if (exponent <= kBiasDifference) {
    // Subnormal: a multiple of 2^-24.
    return static_cast<std::uint16_t>(
        sign | static_cast<std::uint32_t>(std::lrint(std::fabs(value) * 0x1p24)));
  }
  exponent -= kBiasDifference;
  std::uint32_t mantissa = (bits & 0x7fffff) + 0x1000;
  if (mantissa & 0x800000) {
    mantissa = 0;
    ++exponent;
  }
  return static_cast<std::uint16_t>(sign | (exponent << 10) | (mantissa >> 13));
}

// Rounds to bfloat16, ties to even.
std::uint16_t to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Rounds a positive value to 2^(e - 127).
std::uint8_t to_e8m0(float value) {
  return static_cast<std::uint8_t>((std::bit_cast<std::uint32_t>(value) + 0x400000) >> 23);
}

// Rounds a positive value of at most 448 to E4M3 with bias 7, but not to zero.
std::uint8_t to_ue4m3(float value) {
  constexpr float kSmallestNormal = 0x1p-6f;
  if (value < kSmallestNormal) {
    return static_cast<std::uint8_t>(std::max(1L, std::lrint(value * 0x1p9f)));
  }
  constexpr std::uint32_t kBiasDifference = 127 - 7;
  const std::uint32_t rounded = std::bit_cast<std::uint32_t>(value) + (1 << 19);
  return static_cast<std::uint8_t>((rounded >> 20) - (kBiasDifference << 3));
}

template <class T>
void store(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof(value));
}

void plain_value(std::byte* at, TensorType type, float value) {
  if (type == TensorType::f32) return store(at, value);
  store(at, type == TensorType::f16 ? to_half(value) : to_bfloat16(value));
}

void store_in_nibbles(std::byte* words, std::uint32_t half) {
  for (std::size_t i = 0; i < 4; ++i) {
    const std::uint32_t nibble = half >> 4 * i & 15;
    words[2 * i + 1] = (words[2 * i + 1] & std::byte{15}) | static_cast<std::byte>(nibble << 4);
  }
}

void store_scale(std::byte* at, ScaleForm form, float value) {
  switch (form) {
    case ScaleForm::half:
      return store(at, to_half(value));
    case ScaleForm::half_in_nibbles:
      return store_in_nibbles(at, to_half(value));
    case ScaleForm::e8m0:
      return store(at, to_e8m0(value));
    case ScaleForm::ue4m3:
      return store(at, to_ue4m3(value));
  }
}

// Two-bit codes of 3, which stand for no ternary digit, become 1, the code of zero.
void make_ternary(std::span<std::byte> codes) {
  for (std::byte& four : codes) four &= ~((four << 1) & four & std::byte{0xAA});
}

void quantised_block(RandomStream& random, std::span<std::byte> block, TensorType type,
                     float deviation) {
  for (std::size_t i = 0; i < block.size(); i += sizeof(std::uint64_t)) {
    const std::uint64_t bits = random.next();
    std::memcpy(&block[i], &bits, std::min(sizeof(bits), block.size() - i));
  }
  if (type == TensorType::tq2_0) make_ternary(block.first(64));
  const auto jitter = static_cast<float>(0.75f + 0.5f * random.uniform());
  for (const BlockScale& scale : kScales) {
    if (scale.type != type) continue;
    store_scale(&block[scale.position], scale.form,
                deviation * jitter / scale.divisor * scale.factor);
  }
}

}  // namespace

std::uint64_t RandomStream::next() {
  state_ += 0x9E3779B97F4A7C15u;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

double RandomStream::uniform() {
  return static_cast<double>(next() >> 11) * 0x1p-53;
}

float RandomStream::normal() {
  constexpr double kTwoPi = 6.283185307179586;
  const double radius = uniform() + 1e-18;  // log(0) is not wanted
  const double angle = uniform();
  return static_cast<float>(std::sqrt(-2 * std::log(radius)) * std::cos(kTwoPi * angle));
}

bool can_make(TensorType type) {
  return is_plain(type) || std::ranges::find(kScales, type, &BlockScale::type) != std::end(kScales);
}

std::vector<std::byte> random_blocks(RandomStream& random, TensorType type, std::uint64_t count,
                                     float deviation) {
  const std::size_t size = loaders::traits(type).block_bytes;
  std::vector<std::byte> out(count * size);
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::span block(&out[i * size], size);
    if (is_plain(type)) {
      plain_value(block.data(), type, deviation * random.normal());
    } else {
      quantised_block(random, block, type, deviation);
    }
  }
  return out;
}

std::vector<std::byte> random_vector(RandomStream& random, std::uint64_t count, float mean,
                                     float deviation) {
  std::vector<std::byte> out(count * sizeof(float));
  for (std::uint64_t i = 0; i < count; ++i) {
    store(&out[i * sizeof(float)], mean + deviation * random.normal());
  }
  return out;
}

}  // namespace tensor_pager::make_gguf
