// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ssad/level.h"

namespace ssad::SSAD_LEVEL {

// Colour jitter of one pixel with the formulas that torchvision uses for tensors, but without its
// rounding between steps. `bound` is the value of white: 255 for uint8 data, 1 for floats.

template <class F>
SSAD_HD F clamp_to(F x, F bound) {
  x = x < F(0) ? F(0) : x;
  return x > bound ? bound : x;
}

template <class F>
SSAD_HD F grey(F r, F g, F b) {
  return F(0.2989) * r + F(0.587) * g + F(0.114) * b;
}

// factor = 1 keeps x, factor = 0 gives `other`: black for brightness, the mean grey of the patch
// for contrast, the pixel's own grey for saturation.
template <class F>
SSAD_HD F blend(F x, F other, F factor, F bound) {
  return clamp_to(factor * x + (F(1) - factor) * other, bound);
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
  const F threshold = (high - low) * (F(1) - shift);
  const F by_r = b - g;
  const F by_g = r - b;
  const F by_b = g - r;
  const auto turn = [=](F x, F by) {
    const F inside = by < -threshold ? -threshold : by;
    const F moved = x + (by - (inside > threshold ? threshold : inside));
    const F raised = moved < low ? low : moved;
    return raised > high ? high : raised;
  };
  r = turn(r, by_r);
  g = turn(g, by_g);
  b = turn(b, by_b);
}

}  // namespace ssad::SSAD_LEVEL
