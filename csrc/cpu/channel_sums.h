// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "lanes.h"
#include "ssad/view.h"

namespace ssad::SSAD_LEVEL {

// Sums over the channels of a pixel, one channel after another: of uint8 exact in int16_t, of
// float64 in double, of all others in float.
struct ByteSums {
  using Stored = uint8_t;
  using Sum = int16_t;
  using Lane = int16_t;  // that a median takes
  static Sum load(uint8_t x) { return x; }
};

template <class P, class S>
struct FloatSums {
  using Stored = typename P::Stored;
  using Sum = S;
  using Lane = float;
  static Sum load(Stored x) { return P::load(x); }
};

template <class P>
const typename P::Stored* pixel_row(const ImageView& images, int64_t image, int64_t channel,
                                    int64_t y) {
  return static_cast<const typename P::Stored*>(images.data) + image * images.stride_n +
         channel * images.stride_c + y * images.stride_y;
}

// For pixels [x0, x1) of row y; body: (x, offset of the pixel), with a step that the compiler knows
// where that is 1.
template <class Body>
void for_pixels(int64_t step, int64_t x0, int64_t x1, Body body) {
  if (step == 1) {
    for (int64_t x = x0; x < x1; ++x) body(x, x);
  } else {
    for (int64_t x = x0; x < x1; ++x) body(x, step * x);
  }
}

template <class P>
void sum_channels(const ImageView& images, int64_t image, int64_t y, int64_t x0, int64_t x1,
                  typename P::Sum* __restrict__ sums) {
  using Sum = typename P::Sum;
  for (int64_t c = 0; c < images.c; ++c) {
    const auto* __restrict__ row = pixel_row<P>(images, image, c, y);
    if (c == 0) {
      for_pixels(images.stride_x, x0, x1,
                 [=](int64_t x, int64_t at) { sums[x] = P::load(row[at]); });
    } else {
      for_pixels(images.stride_x, x0, x1, [=](int64_t x, int64_t at) {
        sums[x] = static_cast<Sum>(sums[x] + P::load(row[at]));
      });
    }
  }
}

// The same of |after - before|, images of one layout.
template <class P>
void sum_differences(const ImageView& before, const ImageView& after, int64_t image, int64_t y,
                     int64_t x0, int64_t x1, typename P::Sum* __restrict__ sums) {
  using Sum = typename P::Sum;
  for (int64_t c = 0; c < before.c; ++c) {
    const auto* __restrict__ a = pixel_row<P>(before, image, c, y);
    const auto* __restrict__ b = pixel_row<P>(after, image, c, y);
    const auto size = [=](int64_t at) {
      const Sum x = P::load(a[at]), y_ = P::load(b[at]);
      return static_cast<Sum>(x > y_ ? x - y_ : y_ - x);
    };
    if (c == 0) {
      for_pixels(before.stride_x, x0, x1, [=](int64_t x, int64_t at) { sums[x] = size(at); });
    } else {
      for_pixels(before.stride_x, x0, x1,
                 [=](int64_t x, int64_t at) { sums[x] = static_cast<Sum>(sums[x] + size(at)); });
    }
  }
}

}  // namespace ssad::SSAD_LEVEL
