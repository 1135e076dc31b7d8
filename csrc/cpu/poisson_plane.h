// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "poisson_workspace.h"

namespace ssad::SSAD_LEVEL {

// One channel of a sample: from the image into a right-hand side, and back.
template <class T>
struct Plane {
  const T* rhs;
  const bool* mask;
  const T* boundary;
  T* solution;
};

// In what follows kStep is 1 for boxes that are not turned: the compiler then knows the rows dense.

// line[x] = sum of (boundary - offset) over the neighbours of an unknown that are no unknowns.
template <int64_t kStep, class T>
void gather_edges(const Box& box, const Plane<T>& plane, int64_t y, T offset,
                  T* __restrict__ line) {
  const int64_t step = kStep == 1 ? 1 : box.step_x;
  const int64_t start = box.start + y * box.step_y;
  const bool* mask = plane.mask + start;
  const T* boundary = plane.boundary + start;
  // From x = first to last, to the neighbour that is `to` elements away.
  const auto add = [=](int64_t first, int64_t last, int64_t to) {
    for (int64_t x = first; x < last; ++x) {
      const T value = boundary[x * step + to] - offset;
      const bool is_edge = mask[x * step] > mask[x * step + to];  // no branch, as && would be
      line[x] += is_edge ? value : T{0};
    }
  };
  for (int64_t x = 0; x < box.w; ++x) line[x] = T{0};
  // What lies beyond the image is not looked at.
  if (y > 0 || !box.top) add(0, box.w, -box.step_y);
  if (y < box.h - 1 || !box.bottom) add(0, box.w, box.step_y);
  add(box.left ? 1 : 0, box.w, -step);
  add(0, box.right ? box.w - 1 : box.w, step);
}

template <class T>
double sum_line(const T* line, int64_t count) {
  double sum = 0.0;
  _Pragma("omp simd reduction(+ : sum)")
  for (int64_t x = 0; x < count; ++x) sum += static_cast<double>(line[x]);
  return sum;
}

// A constant near the solution: solving for what is left of it loses fewer digits, and makes
// constants exact. It is the mean over the edges of the mask, or for a full mask that of the plane.
template <int64_t kStep, class T>
T typical_value(const Workspace<T>& s, const Plane<T>& plane) {
  const Box& box = s.box;
  if (box.is_full) {
    const double sum = sum_line(plane.boundary, s.unknowns);
    return static_cast<T>(sum / static_cast<double>(s.unknowns));
  }
  T* line = s.mask.line[0];
  double sum = 0.0;
  for (int64_t y = 0; y < box.h; ++y) {
    gather_edges<kStep>(box, plane, y, T{0}, line);
    sum += sum_line(line, box.w);
  }
  return static_cast<T>(sum / static_cast<double>(s.open_edges));
}

// Fills s.b; returns false if a value that matters is not finite.
template <int64_t kStep, class T>
bool load_plane(const Workspace<T>& s, const Plane<T>& plane, T offset) {
  const Box& box = s.box;
  const int64_t step = kStep == 1 ? 1 : box.step_x;
  T* __restrict__ line = s.mask.line[0];
  bool good = all_finite(&offset, 1);
  for (int64_t y = 0; y < box.h; ++y) {
    gather_edges<kStep>(box, plane, y, offset, line);
    const int64_t start = box.start + y * box.step_y;
    for (int64_t x = 0; x < box.w; ++x) {
      const T value = line[x] - plane.rhs[start + x * step];
      line[x] = plane.mask[start + x * step] ? value : T{0};
    }
    good &= all_finite(line, box.w);
    split_row(s.grid(), y, line, s.b);
  }
  if (box.is_full) remove_mean(s, s.b);  // without edges only such a b has a solution
  return good;
}

// Writes the unknowns; the other pixels hold the boundary's values already.
template <int64_t kStep, class T>
void store_plane(const Workspace<T>& s, const Plane<T>& plane, T scale, T offset) {
  const Box& box = s.box;
  const int64_t step = kStep == 1 ? 1 : box.step_x;
  T* __restrict__ line = s.mask.line[0];
  if (box.is_full) remove_mean(s, s.x);  // the constant that was left open
  for (int64_t y = 0; y < box.h; ++y) {
    join_row(s.grid(), y, s.x, line);
    T* __restrict__ solution = plane.solution + box.start + y * box.step_y;
    const bool* mask = plane.mask + box.start + y * box.step_y;
    for (int64_t x = 0; x < box.w; ++x) {
      const T value = line[x] * scale + offset;
      solution[x * step] = mask[x * step] ? value : solution[x * step];
    }
  }
}

template <class T>
void store_not_a_number(const Box& box, const Plane<T>& plane) {
  for (int64_t y = 0; y < box.h; ++y) {
    for (int64_t x = 0; x < box.w; ++x) {
      const int64_t at = box.start + y * box.step_y + x * box.step_x;
      if (plane.mask[at]) plane.solution[at] = not_a_number<T>();
    }
  }
}

}  // namespace ssad::SSAD_LEVEL
