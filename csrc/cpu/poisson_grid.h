// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "arena.h"
#include "simd.h"

namespace ssad::SSAD_LEVEL {

// A plane of unknowns. Each row has its red points first and then its black ones, so that a half
// sweep of red-black smoothing reads and writes without gaps: point x is at index x / 2 of its
// colour, and red if x + y + first_row is even. Around them are zeros: a row above and below, and
// at least one after each colour of a row, which is also the one before the next.
struct Grid {
  int64_t h, w;
  int64_t first_row;              // 0 or 1
  int64_t span;                   // points of a colour in a row, rounded up to whole vectors
  int64_t colour;                 // from the red points of a row to the black ones
  bool top, bottom, left, right;  // whether that side is the image's border (natural condition)

  int64_t stride() const { return 2 * colour; }   // from row to row
  int64_t both() const { return colour + span; }  // from the first red to the last black one
  int64_t size() const { return (h + 2) * stride(); }
  int64_t parity(int64_t y) const { return (y + first_row) & 1; }
  int64_t row(int64_t y) const { return (y + 1) * stride(); }
  int64_t index(int64_t y, int64_t x) const {
    return row(y) + ((x & 1) ^ parity(y)) * colour + x / 2;
  }
};

// Rows start on multiples of this, whatever the level: sizes are computed where it is not known.
constexpr int64_t kRowUnit = 16;
constexpr int kMaxLevels = 26;  // sides are below 2^24

// The points of a single row are shifted by one, so that coarse points are red there, too.
inline Grid make_grid(int64_t h, int64_t w, bool top, bool bottom, bool left, bool right) {
  const int64_t half = (w + 1) / 2;
  const int64_t span = round_up(half, kLanes<float>), colour = round_up(half + 1, kRowUnit);
  return {h, w, h == 1 ? 1 : 0, span, colour, top, bottom, left, right};
}

// Coarse point i lies on fine point 2 i + 1. A grid that is one row high is coarsened along it.
inline Grid coarsened(const Grid& g) {
  return make_grid(g.h > 1 ? g.h / 2 : 1, g.w / 2, g.top, g.bottom, g.left, g.right);
}

inline bool can_coarsen(const Grid& g) { return g.w > 1; }

// A row by x with zeros around it, read and written in whole vectors.
inline int64_t line_size(int64_t w) { return round_up(w, kRowUnit) + 4 * kRowUnit; }

constexpr int kLines = 4;

// Elements of scratch memory for a sample of at most h x w pixels, see Workspace: five planes, a
// few lines, and three planes on each level.
inline int64_t workspace_size(int64_t h, int64_t w) {
  Grid g = h <= w ? make_grid(h, w, false, false, false, false)
                  : make_grid(w, h, false, false, false, false);
  int64_t size = 5 * g.size() + kLines * line_size(g.w);
  for (;; g = coarsened(g)) {
    size += 3 * g.size();
    if (!can_coarsen(g)) return size;
  }
}

// Where row y has its points of even x (and at kOdd those of odd x).
template <int kOdd, class T>
T* row_of(const Grid& g, int64_t y, T* plane) {
  return plane + g.row(y) + (g.parity(y) ^ kOdd) * g.colour;
}

// A row by x, as it is in an image, to and from the two colours.
template <class T>
void split_row(const Grid& g, int64_t y, const T* __restrict__ line, T* __restrict__ plane) {
  T* even = row_of<0>(g, y, plane);
  T* odd = row_of<1>(g, y, plane);
  const int64_t pairs = g.w / 2, whole = pairs / kLanes<T> * kLanes<T>;
  for (int64_t k = 0; k < whole; k += kLanes<T>) {
    const Vector<T> a = load(line + 2 * k), b = load(line + 2 * k + kLanes<T>);
    store(even + k, evens<T>(a, b));
    store(odd + k, odds<T>(a, b));
  }
  for (int64_t k = whole; k < pairs; ++k) {
    even[k] = line[2 * k];
    odd[k] = line[2 * k + 1];
  }
  if (g.w & 1) even[pairs] = line[g.w - 1];
}

template <class T>
void join_row(const Grid& g, int64_t y, const T* __restrict__ plane, T* __restrict__ line) {
  const T* even = row_of<0>(g, y, plane);
  const T* odd = row_of<1>(g, y, plane);
  const int64_t pairs = g.w / 2, whole = pairs / kLanes<T> * kLanes<T>;
  for (int64_t k = 0; k < whole; k += kLanes<T>) {
    const Vector<T> a = load(even + k), b = load(odd + k);
    store(line + 2 * k, zip_low<T>(a, b));
    store(line + 2 * k + kLanes<T>, zip_high<T>(a, b));
  }
  for (int64_t k = whole; k < pairs; ++k) {
    line[2 * k] = even[k];
    line[2 * k + 1] = odd[k];
  }
  if (g.w & 1) line[g.w - 1] = even[pairs];
}

// How far the second neighbour in a row is from a point of the colour (0 red, 1 black).
inline int64_t shift_of(const Grid& g, int64_t y, int64_t colour) {
  return (g.parity(y) ^ colour) != 0 ? 1 : -1;
}

}  // namespace ssad::SSAD_LEVEL
