// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "arena.h"
#include "ssad/level.h"
#include "ssad/similarity.h"

namespace ssad::SSAD_LEVEL {

// A plane is taken in bands of rows, which fit a cache with what their windows reach.
constexpr int64_t kSsimBand = 64;
constexpr int64_t kSsimPad = 64;  // zeros on both sides of a row; windows reach less far

inline int64_t ssim_bands(int64_t h) { return (h + kSsimBand - 1) / kSsimBand; }

// Planes of zeros, but for pixels of the image.
template <class T>
struct SsimPlane {
  T* data;  // the first pixel of the first row
  int64_t stride;

  T* row(int64_t y) const { return data + y * stride; }
};

// Sums and differences of both images and the squares of these; or, of their means, the gradients.
constexpr int64_t kSsimPlanes = 4;

// Of a thread.
template <class T>
struct SsimRoom {
  SsimPlane<T> planes[kSsimPlanes];     // a band, and what the windows of its windows reach
  SsimPlane<T> gradients[kSsimPlanes];  // a band, and what its windows reach
  T* means[kSsimPlanes];                // rows
  T* column_means;                      // a row, with its zeros
  T* taps;
};

template <class T>
SsimRoom<T> ssim_room(Arena* arena, const SsimProblem& problem) {
  SsimRoom<T> room = {};
  const int64_t w = problem.images.w, stride = round_up(w, kCacheLine) + 2 * kSsimPad;
  const int64_t reach = problem.window / 2, rows = kSsimBand + 2 * reach;
  const bool is_gradient = problem.gradient != nullptr;
  const auto plane = [&](int64_t count) -> SsimPlane<T> {
    T* data = arena->take<T>(count * stride);
    return {data == nullptr ? nullptr : data + kSsimPad, stride};
  };
  for (auto& one : room.planes) one = plane(is_gradient ? rows + 2 * reach : rows);
  for (auto& one : room.gradients) {
    if (is_gradient) one = plane(rows);
  }
  for (T*& line : room.means) line = plane(1).data;
  room.column_means = plane(1).data;
  room.taps = arena->take<T>(problem.window);
  return room;
}

}  // namespace ssad::SSAD_LEVEL
