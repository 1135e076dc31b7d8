// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "blend_layout.h"

namespace ssad::SSAD_LEVEL {

// Scratch memory of a sample. Of BlendMemory there is what a row of the patch needs.
template <class T>
struct AlphaMemory {
  BlendMemory<T> rows;
  T *weight, *source, *target;  // a row
};

template <class T>
AlphaMemory<T> lay_out_alpha(const BlendPlan& plan, Arena* arena) {
  AlphaMemory<T> m = {};
  m.weight = arena->take<T>(plan.w);
  m.source = arena->take<T>(plan.w);
  m.target = arena->take<T>(plan.w);
  if (is_resized(plan)) {
    m.rows.low = arena->take<int32_t>(plan.w);
    m.rows.high = arena->take<int32_t>(plan.w);
    m.rows.part = arena->take<T>(plan.w);
  }
  return m;
}

inline int64_t alpha_layout_bytes(const BlendProblem& problem, const BlendPlan& plan) {
  Arena arena = {nullptr};
  if (problem.target.dtype == Dtype::kFloat64) {
    lay_out_alpha<double>(plan, &arena);
  } else {
    lay_out_alpha<float>(plan, &arena);
  }
  return arena.used;
}

}  // namespace ssad::SSAD_LEVEL
