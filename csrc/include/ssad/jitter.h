// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ssad/level.h"

namespace ssad::SSAD_LEVEL {

// Colour jitter of one pixel with the formulas that torchvision uses for tensors, but without its
// rounding between steps. `bound` is the value of white. Pixels are floats with any white, or
// int16_t in sixty-fourths of a grey level (white 16320, kFixedBits below): then every difference
// of two values, and such a difference on top of a value, fits int16_t, and a vector holds twice as
// many pixels. Four steps are off by less than a tenth of a level.

constexpr int kFixedBits = 6;

template <class F>
SSAD_HD F nearest(double x) {
  return static_cast<F>(x);
}

template <>
SSAD_HD int16_t nearest<int16_t>(double x) {
  return static_cast<int16_t>(__builtin_floor(x + 0.5));
}

// A factor of `scale` in the arithmetic type: as it is, or for int16_t in 2^-15, -1 <= x <= 1.
template <class F>
SSAD_HD F fraction(double x) {
  return static_cast<F>(x);
}

template <>
SSAD_HD int16_t fraction<int16_t>(double x) {
  return nearest<int16_t>(x * 32768.0 > 32767.0 ? 32767.0 : x * 32768.0);
}

template <class F>
SSAD_HD F scale(F x, F by) {
  return x * by;
}

// The upper half of a product is one instruction on every x86. 2x fits, see above.
SSAD_HD int16_t scale(int16_t x, int16_t by) {
  const auto twice = static_cast<int16_t>(x * 2);
  return static_cast<int16_t>((static_cast<int32_t>(twice) * by) >> 16);
}

template <class F>
SSAD_HD F clamp_to(F x, F bound) {
  x = x < F(0) ? F(0) : x;
  return x > bound ? bound : x;
}

template <class F>
SSAD_HD F grey(F r, F g, F b) {
  return F(F(scale(r, fraction<F>(0.2989)) + scale(g, fraction<F>(0.587))) +
           scale(b, fraction<F>(0.114)));
}

// A gain of 0 keeps x, and -1 gives `other`: black for brightness, the mean grey of the patch for
// contrast, the pixel's own grey for saturation. The gain is torchvision's factor minus 1.
template <class F>
SSAD_HD F blend(F x, F other, F gain, F bound) {
  return clamp_to(F(x + scale(F(x - other), gain)), bound);
}

// Turns the hue by `shift` sixths of the colour circle, 0 <= shift <= 1; keeps value and chroma.
// The other way round the circle is the same with g and b exchanged. Along the circle one channel
// at a time rises or falls between the lowest and the highest value, so the turn moves each channel
// by what its neighbours differ, beyond a threshold that a full sixth brings to zero. Equal to the
// way through HSV, without its division and its six cases.
template <class F>
SSAD_HD void shift_hue(F& r, F& g, F& b, F shift) {
  const F high_rg = r > g ? r : g;
  const F low_rg = r < g ? r : g;
  const F high = high_rg > b ? high_rg : b;
  const F low = low_rg < b ? low_rg : b;
  const F chroma = F(high - low);
  const F threshold = F(chroma - scale(chroma, shift));
  const F by_r = F(b - g);
  const F by_g = F(r - b);
  const F by_b = F(g - r);
  const auto turn = [=](F x, F by) {
    const F inside = by < F(-threshold) ? F(-threshold) : by;
    const F moved = F(x + F(by - (inside > threshold ? threshold : inside)));
    const F raised = moved < low ? low : moved;
    return raised > high ? high : raised;
  };
  r = turn(r, by_r);
  g = turn(g, by_g);
  b = turn(b, by_b);
}

}  // namespace ssad::SSAD_LEVEL
