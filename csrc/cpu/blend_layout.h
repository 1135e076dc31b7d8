// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "arena.h"
#include "poisson_grid.h"
#include "poisson_sine.h"
#include "ssad/blend.h"

namespace ssad::SSAD_LEVEL {

constexpr int kBlendLines = 8;
constexpr int64_t kMargin = 16;  // before and after a line

// Scratch memory of a sample.
template <class T>
struct BlendMemory {
  T* planes;             // (channels, h, w): right-hand sides, then solutions
  T* weight;             // (h, w): the mask's values; null where they are 1 inside, 0 elsewhere
  T* other;              // (h, w): room to erode them, for OpenCV
  bool* inside;          // (h, w): the unknowns
  T* line[kBlendLines];  // rows, with room around them
  int32_t *low, *high;   // (w,): bilinear resizing: between which pixels of a row,
  T* part;               // (w,): and how far
  T* workspace;          // of the iterative solvers
};

inline bool is_natural(const BlendPlan& plan) {
  return plan.top || plan.bottom || plan.left || plan.right;
}

inline bool is_resized(const BlendPlan& plan) {
  return plan.box_h != plan.patch_h || plan.box_w != plan.patch_w;
}

// The sine solver needs a rectangle with known values all around it.
inline bool uses_sine(const BlendProblem& problem, const BlendPlan& plan) {
  return problem.options.solver == kSine &&
         (problem.region != BlendRegion::kMask || !is_natural(plan));
}

template <class T>
BlendMemory<T> lay_out(const BlendProblem& problem, const BlendPlan& plan, Arena* arena) {
  BlendMemory<T> m = {};
  const int64_t pixels = plan.h * plan.w;
  const bool is_opencv = problem.region == BlendRegion::kOpenCv;
  const bool is_hard =
      problem.mask_kind == MaskKind::kNone ||
      (problem.mask_kind == MaskKind::kBool && problem.region == BlendRegion::kMask);
  m.planes = arena->take<T>(problem.target.c * pixels);
  if (is_opencv || !is_hard) m.weight = arena->take<T>(pixels);
  if (is_opencv) m.other = arena->take<T>(pixels);
  m.inside = arena->take<bool>(pixels);
  for (T*& line : m.line) line = arena->take<T>(plan.w + 2 * kMargin) + kMargin;
  if (is_resized(plan)) {
    m.low = arena->take<int32_t>(plan.w);
    m.high = arena->take<int32_t>(plan.w);
    m.part = arena->take<T>(plan.w);
  }
  if (!uses_sine(problem, plan)) m.workspace = arena->take<T>(workspace_size(plan.h, plan.w));
  return m;
}

// Bytes of a sample's scratch memory, less the sine solver's: its tables stay from one sample to
// the next.
inline int64_t layout_bytes(const BlendProblem& problem, const BlendPlan& plan) {
  Arena arena = {nullptr};
  if (problem.target.dtype == Dtype::kFloat64) {
    lay_out<double>(problem, plan, &arena);
  } else {
    lay_out<float>(problem, plan, &arena);
  }
  return arena.used;
}

inline int64_t sine_bytes(const BlendProblem& problem, const BlendPlan& plan) {
  if (!uses_sine(problem, plan)) return 0;
  const int64_t element = problem.target.dtype == Dtype::kFloat64 ? 8 : 4;
  return sine_scratch_bytes(plan.h, plan.w, element);
}

}  // namespace ssad::SSAD_LEVEL
