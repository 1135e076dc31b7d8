// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#include "ssad/jitter.h"
#include "ssad/level.h"

namespace ssad::SSAD_LEVEL {

// How a stored element becomes a number and back. `Compute` is the arithmetic type, `kBound` white,
// `Wide` the same for factors that `Compute` cannot hold.
struct UInt8Wide {
  using Stored = uint8_t;
  using Compute = float;
  using Wide = UInt8Wide;
  static constexpr float kBound = 255.0f;
  static SSAD_HD float load(uint8_t x) { return static_cast<float>(x); }
  static SSAD_HD uint8_t store(float x) {
    return static_cast<uint8_t>(static_cast<int32_t>(x + 0.5f));
  }
};

struct UInt8 {
  using Stored = uint8_t;
  using Compute = int16_t;
  using Wide = UInt8Wide;
  static constexpr int16_t kBound = 255 << kFixedBits;
  static SSAD_HD int16_t load(uint8_t x) { return static_cast<int16_t>(x << kFixedBits); }
  static SSAD_HD uint8_t store(int16_t x) {
    return static_cast<uint8_t>((x + (1 << (kFixedBits - 1))) >> kFixedBits);
  }
};

struct Float32 {
  using Stored = float;
  using Compute = float;
  using Wide = Float32;
  static constexpr float kBound = 1.0f;
  static SSAD_HD float load(float x) { return x; }
  static SSAD_HD float store(float x) { return x; }
};

struct Float64 {
  using Stored = double;
  using Compute = double;
  using Wide = Float64;
  static constexpr double kBound = 1.0;
  static SSAD_HD double load(double x) { return x; }
  static SSAD_HD double store(double x) { return x; }
};

SSAD_HD uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

SSAD_HD float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

struct BFloat16 {
  using Stored = uint16_t;
  using Compute = float;
  using Wide = BFloat16;
  static constexpr float kBound = 1.0f;
  static SSAD_HD float load(uint16_t x) { return float_of(static_cast<uint32_t>(x) << 16); }
  static SSAD_HD uint16_t store(float x) {
    const uint32_t bits = bits_of(x);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {  // NaN: rounding could make it infinite
      return static_cast<uint16_t>((bits >> 16) | 0x40u);
    }
    return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
  }
};

struct Float16 {
  using Stored = uint16_t;
  using Compute = float;
  using Wide = Float16;
  static constexpr float kBound = 1.0f;
  static SSAD_HD float load(uint16_t x) {
    const uint32_t sign = static_cast<uint32_t>(x & 0x8000u) << 16;
    const uint32_t rest = static_cast<uint32_t>(x & 0x7FFFu) << 13;
    if (rest >= 0x0F800000u) return float_of(sign | rest | 0x7F800000u);  // inf and NaN
    // The product moves the exponent's bias from 15 to 127, subnormal numbers included.
    return float_of(sign | bits_of(float_of(rest) * float_of(0x77800000u)));
  }
  static SSAD_HD uint16_t store(float x) {
    const uint32_t sign = (bits_of(x) >> 16) & 0x8000u;
    const uint32_t rest = bits_of(x) & 0x7FFFFFFFu;
    if (rest > 0x7F800000u) return static_cast<uint16_t>(sign | 0x7E00u);
    if (rest >= 0x477FF000u) return static_cast<uint16_t>(sign | 0x7C00u);
    if (rest < 0x38800000u) {  // subnormal in half: let the adder round at the right bit
      const float shifted = float_of(rest) + 0.5f;
      return static_cast<uint16_t>(sign | (bits_of(shifted) - 0x3F000000u));
    }
    const uint32_t rounded = rest + 0xFFFu + ((rest >> 13) & 1u);
    return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
  }
};

}  // namespace ssad::SSAD_LEVEL
