// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ssad/level.h"
#include "ssad/poisson.h"
#include "ssad/view.h"

namespace ssad {

// The numbers are those of ssad_kernels/blending_op.py.
enum class BlendRegion : int32_t { kMask, kRect, kOpenCv };
enum class MaskKind : int32_t { kNone, kBool, kUInt8, kFloat32 };
enum BlendGradient : int64_t {
  kSourceGradient,
  kMixedGradient,
  kAverageGradient,
  kMonochromeGradient,
  kGradients
};

// One row per sample of the target; a null pointer stands for the value in brackets.
struct BlendParams {
  const int64_t* top_left;      // (n, 2): y, x of the patch in the target
  const int64_t* sizes;         // (n, 2) [the box's size, or the source's]
  const int64_t* source_index;  // (n,) [the sample's number]
  const int64_t* source_box;    // (n, 4): y, x, h, w, resized to `sizes` [0, 0, sizes]
  const int64_t* gradient;      // (n,) BlendGradient [kSourceGradient]
  const double* source_gain;    // (n,) [1]
  const double* target_gain;    // (n,) [1]
};

struct BlendProblem {
  ImageView target;  // written
  ImageView source;  // as many channels, the same dtype, other memory
  const void* mask;  // (n, mask_h, mask_w), contiguous
  MaskKind mask_kind;
  int64_t mask_h, mask_w;
  BlendParams params;
  BlendRegion region;
  PoissonOptions options;
  int8_t* status;  // (n,)
};

// Returns false when there is no memory for plans and scratch, with nothing written.
bool poisson_blend(const BlendProblem& problem, int64_t threads);

// The same patches, masks and places without an equation: w source + (1 - w) target, where w is
// alpha times the mask. With kOpenCv a resized patch is rounded, and the result truncated.
struct AlphaBlendProblem {
  BlendProblem patches;  // its gradient, gains and options have no meaning here
  const double* alpha;   // (n,) clamped to 0...1; null: 1
};

bool alpha_blend(const AlphaBlendProblem& problem, int64_t threads);

// Where the patch of a sample comes from and goes to, before its mask was looked at.
struct BlendPlan {
  int8_t status;                       // kApplied or kClipped, or why not
  int64_t index;                       // of the source
  int64_t box_y, box_x, box_h, box_w;  // in the source
  int64_t patch_h, patch_w;            // what the box is resized to
  int64_t y, x, h, w;                  // the part of the patch that lies in the target
  int64_t skip_y, skip_x;              // what was cut off above and to the left
  bool top, bottom, left, right;       // whether that side lies on the target's border
};

// Checks and clips the patch of sample i; returns its status.
Status plan_patch(const BlendProblem& problem, int64_t i, BlendPlan* plan);

static SSAD_HD int64_t gradient_of(const BlendParams& params, int64_t i) {
  return params.gradient == nullptr ? kSourceGradient : params.gradient[i];
}

static SSAD_HD bool is_active(const BlendPlan& plan) {
  return plan.status == kApplied || plan.status == kClipped;
}

}  // namespace ssad

namespace ssad::SSAD_LEVEL {

// How much of the gradient along an edge is the patch's: the mean of the mask where it is set.
template <class T>
SSAD_HD T edge_weight(T a, T b) {
  const T half = ((a > T{0}) & (b > T{0})) ? T{0.5} : T{1};
  return half * (a + b);
}

// The gradient along an edge, given those of source and target.
template <int64_t kGradient, class T>
SSAD_HD T guided(T source, T target) {
  if constexpr (kGradient == kMixedGradient) {
    const T a = source < T{0} ? -source : source;
    const T b = target < T{0} ? -target : target;
    return a > b ? source : target;
  } else if constexpr (kGradient == kAverageGradient) {
    return T{0.5} * (source + target);
  } else {
    return source;
  }
}

// Which two pixels of a row of `from` show up at pixel `at` of the `to` ones that it is resized to,
// and how far it lies between them: half-pixel centres, no antialiasing.
struct BilinearTap {
  int64_t low, high;
  double part;
};

SSAD_HD BilinearTap bilinear_tap(int64_t at, int64_t from, int64_t to) {
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const double place = (static_cast<double>(at) + 0.5) * scale - 0.5;
  const double inside = place < 0.0 ? 0.0 : place;
  const auto low = static_cast<int64_t>(inside);
  if (low >= from - 1) return {from - 1, from - 1, 0.0};
  const double part = inside - static_cast<double>(low);
  return {low, part > 0.0 ? low + 1 : low, part};  // a pixel without weight may be NaN
}

// ITU-R BT.601, as everywhere.
template <class T>
SSAD_HD T grey_of(T red, T green, T blue) {
  return T{0.299} * red + T{0.587} * green + T{0.114} * blue;
}

// The same as OpenCV rounds it for uint8, with 15 bits of fraction; exact in float32.
template <class T>
SSAD_HD T opencv_grey_of(T red, T green, T blue) {
  const T sum = T{9798} * red + T{19235} * green + T{3735} * blue + T{16384};
  return static_cast<T>(static_cast<int32_t>(sum) >> 15);
}

}  // namespace ssad::SSAD_LEVEL
