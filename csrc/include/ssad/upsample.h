// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ssad/view.h"

namespace ssad {

// Along one axis: feature u has `kernel` taps, on the pixels from start + stride u on.
struct UpsampleAxis {
  int64_t kernel, stride, start;
  double sigma;
};

struct UpsampleProblem {
  ImageView in;  // features; for the adjoint, pixels. Not kUInt8
  int64_t h, w;  // of the result
  UpsampleAxis y, x;
  bool normalise, is_adjoint;
  void* out;  // (n, c, h, w), contiguous, of the dtype of `in`
};

// False when there is no memory for tables, with nothing written.
bool upsample(const UpsampleProblem& problem, int64_t threads);

}  // namespace ssad
