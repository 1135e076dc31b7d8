// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "blend_layout.h"
#include "rows.h"
#include "ssad/pixel.h"

namespace ssad::SSAD_LEVEL {

template <class P>
void load_row(const typename P::Stored* __restrict__ from, int64_t step,
              typename P::Compute* __restrict__ to, int64_t count) {
  // The steps of planes and of packed RGB are known to the compiler.
  if (step == 1) {
    for_bytes(count, [=](int64_t i) { to[i] = P::load(from[i]); });
  } else if (step == 3) {
    for (int64_t i = 0; i < count; ++i) to[i] = P::load(from[3 * i]);
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = P::load(from[step * i]);
  }
}

// The patch and the target of a sample, row by row. Coordinates are those of the clipped patch.
template <class P>
struct BlendRows {
  using T = typename P::Compute;
  using Stored = typename P::Stored;

  const BlendProblem& problem;
  const BlendPlan& plan;
  int64_t sample;
  BlendMemory<T> memory;
  T gain;        // of the source
  bool is_grey;  // the source gives its grey instead of its colours

  Stored* target_pixel(int64_t c, int64_t y, int64_t x) const {
    return pixel(problem.target, sample, c, plan.y + y, plan.x + x);
  }

  // Of a patch that is not resized.
  const Stored* source_pixel(int64_t c, int64_t y, int64_t x) const {
    return box_row(c, plan.skip_y + y) + (plan.skip_x + x) * problem.source.stride_x;
  }

  void target_row(int64_t c, int64_t y, int64_t x, int64_t count, T* to) const {
    load_row<P>(target_pixel(c, y, x), problem.target.stride_x, to, count);
  }

  // The source times its gain. `to` may not be one of the last two lines.
  void source_row(int64_t c, int64_t y, int64_t x, int64_t count, T* to) const {
    if (is_grey && problem.source.c >= 3) {
      grey_row(y, x, count, to);
    } else {
      colour_row(is_grey ? 0 : c, y, x, count, to);
    }
    if (gain != T{1}) {
      for (int64_t i = 0; i < count; ++i) to[i] *= gain;
    }
    if (problem.region == BlendRegion::kOpenCv) {  // which has no source outside of the mask
      const bool* inside = memory.inside + y * plan.w + x;
      keep_where(reinterpret_cast<const uint8_t*>(inside), count, to);
    }
  }

  // The same as it is. OpenCV resizes to whole levels.
  void colour_row(int64_t c, int64_t y, int64_t x, int64_t count, T* __restrict__ to) const {
    const int64_t step = problem.source.stride_x;
    if (!is_resized(plan)) return load_row<P>(source_pixel(c, y, x), step, to, count);
    const BilinearTap tap = bilinear_tap(plan.skip_y + y, plan.box_h, plan.patch_h);
    const Stored* upper = box_row(c, tap.low);
    const Stored* lower = box_row(c, tap.high);
    const auto down = static_cast<T>(tap.part);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t low = memory.low[x + i] * step, high = memory.high[x + i] * step;
      const T right = memory.part[x + i];
      const T a = P::load(upper[low]) + right * (P::load(upper[high]) - P::load(upper[low]));
      const T b = P::load(lower[low]) + right * (P::load(lower[high]) - P::load(lower[low]));
      to[i] = a + down * (b - a);
    }
    if (problem.region == BlendRegion::kOpenCv) {  // which takes uint8 patches
      for (int64_t i = 0; i < count; ++i)
        to[i] = static_cast<T>(static_cast<int32_t>(to[i] + T{0.5}));
    }
  }

 private:
  static Stored* pixel(const ImageView& view, int64_t n, int64_t c, int64_t y, int64_t x) {
    return static_cast<Stored*>(view.data) + n * view.stride_n + c * view.stride_c +
           y * view.stride_y + x * view.stride_x;
  }

  const Stored* box_row(int64_t c, int64_t y) const {
    return pixel(problem.source, plan.index, c, plan.box_y + y, plan.box_x);
  }

  void grey_row(int64_t y, int64_t x, int64_t count, T* __restrict__ to) const {
    const bool is_opencv = problem.region == BlendRegion::kOpenCv;
    T* __restrict__ green = memory.line[kBlendLines - 2];
    T* __restrict__ blue = memory.line[kBlendLines - 1];
    colour_row(0, y, x, count, to);
    colour_row(1, y, x, count, green);
    colour_row(2, y, x, count, blue);
    for (int64_t i = 0; i < count; ++i) {
      to[i] =
          is_opencv ? opencv_grey_of(to[i], green[i], blue[i]) : grey_of(to[i], green[i], blue[i]);
    }
  }
};

template <class T>
void plan_columns(const BlendPlan& plan, const BlendMemory<T>& memory) {
  if (!is_resized(plan)) return;
  for (int64_t x = 0; x < plan.w; ++x) {
    const BilinearTap tap = bilinear_tap(plan.skip_x + x, plan.box_w, plan.patch_w);
    memory.low[x] = static_cast<int32_t>(tap.low);
    memory.high[x] = static_cast<int32_t>(tap.high);
    memory.part[x] = static_cast<T>(tap.part);
  }
}

}  // namespace ssad::SSAD_LEVEL
