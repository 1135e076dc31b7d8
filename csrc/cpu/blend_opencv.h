// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "blend_guidance.h"

namespace ssad::SSAD_LEVEL {

// The minimum over 7 x 7 pixels of the mask, which is zero outside of the window: OpenCV erodes it
// three times by a pixel all around.
template <class P>
void erode_mask(const Blend<P>& blend) {
  using T = typename P::Compute;
  const Range& r = blend.window;
  const int64_t stride = blend.rows.plan.w, reach = 3;
  const auto erode = [=](const T* from, T* to, int64_t lines, int64_t step, int64_t count,
                         int64_t along) {
    for (int64_t i = 0; i < lines; ++i) {
      for (int64_t k = 0; k < count; ++k) {
        T least{0};
        if (k >= reach && k + reach < count) {
          least = from[i * step + k * along];
          for (int64_t j = k - reach; j <= k + reach; ++j) {
            const T value = from[i * step + j * along];
            least = value < least ? value : least;
          }
        }
        to[i * step + k * along] = least;
      }
    }
  };
  T* weight = blend.rows.memory.weight + r.y0 * stride + r.x0;
  T* other = blend.rows.memory.other + r.y0 * stride + r.x0;
  erode(weight, other, r.h(), stride, r.w(), 1);
  erode(other, weight, r.w(), 1, r.h(), stride);
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
