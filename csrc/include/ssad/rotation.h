// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "ssad/level.h"

namespace ssad::SSAD_LEVEL {

// Cosine and sine, or what is made of them.
template <class T>
struct Turn {
  T cos, sin;
};

// Of |x| <= pi/4 radians: Taylor series, exact to an ulp, by float64 + - x alone. Equal on every
// device, as long as no multiply-add is contracted.
SSAD_HD Turn<double> cosine_and_sine(double x) {
  const double z = x * x;
  double sine = -1.0 / 1307674368000.0;
  sine = sine * z + 1.0 / 6227020800.0;
  sine = sine * z - 1.0 / 39916800.0;
  sine = sine * z + 1.0 / 362880.0;
  sine = sine * z - 1.0 / 5040.0;
  sine = sine * z + 1.0 / 120.0;
  sine = sine * z - 1.0 / 6.0;
  sine = sine * z + 1.0;
  sine = sine * x;
  double cosine = 1.0 / 20922789888000.0;
  cosine = cosine * z - 1.0 / 87178291200.0;
  cosine = cosine * z + 1.0 / 479001600.0;
  cosine = cosine * z - 1.0 / 3628800.0;
  cosine = cosine * z + 1.0 / 40320.0;
  cosine = cosine * z - 1.0 / 720.0;
  cosine = cosine * z + 1.0 / 24.0;
  cosine = cosine * z - 1.0 / 2.0;
  cosine = cosine * z + 1.0;
  return {cosine, sine};
}

// A turn by `quarters` of 90 degrees more.
template <class T>
SSAD_HD Turn<T> quarter_turns(int quarters, Turn<T> turn) {
  const Turn<T> odd = quarters & 1 ? Turn<T>{-turn.sin, turn.cos} : turn;
  return quarters & 2 ? Turn<T>{-odd.cos, -odd.sin} : odd;
}

// Rotation in 16-bit fixed point. Nearest sampling flips whole pixels when a coordinate moves by an
// ulp, so after the angle everything is integer arithmetic.
using Rotation = Turn<int64_t>;

constexpr int kRotationBits = 16;

SSAD_HD Rotation rotation(float degrees) {
  double angle = std::fmod(static_cast<double>(degrees), 360.0);
  if (angle < 0.0) angle += 360.0;
  const double quadrant = std::floor((angle + 45.0) / 90.0);
  const Turn<double> turn = cosine_and_sine((angle - quadrant * 90.0) * 0.017453292519943295);
  const auto c = static_cast<int64_t>(std::floor(turn.cos * 65536.0 + 0.5));
  const auto s = static_cast<int64_t>(std::floor(turn.sin * 65536.0 + 0.5));
  return quarter_turns<int64_t>(static_cast<int>(quadrant), {c, s});
}

// Side of the canvas that just holds a rotated h x w patch: (height, width) with `along` = h, w.
SSAD_HD int64_t canvas_side(int64_t along, int64_t across, Rotation r) {
  const int64_t c = r.cos < 0 ? -r.cos : r.cos;
  const int64_t s = r.sin < 0 ? -r.sin : r.sin;
  return (along * c + across * s + (int64_t{1} << kRotationBits) - 1) >> kRotationBits;
}

}  // namespace ssad::SSAD_LEVEL
