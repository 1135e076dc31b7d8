// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#include "simd.h"

namespace ssad::SSAD_LEVEL {

// 1 / (1 + exp(-x)) to 2e-7, in loops that compilers turn into vectors.
SSAD_INLINE float sigmoid(float x) {
  const float bounded = x > 80.0f ? 80.0f : (x < -80.0f ? -80.0f : x);
  // exp(-x) = 2^n exp(rest), |rest| <= log(2) / 2; log(2) in two parts, so that n * the first one
  // is exact.
  const float turns = bounded * -1.44269504f;
  const auto n = static_cast<int32_t>(turns + (turns < 0.0f ? -0.5f : 0.5f));
  const auto whole = static_cast<float>(n);
  const float rest = (-bounded - whole * 0.693359375f) + whole * 2.12194440e-4f;
  float sum = 1.0f / 720.0f;
  sum = sum * rest + 1.0f / 120.0f;
  sum = sum * rest + 1.0f / 24.0f;
  sum = sum * rest + 1.0f / 6.0f;
  sum = sum * rest + 0.5f;
  sum = (sum * rest) * rest + rest + 1.0f;
  const int32_t bits = (n + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return 1.0f / (1.0f + sum * power);
}

}  // namespace ssad::SSAD_LEVEL
