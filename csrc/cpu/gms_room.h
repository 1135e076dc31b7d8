// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "arena.h"
#include "ssad/level.h"
#include "ssad/similarity.h"

namespace ssad {

// Some columns of a resized row: sums of weight[k * kGmsBlock + l] in[first + k], k < count.
template <class T>
struct GmsBlock {
  int64_t start, first, count;
  const T* weight;
};

template <class T>
constexpr int64_t kGmsBlock = kCacheLine / static_cast<int64_t>(sizeof(T));

template <class T>
struct GmsTables {
  GmsBlock<T>* blocks[kMostScales];
  int64_t block_count;
};

}  // namespace ssad

namespace ssad::SSAD_LEVEL {

template <class T>
inline T smaller(T a, T b) {
  return a < b ? a : b;
}

template <class T>
inline T larger(T a, T b) {
  return a > b ? a : b;
}

// An image is taken in bands of rows, which fit a cache and depend on nothing but its height. A
// multiple of what a pixel of the last scale covers, so that a band's pixels make whole ones there.
constexpr int64_t kGmsBand = 256;
static_assert(kGmsBand % (1 << (kMostScales - 1)) == 0, "bands are not whole at all scales");

inline int64_t gms_bands(int64_t h) { return h < kGmsBand ? 1 : h / kGmsBand; }

// Where a pixel of a resized axis lies between two of the original one's.
struct ResizePoint {
  int64_t low, high;
  double weight;  // of high
};

inline ResizePoint resize_point(int64_t i, int64_t in, int64_t out) {
  const int64_t position = larger<int64_t>(0, (2 * i + 1) * in - out);  // in units of 1 / (2 out)
  const int64_t low = position / (2 * out);                             // below `in`
  return {low, smaller(low + 1, in - 1),
          static_cast<double>(position % (2 * out)) / static_cast<double>(2 * out)};
}

// A scale as a band sees it. Maps are of (h - 2) x (w - 2).
struct GmsLevel {
  int64_t h, w;
  int64_t from, to;     // rows of the map; for kGradient, of the image
  int64_t first, last;  // rows of the image that are needed, the last one excluded
};

inline void find_gms_levels(const GmsProblem& problem, int64_t band, GmsLevel* levels) {
  const int64_t h = problem.images.h, begin = band * kGmsBand;
  const int64_t end = band + 1 == gms_bands(h) ? h : begin + kGmsBand;
  for (int64_t s = problem.scales - 1; s >= 0; --s) {
    GmsLevel& level = levels[s];
    level = {h >> s, problem.images.w >> s, begin >> s, end >> s, 0, 0};
    int64_t map_from = level.from, map_to = smaller(level.to, level.h - 2);
    switch (problem.kind) {
      case GmsKind::kMap:
        map_from = level.from = resize_point(begin, level.h - 2, h).low;
        map_to = level.to = resize_point(end - 1, level.h - 2, h).high + 1;
        break;
      case GmsKind::kLoss: level.to = map_to; break;
      default:
        map_from = larger<int64_t>(0, level.from - 3);
        map_to = smaller(level.to + 1, level.h - 2);
    }
    level.first = larger<int64_t>(0, map_from - 1);
    level.last = larger(level.first, smaller(map_to + 3, level.h));
    if (s + 1 < problem.scales) {
      level.first = smaller(level.first, 2 * levels[s + 1].first);
      level.last = larger(level.last, 2 * levels[s + 1].last);
    }
  }
}

// Rows are written and read in whole vectors, and have room for that behind them. In front of the
// first pixel and behind the last one there are the zeros that filters find there.
constexpr int64_t kGmsPad = 16;

inline int64_t gms_stride(int64_t w) { return round_up(w, kGmsPad) + 3 * kGmsPad; }

template <class T>
struct GmsPlane {
  T* data;  // the first pixel of the first row
  int64_t stride;
};

// Of a thread.
template <class T>
struct GmsRoom {
  GmsPlane<T> images[kMostScales], references[kMostScales];
  GmsPlane<T> gradients[kMostScales];  // of `from` to `to`
  T* zeros;                            // a row
  T* medians[kMostScales][2][3];       // of rows y with y mod 3 = 0, 1, 2, of both images
  T* lines[kMostScales][2];            // resized rows of the map, even and odd
  T* slopes[3][2];                     // gradients of x and y slopes, as `medians`
  T* sorted[3];                        // the columns of a window's rows, in order
  T* row;
};

template <class T>
GmsRoom<T> gms_room(Arena* arena, const GmsProblem& problem) {
  GmsRoom<T> room = {};
  const int64_t widest = gms_stride(problem.images.w);
  const auto row = [&](int64_t stride) {
    T* data = arena->take<T>(stride);
    return data == nullptr ? nullptr : data + kGmsPad;
  };
  int64_t rows[kMostScales] = {}, own[kMostScales] = {};
  for (int64_t b = 0; b < gms_bands(problem.images.h); ++b) {
    GmsLevel levels[kMostScales];
    find_gms_levels(problem, b, levels);
    for (int64_t s = 0; s < problem.scales; ++s) {
      rows[s] = larger(rows[s], levels[s].last - levels[s].first);
      own[s] = larger(own[s], levels[s].to - levels[s].from);
    }
  }
  for (int64_t s = 0; s < problem.scales; ++s) {
    const int64_t stride = gms_stride(problem.images.w >> s);
    room.images[s] = {row(rows[s] * stride), stride};
    room.references[s] = {row(rows[s] * stride), stride};
    for (auto& image : room.medians[s]) {
      for (T*& line : image) line = row(stride);
    }
    if (problem.kind == GmsKind::kGradient) room.gradients[s] = {row(own[s] * stride), stride};
    if (problem.kind == GmsKind::kMap) {
      for (T*& line : room.lines[s]) line = row(widest);
    }
  }
  for (auto& slopes : room.slopes) {
    for (T*& line : slopes) line = row(widest);
  }
  for (T*& line : room.sorted) line = row(widest);
  room.row = row(widest);
  room.zeros = row(widest);
  return room;
}

}  // namespace ssad::SSAD_LEVEL
