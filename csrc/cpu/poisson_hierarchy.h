// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "poisson_vector.h"

namespace ssad::SSAD_LEVEL {

// The coarser and coarser masks of a sample, which all its channels share, and room for one
// V-cycle: u[level] is about inverse(A) f[level]. Planes are those of a Grid.
template <class T>
struct Hierarchy {
  int levels;
  Grid grid[kMaxLevels];
  T* inverse[kMaxLevels];  // 1 / degree of the unknowns, 0 elsewhere
  T* u[kMaxLevels];
  T* f[kMaxLevels];
  T* degree;        // of the finest level
  T* line[kLines];  // rows by x, with zeros around; the last one is always zero

  const T* zeros() const { return line[kLines - 1]; }
};

// A single point without edges is all that is left of an image with few boundary pixels or none. A
// hole in a wide image conducts about as well as one edge.
template <class T>
T inverse_of(T degree) {
  return degree > T{} ? T{} + 1 / degree : T{} + 1;
}

// Degrees of the unknowns (inverse != 0 on entry). In a grid of one row that came from a coarser
// and coarser one, an edge across weighs `across` times one along.
template <class T>
void fill_degrees(const Grid& g, T across, const T* leak, T* inverse, T* degree) {
  for (int64_t y = 0; y < g.h; ++y) {
    const int vertical = 2 - (g.top && y == 0) - (g.bottom && y == g.h - 1);
    const T full = T{2} + across * static_cast<T>(vertical);
    const int64_t row = g.row(y);
    for_each_vector<T>(g.both(), [=](int64_t k) {
      const auto is_unknown = load(inverse + row + k) > Vector<T>{};
      const Vector<T> value = full + load(leak + row + k);
      if (degree != nullptr) store(degree + row + k, is_unknown ? value : Vector<T>{});
      store(inverse + row + k, is_unknown ? inverse_of(value) : Vector<T>{});
    });
    const auto correct = [=](int64_t x) {
      const int horizontal = 2 - (g.left && x == 0) - (g.right && x == g.w - 1);
      const int64_t at = g.index(y, x);
      if (!(inverse[at] > T{0})) return;
      const T value = full - static_cast<T>(2 - horizontal) + leak[at];
      if (degree != nullptr) degree[at] = value;
      inverse[at] = inverse_of(value);
    };
    if (g.left) correct(0);
    if (g.right) correct(g.w - 1);
  }
}

// Which points of the next grid are unknowns, by row, 1 or 0; returns whether there is one.
template <class T>
bool coarsen_mask(const Grid& g, const T* inverse, const Grid& coarse, T* line, T* to) {
  T any{0};
  for (int64_t y = 0; y < coarse.h; ++y) {
    const int64_t fine_y = g.h > 1 ? 2 * y + 1 : 0;
    const T* red = row_of_colour(g, fine_y, 0, inverse);
    const T* black = row_of_colour(g, fine_y, 1, inverse);
    const int beyond_last = g.right && g.w % 2 == 0 ? 1 : 0;
    const int below = g.bottom && fine_y == g.h - 1 ? 1 : 0;
    for (int64_t x = 0; x < coarse.w; ++x) {
      const auto is_free = [&](int64_t at) { return black[at] > T{0} ? 1 : 0; };
      int free_neighbours = is_free(x) + (is_free(x + 1) | (x == coarse.w - 1 ? beyond_last : 0));
      if (g.h > 1) {
        free_neighbours += is_free(x - g.stride()) + (below | is_free(x + g.stride()));
      } else {
        free_neighbours *= 2;  // along a single row both neighbours are needed
      }
      line[x] = is_coarse_unknown(red[x] > T{0}, free_neighbours) ? T{1} : T{0};
      any = line[x] > any ? line[x] : any;
    }
    split_row(coarse, y, line, to);
  }
  return any > T{0};
}

// A hole that no coarse point sees still holds its surroundings to zero. Each of them gets a leak
// for it, as if it had further edges to boundary pixels, and hands its leak on to coarser grids.
template <class T>
T coarse_leak(const Grid& g, const T* inverse, const T* leak, int64_t y, int64_t x) {
  const auto is_free = [&](int64_t py, int64_t px) {
    if (py < 0 || py >= g.h) return py < 0 ? g.top : g.bottom;  // nothing there holds it to zero
    if (px < 0 || px >= g.w) return px < 0 ? g.left : g.right;
    return inverse[g.index(py, px)] > T{0};
  };
  const int64_t fine_y = g.h > 1 ? 2 * y + 1 : 0, fine_x = 2 * x + 1;
  const int64_t reach = g.h > 1 ? 1 : 0;
  T sum{0};
  for (int64_t dy = -reach; dy <= reach; ++dy) {
    for (int64_t dx = -1; dx <= 1; ++dx) {
      const int64_t py = fine_y + dy, px = fine_x + dx;
      if (py >= g.h || px >= g.w) continue;
      const T weight = (dy == 0 ? T{1} : T{0.5}) * (dx == 0 ? T{1} : T{0.5});
      if (is_free(py, px)) {
        sum += weight * leak[g.index(py, px)];
      } else if (is_free(py + dy, px + dx)) {
        sum += weight * static_cast<T>(kPoissonHoleLeak);
      }
    }
  }
  return g.h > 1 ? sum : T{2} * sum;
}

// A row of them by whole vectors, of a grid of several rows. Where there are natural borders the
// first and the last one may be wrong: what lies beyond the rows is taken for boundary pixels.
template <class T>
void coarse_leaks(const Grid& g, const T* inverse, const T* leak, int64_t y, int64_t count,
                  T* line) {
  using V = Vector<T>;
  const int64_t centre = g.row(2 * y + 1), down = g.stride(), black = g.colour;
  const bool has_below = 2 * y + 2 < g.h;
  const bool above_is_free = y == 0 && g.top, below_is_free = 2 * y + 3 >= g.h && g.bottom;
  const V hole = broadcast(static_cast<T>(kPoissonHoleLeak)), none{};
  for_each_vector<T>(count, [=](int64_t k) {
    const int64_t here = centre + k;
    // What the point at `at` hands on, where `next` is the coarse point behind it.
    const auto part = [=](int64_t at, V next) {
      const V if_hole = next > none ? hole : none;
      return load(inverse + at) > none ? load(leak + at) : if_hole;
    };
    const auto above = [=](int64_t at) { return above_is_free ? none + 1 : load(inverse + at); };
    const auto below = [=](int64_t at) { return below_is_free ? none + 1 : load(inverse + at); };
    V sides = part(here + black, load(inverse + here - 1)) +
              part(here + black + 1, load(inverse + here + 1)) +
              part(here + black - down, above(here - 2 * down));
    V corners = part(here - down, above(here - 2 * down - 1)) +
                part(here - down + 1, above(here - 2 * down + 1));
    if (has_below) {
      sides += part(here + black + down, below(here + 2 * down));
      corners += part(here + down, below(here + 2 * down - 1)) +
                 part(here + down + 1, below(here + 2 * down + 1));
    }
    const V own = load(inverse + here) > none ? load(leak + here) : none;
    store(line + k, own + T{0.5} * sides + T{0.25} * corners);
  });
}

template <class T>
void coarsen_leaks(const Grid& g, const T* inverse, const T* leak, const Grid& coarse, T* line,
                   T* to) {
  const auto exact = [=](int64_t y, int64_t x) { line[x] = coarse_leak(g, inverse, leak, y, x); };
  for (int64_t y = 0; y < coarse.h; ++y) {
    if (g.h > 1) {
      coarse_leaks(g, inverse, leak, y, coarse.w, line);
      if (g.left) exact(y, 0);
      if (g.top || g.bottom || g.right) exact(y, coarse.w - 1);
    } else {
      for (int64_t x = 0; x < coarse.w; ++x) exact(y, x);
    }
    split_row(coarse, y, line, to);
  }
}

// Expects the finest grid, and inverse[0] with ones for its unknowns.
template <class T>
void build_hierarchy(Hierarchy<T>* m) {
  T across{1};
  fill_degrees(m->grid[0], across, m->f[0], m->inverse[0], m->degree);  // no leaks there
  m->levels = 1;
  while (can_coarsen(m->grid[m->levels - 1])) {
    const Grid& fine = m->grid[m->levels - 1];
    const Grid coarse = coarsened(fine);
    const int64_t size = fine.size();
    T* inverse = m->inverse[m->levels - 1];
    // The planes of all levels follow one another.
    m->inverse[m->levels] = inverse + size;
    m->u[m->levels] = m->u[m->levels - 1] + size;
    m->f[m->levels] = m->f[m->levels - 1] + size;
    if (!coarsen_mask(fine, inverse, coarse, m->line[0], m->inverse[m->levels])) break;
    if (fine.h == 1) across *= T{4};
    T* leak = m->f[m->levels];  // free until the cycle runs
    coarsen_leaks(fine, inverse, m->f[m->levels - 1], coarse, m->line[0], leak);
    fill_degrees(coarse, across, leak, m->inverse[m->levels], static_cast<T*>(nullptr));
    m->grid[m->levels++] = coarse;
  }
}

}  // namespace ssad::SSAD_LEVEL
