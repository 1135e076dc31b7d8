// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "gms_room.h"
#include "lanes.h"
#include "poisson_vector.h"
#include "ssad/pixel.h"

// One scale of two images: greys, medians, slopes, and the similarity of a row. Greys, medians and
// slopes are computed in one order of operations on all backends, so that these agree bit by bit on
// which pixel is a median.
namespace ssad::SSAD_LEVEL {

template <class T>
constexpr T kEpsilon = static_cast<T>(2.220446049250313e-16);  // 2⁻⁵²: of the squared slopes

template <class T>
SSAD_INLINE T middle(T a, T b, T c) {
  return larger(smaller(a, b), smaller(larger(a, b), c));
}

// An image of a scale in grey; rows beyond it are zeros.
template <class T>
struct Grey {
  GmsPlane<T> plane;
  GmsLevel level;
  const T* zeros;
  bool is_finite;

  const T* row(int64_t y) const {
    return y < 0 || y >= level.h ? zeros : plane.data + (y - level.first) * plane.stride;
  }
};

template <class P>
void add_channel(const typename P::Stored* from, int64_t step, int64_t w,
                 typename P::Compute* __restrict__ to) {
  if (step == 1) {
    for (int64_t x = 0; x < w; ++x) to[x] += P::load(from[x]);
  } else {
    for (int64_t x = 0; x < w; ++x) to[x] += P::load(from[x * step]);
  }
}

// The mean of the channels, white being 1. Returns whether all are finite; what is not becomes NaN.
template <class P>
bool make_grey_row(const ImageView& view, const typename P::Stored* from,
                   typename P::Compute* __restrict__ to) {
  using T = typename P::Compute;
  const T unit = std::is_same_v<P, UInt8Wide> ? T{255} : T{1};
  const T factor = T{1} / (unit * static_cast<T>(view.c));
  for (int64_t x = -1; x <= view.w; ++x) to[x] = T{0};
  for (int64_t c = 0; c < view.c; ++c) {
    add_channel<P>(from + c * view.stride_c, view.stride_x, view.w, to);
  }
  for (int64_t x = 0; x < view.w; ++x) to[x] *= factor;
  if (std::is_same_v<P, UInt8Wide> || all_finite(to, view.w)) return true;
  for (int64_t x = 0; x < view.w; ++x) {
    if (!all_finite(to + x, 1)) to[x] = not_a_number<T>();
  }
  return false;
}

template <class T>
void halve_row(const T* a, const T* b, int64_t w, T* __restrict__ to) {
  to[-1] = to[w] = T{0};
  for (int64_t x = 0; x < w; ++x) {
    to[x] = ((a[2 * x] + b[2 * x]) + (a[2 * x + 1] + b[2 * x + 1])) * T{0.25};
  }
}

template <class P>
bool make_greys(const ImageView& view, int64_t n, const GmsLevel* levels, int64_t scales,
                const GmsPlane<typename P::Compute>* planes) {
  const auto* from = static_cast<const typename P::Stored*>(view.data) + n * view.stride_n;
  bool is_finite = true;
  for (int64_t y = levels[0].first; y < levels[0].last; ++y) {
    auto* to = planes[0].data + (y - levels[0].first) * planes[0].stride;
    is_finite &= make_grey_row<P>(view, from + y * view.stride_y, to);
  }
  for (int64_t s = 1; s < scales; ++s) {
    const int64_t stride = planes[s - 1].stride;
    for (int64_t y = levels[s].first; y < levels[s].last; ++y) {
      const auto* a = planes[s - 1].data + (2 * y - levels[s - 1].first) * stride;
      auto* to = planes[s].data + (y - levels[s].first) * planes[s].stride;
      halve_row(a, a + stride, levels[s].w, to);
    }
  }
  return is_finite;
}

// A row of medians of 3 x 3: of the columns' largest the smallest, and so on.
template <class T>
void make_median_row(const Grey<T>& grey, int64_t y, T* const* sorted, T* __restrict__ to) {
  const T *a = grey.row(y - 1), *b = grey.row(y), *c = grey.row(y + 1);
  T* __restrict__ low = sorted[0], * __restrict__ mid = sorted[1], * __restrict__ high = sorted[2];
  const int64_t w = grey.level.w;
  for (int64_t x = -1; x <= w; ++x) {
    const T least = smaller(a[x], b[x]), most = larger(a[x], b[x]);
    low[x] = smaller(least, c[x]);
    mid[x] = larger(least, smaller(most, c[x]));
    high[x] = larger(most, c[x]);
  }
  for (int64_t x = 0; x < w; ++x) {
    to[x] = middle(larger(larger(low[x - 1], low[x]), low[x + 1]),
                   middle(mid[x - 1], mid[x], mid[x + 1]),
                   smaller(smaller(high[x - 1], high[x]), high[x + 1]));
  }
  if (grey.is_finite) return;
  for (int64_t x = 0; x < w; ++x) {
    for (int64_t k = -1; k <= 1; ++k) {
      if (is_nan(a[x + k]) || is_nan(b[x + k]) || is_nan(c[x + k])) to[x] = not_a_number<T>();
    }
  }
}

template <class T>
struct Slope {
  T x, y, square;
};

template <class T>
SSAD_INLINE Slope<T> slope_at(const T* a, const T* b, const T* c, int64_t x) {
  constexpr T kThird = T{1} / T{3};
  const T left = (a[x] + b[x]) + c[x], right = (a[x + 2] + b[x + 2]) + c[x + 2];
  const T top = (a[x] + a[x + 1]) + a[x + 2], bottom = (c[x] + c[x + 1]) + c[x + 2];
  const T dx = (right - left) * kThird, dy = (bottom - top) * kThird;
  return {dx, dy, dx * dx + dy * dy + kEpsilon<T>};
}

// The images of a scale, and what makes rows of them in order.
template <class T>
struct Scale {
  Grey<T> images, references;
  T* const (*medians)[3];
  T* const* sorted;
  T c;
  int64_t next;  // row of medians

