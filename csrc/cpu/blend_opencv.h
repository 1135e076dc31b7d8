// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "blend_guidance.h"

namespace ssad::SSAD_LEVEL {

// The smallest of seven numbers that lie `step` apart around each of `count` ones.
template <class T>
void smallest_of_seven(const T* __restrict__ from, int64_t step, T* __restrict__ to,
                       int64_t count) {
  for (int64_t x = 0; x < count; ++x) {
    T least = from[x - 3 * step];
    for (int64_t k = -2; k <= 3; ++k) {
      const T value = from[x + k * step];
      least = value < least ? value : least;
    }
    to[x] = least;
  }
}

// The minimum over 7 x 7 pixels of the mask, which is zero outside of the window: OpenCV erodes it
// three times by a pixel all around.
template <class P>
void erode_mask(const Blend<P>& blend) {
  using T = typename P::Compute;
  const Range& r = blend.window;
  const int64_t stride = blend.rows.plan.w, reach = 3;
  const auto fill_ends = [](T* line, int64_t count) {
    for (int64_t x = 0; x < reach && x < count; ++x) line[x] = line[count - 1 - x] = T{0};
  };
  T* weight = blend.rows.memory.weight + r.y0 * stride + r.x0;
  T* other = blend.rows.memory.other + r.y0 * stride + r.x0;
  for (int64_t y = 0; y < r.h(); ++y) {
    T* to = other + y * stride;
    if (r.w() > 2 * reach) {
      smallest_of_seven(weight + y * stride + reach, 1, to + reach, r.w() - 2 * reach);
    }
    fill_ends(to, r.w());
  }
  for (int64_t y = 0; y < r.h(); ++y) {
    T* to = weight + y * stride;
    if (y >= reach && y + reach < r.h()) {
      smallest_of_seven(other + y * stride, stride, to, r.w());
    } else {
      for (int64_t x = 0; x < r.w(); ++x) to[x] = T{0};
    }
  }
}

// Guidance as in cv2.seamlessClone: forward differences, weighted by the mask at their start, and
// for mixed gradients taken from the source where its two differences lie further apart.
template <class P>
void fill_opencv(const Blend<P>& blend, int64_t c) {
  using T = typename P::Compute;
  const bool is_mixed = blend.gradient == kMixedGradient;
  fill_guided(blend, c,
              [is_mixed](const T* s, const T* s_below, const T* t, const T* t_below, const T* m,
                         const T*, int64_t count, T* across, T* down) {
                const auto size = [](T x) { return x < T{0} ? -x : x; };
                for (int64_t x = 0; x < count - 1; ++x) {
                  const T s_x = s[x] - s[x + 1], s_y = s[x] - s_below[x];
                  const T t_x = t[x] - t[x + 1], t_y = t[x] - t_below[x];
                  const bool is_source = !is_mixed || size(s_x - s_y) > size(t_x - t_y);
                  const T weight = is_source ? m[x] : T{0};
                  across[x] = weight * (s_x - t_x);
                  down[x] = weight * (s_y - t_y);
                }
                down[count - 1] = T{0};  // no unknown is there
              });
}

}  // namespace ssad::SSAD_LEVEL
