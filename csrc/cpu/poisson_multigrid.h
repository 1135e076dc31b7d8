// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "poisson_grid.h"
#include "poisson_vector.h"
#include "ssad/poisson.h"

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
  T* degree;    // of the finest level
  T* residual;  // one colour
  T* line[2];   // a row by x, with zeros around
};

// What a hole adds to the degrees around it, for each whole weight of interpolation.
constexpr double kHoleLeak = 2.0;

// Degrees of the unknowns (inverse != 0 on entry). In a grid of one row that came from a coarser
// and coarser one, an edge across weighs `across` times one along.
template <class T>
void fill_degrees(const Grid& g, T across, const T* leak, T* inverse, T* degree) {
  for (int64_t y = 0; y < g.h; ++y) {
    const int vertical = 2 - (g.top && y == 0) - (g.bottom && y == g.h - 1);
    for (int64_t x = 0; x < g.w; ++x) {
      const int horizontal = 2 - (g.left && x == 0) - (g.right && x == g.w - 1);
      const int64_t colour = (x & 1) ^ g.parity(y);
      const int64_t at = g.row(y) + colour * g.colour + x / 2;
      if (!(inverse[at] > T{0})) continue;
      const T value = static_cast<T>(horizontal) + across * static_cast<T>(vertical) + leak[at];
      if (degree != nullptr) degree[at] = value;
      // A single point without edges is all that is left of an image with few boundary pixels or
      // none. A hole in a wide image conducts about as well as one edge.
      inverse[at] = value > T{0} ? T{1} / value : T{1};
    }
  }
}

// Which points of the next grid are unknowns, by row, 1 or 0; returns whether there is one.
template <class T>
bool coarsen_mask(const Grid& g, const T* inverse, const Grid& coarse, T* line, T* to) {
  const T* red = inverse;
  const T* black = inverse + g.colour;
  bool any = false;
  for (int64_t y = 0; y < coarse.h; ++y) {
    const int64_t fine_y = g.h > 1 ? 2 * y + 1 : 0;
    const int64_t here = g.row(fine_y);
    for (int64_t x = 0; x < coarse.w; ++x) {
      const auto is_free = [&](int64_t at) { return black[at + x] > T{0} ? 1 : 0; };
      const int beyond = g.right && 2 * x + 1 == g.w - 1 ? 1 : 0;
      int free_neighbours = is_free(here) + (beyond | is_free(here + 1));
      if (g.h > 1) {
        free_neighbours += is_free(here - g.stride) +
                           (g.bottom && fine_y == g.h - 1 ? 1 : is_free(here + g.stride));
      } else if (free_neighbours == 2) {
        free_neighbours = 4;  // along a single row both neighbours are needed
      }
      const bool is_unknown = is_coarse_unknown(red[here + x] > T{0}, free_neighbours);
      line[x] = is_unknown ? T{1} : T{0};
      any |= is_unknown;
    }
    split_row(coarse, y, line, to);
  }
  return any;
}