  const T* median(int64_t image, int64_t y) const { return medians[image][y % 3]; }

  // Makes medians of the rows that row y of the map needs.
  void advance(int64_t y) {
    for (; next < y + 3; ++next) {
      make_median_row(images, next, sorted, medians[0][next % 3]);
      make_median_row(references, next, sorted, medians[1][next % 3]);
    }
  }

  // What the similarity of row y lacks to 1, as (a - b)² / (a² + b² + c): exact where they are
  // equal.
  void make_row(int64_t y, T* __restrict__ to) {
    advance(y);
    const T *a0 = median(0, y), *a1 = median(0, y + 1), *a2 = median(0, y + 2);
    const T *b0 = median(1, y), *b1 = median(1, y + 1), *b2 = median(1, y + 2);
    for (int64_t x = 0; x < images.level.w - 2; ++x) {
      const T a = slope_at(a0, a1, a2, x).square, b = slope_at(b0, b1, b2, x).square;
      const T difference = std::sqrt(a) - std::sqrt(b);
      to[x] = difference * difference / (a + b + c);
    }
  }

  // The gradient of row y, times `weight`, with respect to the slopes of the images. Two zeros on
  // both sides.
  void make_slope_gradients(int64_t y, T weight, T* __restrict__ dx, T* __restrict__ dy) {
    advance(y);
    const int64_t w = images.level.w - 2;
    const T *a0 = median(0, y), *a1 = median(0, y + 1), *a2 = median(0, y + 2);
    const T *b0 = median(1, y), *b1 = median(1, y + 1), *b2 = median(1, y + 2);
    for (int64_t x = 0; x < w; ++x) {
      const Slope<T> slope = slope_at(a0, a1, a2, x);
      const T b_square = slope_at(b0, b1, b2, x).square;
      const T a = std::sqrt(slope.square), b = std::sqrt(b_square);
      const T sum = slope.square + b_square + c;
      const T each = weight * (a - b) * (b_square + a * b + c) / (sum * sum * a);
      dx[x] = each * slope.x, dy[x] = each * slope.y;
    }
    dx[-2] = dx[-1] = dx[w] = dx[w + 1] = T{0};
    dy[-2] = dy[-1] = dy[w] = dy[w + 1] = T{0};
  }
};

}  // namespace ssad::SSAD_LEVEL
