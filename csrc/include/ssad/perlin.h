// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace ssad {

constexpr int64_t kMostPerlinCells = 128;  // along an axis

struct PerlinProblem {
  const int64_t* keys;   // (n, 3)
  const int64_t* cells;  // (n, 2): how many down and across
  const float* angle;    // (n) degrees, or null
  int64_t stream, n, h, w;
  float* noise;    // (n, h, w)
  int8_t* status;  // (n)
};

// False when there is no memory for tables.
bool perlin_noise(const PerlinProblem& problem, int64_t threads);

}  // namespace ssad
