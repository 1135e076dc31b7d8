// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ssad/view.h"

namespace ssad {

// What is made of gradient magnitude similarity: it resized and averaged over scales, (n, 1, h, w);
// the mean of what it lacks to 1, (n,); or that one's gradient with respect to each channel of the
// images, (n, 1, h, w).
enum class GmsKind : int32_t { kMap, kLoss, kGradient };

constexpr int64_t kMostScales = 8;

struct GmsProblem {
  GmsKind kind;
  ImageView images, references;  // of one shape and dtype
  int64_t scales;                // at least 3 pixels a side are left of the last
  double c;
  const void* gradient;  // (n,), of the arithmetic type; read for kGradient only
  void* out;             // of the arithmetic type: double for kFloat64, else float
};

struct SsimProblem {
  ImageView images, references;
  const double* taps;    // of the window along an axis
  int64_t window;        // odd
  const void* gradient;  // null, or (n, c, h, w), contiguous, of the arithmetic type
  void* out;             // (n, c, h, w): the map; or, with a gradient, that of the images
};

// False when there is no memory for it, with nothing written.
bool gms(const GmsProblem& problem, int64_t threads);
bool ssim(const SsimProblem& problem, int64_t threads);

}  // namespace ssad
