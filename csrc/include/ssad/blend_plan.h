// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ssad/blend.h"

namespace ssad::SSAD_LEVEL {

// Larger coordinates cannot mean a place in an image.
constexpr int64_t kFar = int64_t{1} << 24;

SSAD_HD bool is_near(int64_t x) { return -kFar < x && x < kFar; }

// Cuts [start, start + size) to [0, limit): how much is left, and how much was cut off in front.
SSAD_HD int64_t clip(int64_t start, int64_t size, int64_t limit, int64_t* skipped) {
  *skipped = start < 0 ? -start : 0;
  const int64_t end = start + size < limit ? start + size : limit;
  return end - (start + *skipped);
}

// See ssad::plan_patch, which is this on a CPU.
SSAD_HD Status plan_patch_of(const BlendProblem& problem, int64_t i, BlendPlan* plan) {
  const BlendParams& params = problem.params;
  const ImageView& source = problem.source;
  const int64_t gradient = gradient_of(params, i);
  if (gradient < 0 || gradient >= kGradients) return kGated;
  if (problem.region == BlendRegion::kOpenCv && gradient == kAverageGradient) return kGated;

  const int64_t* box = params.source_box == nullptr ? nullptr : params.source_box + 4 * i;
  int64_t size[2] = {source.h, source.w};
  if (box != nullptr) size[0] = box[2], size[1] = box[3];
  if (params.sizes != nullptr) size[0] = params.sizes[2 * i], size[1] = params.sizes[2 * i + 1];
  if (size[0] < 1 || size[1] < 1) return kEmpty;
  if (box != nullptr && (box[2] < 1 || box[3] < 1)) return kEmpty;

  plan->index = params.source_index == nullptr ? i : params.source_index[i];
  if (plan->index < 0 || plan->index >= source.n) return kNoPlace;
  const bool has_mask = problem.mask_kind != MaskKind::kNone;
  if (has_mask && (size[0] > problem.mask_h || size[1] > problem.mask_w)) return kNoPlace;
  if (!is_near(size[0]) || !is_near(size[1])) return kNoPlace;
  plan->box_y = plan->box_x = 0;
  plan->box_h = size[0], plan->box_w = size[1];
  if (box != nullptr) {
    plan->box_y = box[0], plan->box_x = box[1], plan->box_h = box[2], plan->box_w = box[3];
    for (int k = 0; k < 4; ++k) {
      if (!is_near(box[k])) return kNoPlace;
    }
  }
  const bool fits = plan->box_y >= 0 && plan->box_y + plan->box_h <= source.h && plan->box_x >= 0 &&
                    plan->box_x + plan->box_w <= source.w;
  if (!fits) return kNoPlace;
  plan->patch_h = size[0], plan->patch_w = size[1];

  const int64_t y = params.top_left[2 * i], x = params.top_left[2 * i + 1];
  if (!is_near(y) || !is_near(x)) return kNoPlace;
  plan->h = clip(y, size[0], problem.target.h, &plan->skip_y);
  plan->w = clip(x, size[1], problem.target.w, &plan->skip_x);
  if (plan->h <= 0 || plan->w <= 0) return kNoPlace;
  plan->y = y + plan->skip_y, plan->x = x + plan->skip_x;
  plan->top = plan->y == 0, plan->bottom = plan->y + plan->h == problem.target.h;
  plan->left = plan->x == 0, plan->right = plan->x + plan->w == problem.target.w;
  return plan->h == size[0] && plan->w == size[1] ? kApplied : kClipped;
}

}  // namespace ssad::SSAD_LEVEL
