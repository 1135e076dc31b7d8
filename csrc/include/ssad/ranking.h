// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ssad/view.h"

namespace ssad {

// Both functions return false when there is no memory for scratch, with nothing written.

// How many of `among` are above each of `scores`, and how many at least as large; `most` stands for
// both where `most` or more are above.
struct CountProblem {
  const void* scores;  // (n,) float32 or float64, as `among`
  int64_t n;
  const void* among;  // (m,)
  int64_t m;
  const uint8_t* ignored;  // (m,) where not 0, `among` does not count; or null
  Dtype dtype;
  int64_t most;
  int64_t* counts;  // (n, 2)
};

bool count_above(const CountProblem& problem, int64_t threads);

// The 8-connected components of masks (n, h, w), numbered from 1 in the order of their first
// pixels.
struct ComponentsProblem {
  const uint8_t* masks;  // where not 0
  int64_t n, h, w;
  int32_t* labels;  // (n, h, w)
  int64_t* counts;  // (n,)
};

bool connected_components(const ComponentsProblem& problem, int64_t threads);

}  // namespace ssad