// A hole that no coarse point sees still holds its surroundings to zero. Each of them gets a leak
// for it, as if it had further edges to boundary pixels, and hands its leak on to coarser grids.
template <class T>
void coarsen_leaks(const Grid& g, const T* inverse, const T* leak, const Grid& coarse, T* line,
                   T* to) {
  const auto index = [&](int64_t y, int64_t x) {
    return g.row(y) + ((x & 1) ^ g.parity(y)) * g.colour + x / 2;
  };
  const auto is_free = [&](int64_t y, int64_t x) {
    if (y < 0 || y >= g.h) return y < 0 ? g.top : g.bottom;  // nothing there holds it to zero
    if (x < 0 || x >= g.w) return x < 0 ? g.left : g.right;
    return inverse[index(y, x)] > T{0};
  };
  for (int64_t y = 0; y < coarse.h; ++y) {
    const int64_t fine_y = g.h > 1 ? 2 * y + 1 : 0;
    for (int64_t x = 0; x < coarse.w; ++x) {
      const int64_t fine_x = 2 * x + 1;
      T sum{0};
      const int64_t reach = g.h > 1 ? 1 : 0;
      for (int64_t dy = -reach; dy <= reach; ++dy) {
        for (int64_t dx = -1; dx <= 1; ++dx) {
          const int64_t py = fine_y + dy, px = fine_x + dx;
          if (py >= g.h || px >= g.w) continue;
          const T weight = (dy == 0 ? T{1} : T{0.5}) * (dx == 0 ? T{1} : T{0.5});
          if (is_free(py, px)) {
            sum += weight * leak[index(py, px)];
          } else if (is_free(py + dy, px + dx)) {
            sum += weight * static_cast<T>(kHoleLeak);
          }
        }
      }
      line[x] = g.h > 1 ? sum : T{2} * sum;
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

// Half a sweep: solves for the points of one colour, given the other one.
template <class T>
void relax_colour(const Grid& g, const T* __restrict__ f, const T* __restrict__ inverse,
                  int64_t colour, T* u) {
  const T* __restrict__ other = u + (1 - colour) * g.colour;
  T* __restrict__ own = u + colour * g.colour;
  f += colour * g.colour;
  inverse += colour * g.colour;
  for (int64_t y = 0; y < g.h; ++y) {
    const int64_t row = g.row(y), shift = shift_of(g, y, colour);
    for (int64_t k = row; k < row + g.span; ++k) {
      const T sum = neighbours(other, other - g.stride, other + g.stride, k, shift);
      own[k] = relaxed(f[k], sum, inverse[k]);
    }
  }
}

// The same for red points where the black ones are zero.
template <class T>
void relax_red_from_zero(const Grid& g, const T* __restrict__ f, const T* __restrict__ inverse,
                         T* __restrict__ u) {
  const int64_t end = g.row(g.h);
  for (int64_t k = g.row(0); k < end; ++k) u[k] = f[k] * inverse[k];
}

// After a red and then a black half sweep from zero the black points have no residual, and the red
// ones that of the black update: the sum of their neighbours.
template <class T>
void red_residual(const Grid& g, const T* __restrict__ u, const T* __restrict__ inverse,
                  T* __restrict__ residual) {
  const T* __restrict__ black = u + g.colour;
  for (int64_t y = 0; y < g.h; ++y) {
    const int64_t row = g.row(y), shift = shift_of(g, y, 0);
    for (int64_t k = row; k < row + g.span; ++k) {
      const T sum = neighbours(black, black - g.stride, black + g.stride, k, shift);
      residual[k] = inverse[k] > T{0} ? sum : T{0};
    }
    residual[row + g.span] = T{0};  // a finer grid has left its own there
  }
  std::memset(residual + g.row(g.h), 0, static_cast<size_t>(g.stride) * sizeof(T));
}

// Interpolation at a natural border repeats the last coarse point instead of fading to zero.
template <class T>
void double_at_natural_borders(const Grid& g, T* red) {
  const auto double_row = [&](int64_t y) {
    for (int64_t k = 0; k < g.span; ++k) red[g.row(y) + k] *= T{2};
  };
  const bool has_last_row = (g.h & 1) != 0, has_last_column = (g.w & 1) != 0;
  if (g.top) double_row(0);
  if (g.bottom && has_last_row) double_row(g.h - 1);
  for (int64_t y = 0; y < g.h; y += 2) {
    if (g.left) red[g.row(y)] *= T{2};
    if (g.right && has_last_column) red[g.row(y) + g.w / 2] *= T{2};
  }
}

template <class T>
void restrict_residual(const Grid& g, T* red, const Grid& coarse, T* __restrict__ line, T* f) {
  if (g.h == 1) {
    // Edges of a coarse row weigh half as much, so its equations are multiplied by two.
    for (int64_t x = 0; x < coarse.w; ++x) line[x] = T{2} * red[g.row(0) + x];
    return split_row(coarse, 0, line, f);
  }
  double_at_natural_borders(g, red);
  for (int64_t y = 0; y < coarse.h; ++y) {
    const T* centre = red + g.row(2 * y + 1);
    const T* above = centre - g.stride;
    const T* below = centre + g.stride;
    for (int64_t x = 0; x < coarse.w; ++x) {
      line[x] = restricted(centre[x], above[x], above[x + 1], below[x], below[x + 1]);
    }
    split_row(coarse, y, line, f);
  }
}

// Adds the coarse correction to the red points; `red` is room for it.
template <class T>
void add_correction(const Grid& g, const T* inverse, const Grid& coarse, const T* coarse_u,
                    T* const line[2], T* __restrict__ red, T* __restrict__ u) {
  if (g.h == 1) {
    join_row(coarse, 0, coarse_u, red + g.row(0));
  } else {
    // line[y & 1] holds coarse row y; there are rows of zeros before the first and after the last.
    std::memset(line[1], 0, static_cast<size_t>(coarse.w + 1) * sizeof(T));
    for (int64_t y = 0; y <= coarse.h; ++y) {
      T* lower = line[y & 1];
      const T* upper = line[1 - (y & 1)];
      if (y < coarse.h) {
        join_row(coarse, y, coarse_u, lower);
      } else {
        std::memset(lower, 0, static_cast<size_t>(coarse.w + 1) * sizeof(T));
      }
      lower[coarse.w] = T{0};
      if (2 * y < g.h) {
        T* corners = red + g.row(2 * y);
        for (int64_t k = 0; k < (g.w + 1) / 2; ++k) {
          corners[k] = interpolated(upper[k - 1], upper[k], lower[k - 1], lower[k]);
        }
      }
      if (y < coarse.h) {
        std::memcpy(red + g.row(2 * y + 1), lower, static_cast<size_t>(coarse.w) * sizeof(T));
      }
    }
    double_at_natural_borders(g, red);
  }
  const int64_t end = g.row(g.h);
  for (int64_t k = g.row(0); k < end; ++k) u[k] = inverse[k] > T{0} ? u[k] + red[k] : T{0};
}

// One symmetric V(1,1) cycle from zero. As an operator it is symmetric and positive whatever the
// coarse masks are: the smoothing is, and the transfers are transposes of one another.
template <class T>
void v_cycle(const Hierarchy<T>& m, int level) {
  const Grid& g = m.grid[level];
  const T* f = m.f[level];
  const T* inverse = m.inverse[level];
  T* u = m.u[level];
  relax_red_from_zero(g, f, inverse, u);
  relax_colour(g, f, inverse, 1, u);
  if (level + 1 < m.levels) {
    const Grid& coarse = m.grid[level + 1];
    red_residual(g, u, inverse, m.residual);
    restrict_residual(g, m.residual, coarse, m.line[0], m.f[level + 1]);
    v_cycle(m, level + 1);
    add_correction(g, inverse, coarse, m.u[level + 1], m.line, m.residual, u);
    relax_colour(g, f, inverse, 1, u);
  }
  relax_colour(g, f, inverse, 0, u);
}

}  // namespace ssad::SSAD_LEVEL
