// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "median_march.h"
#include "median_network.h"
#include "simd.h"

namespace ssad::SSAD_LEVEL {

// A window by how far each of its columns reaches up and down; it is symmetric.
struct Window {
  int64_t radius;
  int64_t reach[8];  // of columns -x and x
  int64_t pixels;    // at most 225, so that they can be counted in bytes
};

inline Window window_of(int64_t radius, bool is_square) {
  Window window = {radius, {}, 0};
  for (int64_t x = 0; x <= radius; ++x) {
    window.reach[x] = is_square ? radius : disk_reach(radius, x);
    window.pixels += (x == 0 ? 1 : 2) * (2 * window.reach[x] + 1);
  }
  return window;
}

inline int64_t count_bytes(int64_t w) { return 8 * plane_stride(w); }

// Whether more than `least` pixels of each window are set, as 0 or 1: row y of a plane of such
// bytes, pixels x0 and on by whole vectors up to x1. `columns` has count_bytes(w) to work in.
__attribute__((noinline)) inline void count_row(const Window& window, const Plane<uint8_t>& plane,
                                                int64_t y, int64_t x0, int64_t x1, int64_t least,
                                                uint8_t* columns, uint8_t* to) {
  using Bytes = Vector<uint8_t>;
  const int64_t stride = plane_stride(plane.w), radius = window.radius;
  const uint8_t* rows[15];
  for (int64_t dy = -radius; dy <= radius; ++dy) rows[dy + radius] = plane.row(y + dy);
  const uint8_t* middle = rows[radius];
  const bool is_square = window.reach[radius] == radius;
  for (int64_t x = x0 - radius; x < x1 + radius; x += kLanes<uint8_t>) {
    Bytes sum = load(middle + x);
    int64_t reached = 0;
    for (int64_t column = is_square ? 0 : radius; column >= 0; --column) {
      for (; reached < window.reach[column]; ++reached) {
        sum += load(rows[radius - reached - 1] + x) + load(rows[radius + reached + 1] + x);
      }
      store<uint8_t>(columns + column * stride + kBefore + x, sum);
    }
  }
  const int64_t step = is_square ? 0 : stride;
  const Bytes bound = broadcast(static_cast<uint8_t>(least));
  for (int64_t x = x0; x < x1; x += kLanes<uint8_t>) {
    const uint8_t* column = columns + kBefore + x;
    Bytes sum = load(column);
    for (int64_t dx = 1; dx <= radius; ++dx) {
      column += step;
      sum += load(column - dx) + load(column + dx);
    }
    store<uint8_t>(to + x, reinterpret_cast<Bytes>(sum > bound) & broadcast(uint8_t{1}));
  }
}

}  // namespace ssad::SSAD_LEVEL
