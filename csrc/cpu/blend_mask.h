// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>

#include "blend_guidance.h"
#include "poisson_vector.h"

namespace ssad::SSAD_LEVEL {

// A bool as it lies in memory: set unless it is zero.
struct BoolByte {
  uint8_t value;
};

// By the bits, as all_finite.
inline bool is_number(BoolByte) { return true; }
inline bool is_number(uint8_t) { return true; }
inline bool is_number(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return (bits & 0x7FFFFFFFu) <= 0x7F800000u;
}

// What a mask holds, as a number in 0...1; NaN is not set.
inline float mask_value(BoolByte x) { return x.value != 0 ? 1.0f : 0.0f; }
inline float mask_value(uint8_t x) { return static_cast<float>(x) / 255.0f; }
inline float mask_value(float x) {
  if (!is_number(x)) return 0.0f;
  return x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x;
}

// Widens `found` by what of a row is set.
inline void include_row(const bool* row, int64_t y, int64_t w, Range* found) {
  int64_t x0 = 0, x1 = w;
  while (x0 < w && !row[x0]) ++x0;
  if (x0 == w) return;
  while (!row[x1 - 1]) --x1;
  if (found->is_empty()) {
    *found = {y, y + 1, x0, x1};
    return;
  }
  found->y1 = y + 1;
  found->x0 = x0 < found->x0 ? x0 : found->x0;
  found->x1 = x1 > found->x1 ? x1 : found->x1;
}

// Reads the mask into `inside` and `weight`; returns the rectangle around what is set, and whether
// all values are numbers.
template <class P, class M>
Range read_mask(const Blend<P>& blend, const M* mask, bool* is_hard, bool* has_numbers) {
  using T = typename P::Compute;
  const BlendProblem& problem = blend.rows.problem;
  const BlendPlan& plan = blend.rows.plan;
  const bool is_opencv = problem.region == BlendRegion::kOpenCv;
  const M* first = mask + (blend.rows.sample * problem.mask_h + plan.skip_y) * problem.mask_w;
  Range found = {0, 0, 0, 0};
  bool soft = false, numbers = true;
  for (int64_t y = 0; y < plan.h; ++y) {
    const M* from = first + y * problem.mask_w + plan.skip_x;
    bool* __restrict__ inside = blend.inside(y);
    if (std::is_same_v<M, BoolByte> && blend.rows.memory.weight == nullptr) {
      for (int64_t x = 0; x < plan.w; ++x) inside[x] = mask_value(from[x]) > 0.0f;
    } else {
      T* __restrict__ weight = blend.rows.memory.weight + y * plan.w;
      for (int64_t x = 0; x < plan.w; ++x) {
        const float value = mask_value(from[x]);
        weight[x] = static_cast<T>(value);
        inside[x] = value > 0.0f;
        soft |= (value > 0.0f) & (value < 1.0f);
        numbers &= is_number(from[x]);
      }
    }
    if (is_opencv) clear_frame(blend, y);
    include_row(inside, y, plan.w, &found);
  }
  *is_hard = !soft;
  *has_numbers = numbers;
  return found;
}

// OpenCV takes the outermost pixels of a mask for unset, some of which may lie beyond the image.
template <class P>
void clear_frame(const Blend<P>& blend, int64_t y) {
  using T = typename P::Compute;
  const BlendPlan& plan = blend.rows.plan;
  bool* inside = blend.inside(y);
  T* weight = blend.rows.memory.weight + y * plan.w;
  const auto clear = [&](int64_t x) {
    if (x >= 0 && x < plan.w) inside[x] = false, weight[x] = T{0};
  };
  const int64_t row = y + plan.skip_y;
  if (row == 0 || row == plan.patch_h - 1) {
    for (int64_t x = 0; x < plan.w; ++x) clear(x);
  }
  clear(-plan.skip_x);
  clear(plan.patch_w - 1 - plan.skip_x);
}

// The same without a mask: all is set.
template <class P>
Range fill_mask(const Blend<P>& blend) {
  using T = typename P::Compute;
  const BlendPlan& plan = blend.rows.plan;
  const bool is_opencv = blend.rows.problem.region == BlendRegion::kOpenCv;
  Range found = {0, is_opencv ? 0 : plan.h, 0, is_opencv ? 0 : plan.w};
  std::memset(blend.rows.memory.inside, 1, static_cast<size_t>(plan.h * plan.w));
  if (!is_opencv) return found;
  for (int64_t k = 0; k < plan.h * plan.w; ++k) blend.rows.memory.weight[k] = T{1};
  for (int64_t y = 0; y < plan.h; ++y) {
    clear_frame(blend, y);
    include_row(blend.inside(y), y, plan.w, &found);
  }
  return found;
}

// Finds the unknowns of a sample; returns kApplied, kEmpty or kNotFinite.
template <class P>
Status find_unknowns(Blend<P>* blend) {
  const BlendProblem& problem = blend->rows.problem;
  const BlendPlan& plan = blend->rows.plan;
  bool has_numbers = true;
  blend->is_hard = true;
  Range found;
  switch (problem.mask_kind) {
    case MaskKind::kNone: found = fill_mask(*blend); break;
    case MaskKind::kBool:
      found = read_mask(*blend, static_cast<const BoolByte*>(problem.mask), &blend->is_hard,
                        &has_numbers);
      break;
    case MaskKind::kUInt8:
      found = read_mask(*blend, static_cast<const uint8_t*>(problem.mask), &blend->is_hard,
                        &has_numbers);
      break;
    default:
      found =
          read_mask(*blend, static_cast<const float*>(problem.mask), &blend->is_hard, &has_numbers);
  }
  if (problem.region == BlendRegion::kMask) {
    blend->unknowns = found;
    blend->window = {found.y0 > 0 ? found.y0 - 1 : 0, found.y1 < plan.h ? found.y1 + 1 : plan.h,
                     found.x0 > 0 ? found.x0 - 1 : 0, found.x1 < plan.w ? found.x1 + 1 : plan.w};
  } else {
    blend->window = found;
    blend->unknowns = {found.y0 + 1, found.y1 - 1, found.x0 + 1, found.x1 - 1};
  }
  blend->is_rectangle =
      problem.region != BlendRegion::kMask || problem.mask_kind == MaskKind::kNone;
  if (blend->unknowns.is_empty()) return kEmpty;
  return has_numbers ? kApplied : kNotFinite;
}

}  // namespace ssad::SSAD_LEVEL
