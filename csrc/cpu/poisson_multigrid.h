// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "poisson_hierarchy.h"

namespace ssad::SSAD_LEVEL {

// A V(1,1) cycle. Both of its halves pass over a level once: each step follows the one before it by
// a row, so that what it reads is still in the nearest cache.

// Solves for the points of one colour in a row, given the other one.
template <class T>
SSAD_INLINE void relax_row(const Grid& g, int64_t y, int64_t colour, const T* f, const T* inverse,
                           T* u) {
  f = row_of_colour(g, y, colour, f);
  inverse = row_of_colour(g, y, colour, inverse);
  T* own = row_of_colour(g, y, colour, u);
  for_each_sum(g, y, colour, u, [=](int64_t k, Vector<T> sum) {
    store(own + k, relaxed(load(f + k), sum, load(inverse + k)));
  });
}

// The same for red points where the black ones are zero.
template <class T>
SSAD_INLINE void relax_red_from_zero(const Grid& g, int64_t y, const T* f, const T* inverse, T* u) {
  const int64_t row = g.row(y);
  for_each_vector<T>(
      g.span, [=](int64_t k) { store(u + row + k, load(f + row + k) * load(inverse + row + k)); });
}

// After a red and then a black half sweep from zero the black points have no residual, and the red
// ones that of the black update: the sum of their neighbours.
template <class T>
SSAD_INLINE void residual_row(const Grid& g, int64_t y, const T* u, const T* inverse, T* line) {
  inverse += g.row(y);
  for_each_sum(g, y, 0, u, [=](int64_t k, Vector<T> sum) {
    store(line + k, load(inverse + k) > Vector<T>{} ? sum : Vector<T>{});
  });
  // Interpolation at a natural border repeats the last coarse point instead of fading to zero, so
  // its transpose doubles what lies there.
  if (y & 1 || g.h == 1) return;
  if ((y == 0 && g.top) || (y == g.h - 1 && g.bottom)) {
    for_each_vector<T>(g.span, [=](int64_t k) { store(line + k, load(line + k) * T{2}); });
  }
  if (g.left) line[0] *= T{2};
  if (g.right && g.w & 1) line[g.w / 2] *= T{2};
}

// Coarse row y from the residuals of the three fine rows around it.
template <class T>
SSAD_INLINE void restrict_row(const Grid& coarse, int64_t y, const T* above, const T* centre,
                              const T* below, T* f) {
  split_vectors(coarse, y, f, [=](int64_t k) {
    return restricted(load(centre + k), load(above + k), load(above + k + 1), load(below + k),
                      load(below + k + 1));
  });
}

// The lines hold rows of all levels: what a finer one left beyond the rows of a coarser one goes.
template <class T>
void clear_tails(const Hierarchy<T>& m, const Grid& g, const Grid& coarse) {
  const int64_t first = g.span < 2 * coarse.span ? g.span : 2 * coarse.span;
  for (int i = 0; i < kLines - 1; ++i) {
    for_each_vector<T>(3 * kRowUnit, [&](int64_t k) { store(m.line[i] + first + k, Vector<T>{}); });
  }
}

// Smooths from zero and restricts what is left. before_row(g, y) may still write row y of f.
template <int kVectors, class T, class BeforeRow>
void cycle_down(const Hierarchy<T>& m, int level, BeforeRow before_row) {
  const Grid g = with_span<kVectors>(m.grid[level]);
  const T* f = m.f[level];
  const T* inverse = m.inverse[level];
  T* u = m.u[level];
  const bool has_coarse = level + 1 < m.levels;
  const Grid coarse = with_span<(kVectors + 1) / 2>(m.grid[has_coarse ? level + 1 : level]);
  T* coarse_f = m.f[has_coarse ? level + 1 : level];
  if (has_coarse) clear_tails(m, g, coarse);
  const auto line_of = [&](int64_t y) { return m.line[y & 1 ? 1 : y & 2]; };
  for (int64_t y = 0; y < g.h + 3; ++y) {
    if (y < g.h) {
      before_row(g, y);
      relax_red_from_zero(g, y, f, inverse, u);
    }
    if (y >= 1 && y <= g.h) relax_row(g, y - 1, 1, f, inverse, u);
    if (y < 2 || !has_coarse) continue;
    // A step later than it could be, as vectors that lie across two stored ones are slow at once.
    if (y >= 5 && y % 2 != 0) {
      restrict_row(coarse, (y - 5) / 2, line_of(y - 5), m.line[1], line_of(y - 3), coarse_f);
    }
    if (y < g.h + 2) residual_row(g, y - 2, u, inverse, line_of(y - 2));
  }
  if (!has_coarse) return;
  if (g.h == 1) {
    // Edges of a coarse row weigh half as much, so its equations are multiplied by two.
    split_vectors(coarse, 0, coarse_f, [=](int64_t k) { return load(m.line[0] + k) * T{2}; });
  } else if (g.h % 2 == 0) {
    restrict_row(coarse, coarse.h - 1, line_of(g.h - 2), m.line[1], m.zeros(), coarse_f);
  }
}

// A coarse row by x, with what interpolation finds beside it.
template <class T>
SSAD_INLINE void join_for_interpolation(const Grid& g, const Grid& coarse, int64_t y,
                                        const T* coarse_u, T* line) {
  const T* even = row_of<0>(coarse, y, coarse_u);
  const T* odd = row_of<1>(coarse, y, coarse_u);
  for_each_vector<T>(coarse.span, [=](int64_t k) {
    const Vector<T> a = load(even + k), b = load(odd + k);
    store(line + 2 * k, zip_low<T>(a, b));
    store(line + 2 * k + kLanes<T>, zip_high<T>(a, b));
  });
  if (g.left) line[-1] = line[0];
  if (g.right && g.w & 1) line[coarse.w] = line[coarse.w - 1];
}

// Adds the coarse correction to the red points of a row; term: offset in the row -> vector.
template <class T, class Term>
SSAD_INLINE void correct_row(const Grid& g, int64_t y, const T* inverse, T* u, Term term) {
  const int64_t row = g.row(y);
  for_each_vector<T>(g.span, [&](int64_t k) {
    const Vector<T> sum = load(u + row + k) + term(k);
    store(u + row + k, load(inverse + row + k) > Vector<T>{} ? sum : Vector<T>{});
  });
}

// Between two coarse rows.
template <class T>
SSAD_INLINE void correct_from(const Grid& g, int64_t y, const T* inverse, const T* upper,
                              const T* lower, T* u) {
  correct_row(g, y, inverse, u, [=](int64_t k) {
    return interpolated(load(upper + k - 1), load(upper + k), load(lower + k - 1), load(lower + k));
  });
}

// Adds the coarse correction, if there is one, and smooths in the opposite order. after_row(g, y)
// sees row y of u when it is done.
template <int kVectors, class T, class AfterRow>
void cycle_up(const Hierarchy<T>& m, int level, AfterRow after_row) {
  const Grid g = with_span<kVectors>(m.grid[level]);
  const T* f = m.f[level];
  const T* inverse = m.inverse[level];
  T* u = m.u[level];
  const bool has_coarse = level + 1 < m.levels;
  const Grid coarse = with_span<(kVectors + 1) / 2>(m.grid[has_coarse ? level + 1 : level]);
  const T* coarse_u = m.u[has_coarse ? level + 1 : level];
  if (has_coarse) clear_tails(m, g, coarse);
  const auto join = [&](int64_t y) SSAD_INLINE_LAMBDA {
    if (y < coarse.h) join_for_interpolation(g, coarse, y, coarse_u, m.line[y & 1]);
  };
  const auto correct = [&](int64_t y) SSAD_INLINE_LAMBDA {
    const T* here = m.line[(y / 2) & 1];  // coarse row y / 2
    const T* before = m.line[1 - ((y / 2) & 1)];
    if (y & 1 || g.h == 1) {
      correct_row(g, y, inverse, u, [=](int64_t k) { return load(here + k); });
      join(y / 2 + 1);  // for the next row, see cycle_down
      return;
    }
    if (y == 0) before = g.top ? here : m.zeros();
    if (y / 2 == coarse.h) here = g.bottom ? before : m.zeros();
    correct_from(g, y, inverse, before, here, u);
  };
  if (has_coarse) join(0);
  for (int64_t y = 0; y < g.h + 2; ++y) {
    if (y < g.h && has_coarse) correct(y);
    if (y >= 1 && y <= g.h) relax_row(g, y - 1, 1, f, inverse, u);
    if (y < 2) continue;
    relax_row(g, y - 2, 0, f, inverse, u);
    after_row(g, y - 2);
  }
}

// One symmetric V(1,1) cycle from zero. As an operator it is symmetric and positive whatever the
// coarse masks are: the smoothing is, and the transfers are transposes of one another.
template <class T, class BeforeRow, class AfterRow>
void v_cycle(const Hierarchy<T>& m, BeforeRow before_row, AfterRow after_row) {
  const auto nothing = [](const Grid&, int64_t) {};
  const auto down = [&](int level, auto before) {
    for_span(m.grid[level], [&](auto vectors) { cycle_down<vectors>(m, level, before); });
  };
  const auto up = [&](int level, auto after) {
    for_span(m.grid[level], [&](auto vectors) { cycle_up<vectors>(m, level, after); });
  };
  down(0, before_row);
  for (int level = 1; level < m.levels; ++level) down(level, nothing);
  for (int level = m.levels - 1; level > 0; --level) up(level, nothing);
  up(0, after_row);
}

}  // namespace ssad::SSAD_LEVEL
