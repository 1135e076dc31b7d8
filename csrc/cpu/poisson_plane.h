// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "poisson_workspace.h"
#include "rows.h"

namespace ssad::SSAD_LEVEL {

// One channel of a sample: from the image into a right-hand side, and back.
template <class T>
struct Plane {
  const T* rhs;
  const bool* mask;
  const T* boundary;
  T* solution;
};

// Sum of (boundary - offset) over the neighbours of an unknown that are no unknowns; what lies
// beyond the image is not looked at.
template <class T>
T edge_sum(const Box& box, const Plane<T>& plane, int64_t y, int64_t x, T offset) {
  const int64_t at = box.start + y * box.step_y + x * box.step_x;
  if (!plane.mask[at]) return T{0};
  T sum{0};
  const auto add = [&](bool exists, int64_t neighbour) {
    if (exists && !plane.mask[neighbour]) sum += plane.boundary[neighbour] - offset;
  };
  add(y > 0 || !box.top, at - box.step_y);
  add(y < box.h - 1 || !box.bottom, at + box.step_y);
  add(x > 0 || !box.left, at - box.step_x);
  add(x < box.w - 1 || !box.right, at + box.step_x);
  return sum;
}

// The same for eight pixels in a row of the image, none of whose neighbours is beyond it except for
// those above and below: there `up` and `down` are 0. Most masks have few edges, and most such
// groups none.
constexpr int64_t kGroup = 8;

template <class T>
bool group_edges(const Plane<T>& plane, int64_t at, int64_t up, int64_t down, T offset,
                 T* __restrict__ line) {
  const auto word = [&](int64_t step) {
    uint64_t bytes;
    std::memcpy(&bytes, plane.mask + at + step, kGroup);
    return bytes;
  };
  if ((word(0) & ~(word(up) & word(down) & word(-1) & word(1))) == 0) {
    for (int64_t i = 0; i < kGroup; ++i) line[i] = T{0};
    return false;
  }
  const bool* mask = plane.mask + at;
  const T* boundary = plane.boundary + at;
  const auto value = [=](int64_t i) { return mask[i] ? T{0} : boundary[i] - offset; };
  for (int64_t i = 0; i < kGroup; ++i) {
    const T sum = ((value(i + up) + value(i + down)) + value(i - 1)) + value(i + 1);
    line[i] = mask[i] ? sum : T{0};
  }
  return true;
}

// A row of them; returns whether one may not be zero.
template <class T>
bool gather_edges(const Box& box, const Plane<T>& plane, int64_t y, T offset, T* line) {
  if (box.step_x != 1 || box.w < 2 * kGroup) {
    for (int64_t x = 0; x < box.w; ++x) line[x] = edge_sum(box, plane, y, x, offset);
    return true;
  }
  const int64_t row = box.start + y * box.step_y;
  const int64_t up = y > 0 || !box.top ? -box.step_y : 0;
  const int64_t down = y < box.h - 1 || !box.bottom ? box.step_y : 0;
  const int64_t first = box.left ? 1 : 0, last = box.w - (box.right ? 1 : 0);
  bool any = false;
  for (int64_t x = first; x < last; x += kGroup) {
    const int64_t start = x < last - kGroup ? x : last - kGroup;
    any |= group_edges(plane, row + start, up, down, offset, line + start);
  }
  for (int64_t end = 0; end < 2; ++end) {
    const int64_t x = end * (box.w - 1);
    if (x >= first && x < last) continue;
    line[x] = edge_sum(box, plane, y, x, offset);
    any = true;
  }
  return any;
}

template <class T>
double sum_line(const T* line, int64_t count) {
  double sum = 0.0;
#pragma omp simd reduction(+ : sum)
  for (int64_t x = 0; x < count; ++x) sum += static_cast<double>(line[x]);
  return sum;
}

// A constant near the solution: solving for what is left of it loses fewer digits, and makes
// constants exact. It is the mean over the edges of the mask, or for a full mask that of the plane.
template <class T>
T typical_value(const Workspace<T>& s, const Plane<T>& plane) {
  const Box& box = s.box;
  if (box.is_full) {
    const double sum = sum_line(plane.boundary, s.unknowns);
    return static_cast<T>(sum / static_cast<double>(s.unknowns));
  }
  T* line = s.mask.line[0];
  double sum = 0.0;
  for (int64_t y = 0; y < box.h; ++y) {
    if (gather_edges(box, plane, y, T{0}, line)) sum += sum_line(line, box.w);
  }
  return static_cast<T>(sum / static_cast<double>(s.open_edges));
}

// Fills s.b; returns false if a value that matters is not finite.
template <class T>
bool load_plane(const Workspace<T>& s, const Plane<T>& plane, T offset) {
  const Box& box = s.box;
  const Grid& g = s.grid();
  T* edges = s.mask.line[0];
  T* rhs = s.mask.line[1];
  bool good = all_finite(&offset, 1);
  for (int64_t y = 0; y < box.h; ++y) {
    gather_edges(box, plane, y, offset, edges);
    gather_row(plane.rhs + box.start + y * box.step_y, box.step_x, rhs, box.w);
    const int64_t row = g.row(y);
    const auto dense = [=](int64_t x) { return load(edges + x) - load(rhs + x); };
    split_vectors(g, y, s.b, dense);
    for_each_vector<T>(g.both(), [&](int64_t k) {
      const auto is_unknown = load(s.mask.inverse[0] + row + k) > Vector<T>{};
      store(s.b + row + k, is_unknown ? load(s.b + row + k) : Vector<T>{});
    });
    good &= all_finite(s.b + row, g.both());
  }
  if (box.is_full) remove_mean(s, s.b);  // without edges only such a b has a solution
  return good;
}

// Writes the unknowns; the other pixels hold the boundary's values already.
template <class T>
void store_plane(const Workspace<T>& s, const Plane<T>& plane, T scale, T offset) {
  const Box& box = s.box;
  const Grid& g = s.grid();
  T* line = s.mask.line[0];
  if (box.is_full) remove_mean(s, s.x);  // the constant that was left open
  for (int64_t y = 0; y < box.h; ++y) {
    T* solution = plane.solution + box.start + y * box.step_y;
    gather_row(solution, box.step_x, line, box.w);
    const T* x[] = {row_of<0>(g, y, s.x), row_of<1>(g, y, s.x)};
    const T* inverse[] = {row_of<0>(g, y, s.mask.inverse[0]), row_of<1>(g, y, s.mask.inverse[0])};
    for_each_vector<T>(g.span, [=](int64_t k) {
      const Vector<T> a = load(line + 2 * k), b = load(line + 2 * k + kLanes<T>);
      const auto merged = [=](int odd, Vector<T> known) {
        const Vector<T> value = load(x[odd] + k) * scale + offset;
        return load(inverse[odd] + k) > Vector<T>{} ? value : known;
      };
      const Vector<T> even = merged(0, evens<T>(a, b)), odd = merged(1, odds<T>(a, b));
      store(line + 2 * k, zip_low<T>(even, odd));
      store(line + 2 * k + kLanes<T>, zip_high<T>(even, odd));
    });
    scatter_row(line, solution, box.step_x, box.w);
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
