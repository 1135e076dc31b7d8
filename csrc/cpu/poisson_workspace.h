// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "poisson_multigrid.h"

namespace ssad::SSAD_LEVEL {

// A mask, and which sides of it are the image's border (natural condition); beyond the others the
// solution is known.
struct Domain {
  const bool* mask;  // (h, w)
  int64_t h, w;
  bool top, bottom, left, right;
};

// Where the unknowns of a sample lie in its domain: the rectangle around the mask, turned so that
// it is not higher than wide.
struct Box {
  int64_t h, w;
  int64_t start, step_y, step_x;  // pixel (y, x) is start + y * step_y + x * step_x
  bool top, bottom, left, right;  // whether that side is the image's border
  bool is_full;                   // the mask is the image: nothing is known
};

// Everything the solvers need for one sample, in memory that the caller lent.
template <class T>
struct Workspace {
  Box box;
  Hierarchy<T> mask;
  T* b;  // right-hand side of A u = b
  T* x;
  T* p;
  T* q;
  int64_t unknowns;
  int64_t open_edges;  // from an unknown to a pixel that is none

  const Grid& grid() const { return mask.grid[0]; }
  T* r() const { return mask.f[0]; }
  T* z() const { return mask.u[0]; }
};

struct Outcome {
  bool is_converged;
  int64_t iterations;
  double scale = 1.0;  // what x and b were multiplied by
};

// For a full mask: neither b nor u have a mean, and rounding shall not give them one.
template <class T>
void remove_mean(const Workspace<T>& s, T* plane) {
  const Grid& g = s.grid();
  RowSum<T> sum;
  for (int64_t y = 0; y < g.h; ++y) {
    const T* row = plane + g.row(y);
    for_each_vector<T>(g.both(), [&](int64_t k) { sum.part += load(row + k); });
    sum.end_row(g, y);
  }
  const Vector<T> mean = broadcast(static_cast<T>(sum.result() / static_cast<double>(s.unknowns)));
  const T* inverse = s.mask.inverse[0];
  for_each_vector<T>(g.size(), [=](int64_t k) {
    const Vector<T> part = load(inverse + k) > Vector<T>{} ? mean : Vector<T>{};
    store(plane + k, load(plane + k) - part);
  });
}

inline bool any_of(const bool* mask, int64_t count, int64_t step) {
  bool any = false;
  for (int64_t i = 0; i < count; ++i) any |= mask[i * step];
  return any;
}

// Returns false for an empty mask.
inline bool find_box(const Domain& domain, Box* box) {
  const bool* mask = domain.mask;
  const int64_t h = domain.h, w = domain.w;
  int64_t y0 = 0, y1 = h, x0 = 0, x1 = w;
  while (y0 < h && !any_of(mask + y0 * w, w, 1)) ++y0;
  if (y0 == h) return false;
  while (!any_of(mask + (y1 - 1) * w, w, 1)) --y1;
  while (!any_of(mask + y0 * w + x0, y1 - y0, w)) ++x0;
  while (!any_of(mask + y0 * w + x1 - 1, y1 - y0, w)) --x1;
  const bool top = domain.top && y0 == 0, bottom = domain.bottom && y1 == h;
  const bool left = domain.left && x0 == 0, right = domain.right && x1 == w;
  const int64_t start = y0 * w + x0;
  if (y1 - y0 <= x1 - x0) {
    *box = {y1 - y0, x1 - x0, start, w, 1, top, bottom, left, right, false};
  } else {
    *box = {x1 - x0, y1 - y0, start, 1, w, left, right, top, bottom, false};
  }
  return true;
}

// Lays the planes out in `memory` and builds the hierarchy; returns false for an empty mask.
template <class T>
bool prepare(Workspace<T>* s, const Domain& domain, T* memory) {
  Box& box = s->box;
  if (!find_box(domain, &box)) return false;
  std::memset(memory, 0, static_cast<size_t>(workspace_size(box.h, box.w)) * sizeof(T));
  Hierarchy<T>& m = s->mask;
  const Grid g = make_grid(box.h, box.w, box.top, box.bottom, box.left, box.right);
  m.grid[0] = g;
  T* next = memory;
  T** const planes[] = {&s->b, &s->x, &s->p, &s->q, &m.degree};
  for (T** plane : planes) *plane = next, next += g.size();
  for (T*& line : m.line) line = next + kRowUnit, next += line_size(g.w);
  const int64_t levels = (memory + workspace_size(box.h, box.w) - next) / 3;
  m.inverse[0] = next;
  m.u[0] = next + levels;
  m.f[0] = next + 2 * levels;

  s->unknowns = 0;
  for (int64_t y = 0; y < g.h; ++y) {
    const bool* row = domain.mask + box.start + y * box.step_y;
    for (int64_t x = 0; x < g.w; ++x) {
      m.line[0][x] = row[x * box.step_x] ? T{1} : T{0};
      s->unknowns += row[x * box.step_x];
    }
    split_row(g, y, m.line[0], m.inverse[0]);
  }
  box.is_full =
      s->unknowns == domain.h * domain.w && box.top && box.bottom && box.left && box.right;
  // The degree less the neighbours that are unknowns, summed: q is still free for A applied to
  // ones.
  std::memcpy(s->p, m.inverse[0], static_cast<size_t>(g.size()) * sizeof(T));
  build_hierarchy(&m);
  s->open_edges = static_cast<int64_t>(apply_laplacian(g, m.degree, s->p, s->q));
  return true;
}

}  // namespace ssad::SSAD_LEVEL
