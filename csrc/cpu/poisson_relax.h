// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "poisson_workspace.h"

namespace ssad::SSAD_LEVEL {

// About the radius of the largest disc in the mask, by chamfer distances (5 : 7 for a step along a
// row or column : a diagonal one). The image's border is no end of the mask. Uses s.q as room.
template <class T>
double inscribed_radius(const Workspace<T>& s) {
  const Grid& g = s.grid();
  const Box& box = s.box;
  if (box.is_full) return static_cast<double>(g.w);
  const T far = static_cast<T>(5 * (g.h + g.w));
  const int64_t stride = g.w + 2;
  T* distance = s.q;
  for (int64_t x = 0; x < stride; ++x) {
    distance[x] = box.top ? far : T{0};
    distance[(g.h + 1) * stride + x] = box.bottom ? far : T{0};
  }
  for (int64_t y = 0; y < g.h; ++y) {
    T* row = distance + (y + 1) * stride;
    join_row(g, y, s.mask.inverse[0], row + 1);
    for (int64_t x = 1; x <= g.w; ++x) row[x] = row[x] > T{0} ? far : T{0};
    row[0] = box.left ? far : T{0};
    row[g.w + 1] = box.right ? far : T{0};
  }
  T most{0};
  const auto relax = [&](T* at, int64_t back_y, int64_t back_x) {
    const T ways[] = {at[back_y] + T{5}, at[back_x] + T{5}, at[back_y + back_x] + T{7},
                      at[back_y - back_x] + T{7}};
    for (const T way : ways) *at = way < *at ? way : *at;
  };
  for (int64_t y = 1; y <= g.h; ++y) {
    for (int64_t x = 1; x <= g.w; ++x) relax(distance + y * stride + x, -stride, -1);
  }
  for (int64_t y = g.h; y >= 1; --y) {
    for (int64_t x = g.w; x >= 1; --x) {
      T* at = distance + y * stride + x;
      relax(at, stride, 1);
      most = *at > most ? *at : most;
    }
  }
  std::memset(distance, 0, static_cast<size_t>((g.h + 2) * stride) * sizeof(T));
  return static_cast<double>(most) / 5.0;
}

// 1 - mu, where mu is how much of the slowest mode a Jacobi sweep leaves in a disc of that radius:
// its eigenvalue is (2.405 / radius)^2, of which a sweep takes a quarter.
template <class T>
double slowest_gap(const Workspace<T>& s) {
  const double wave_number = 2.405 / (inscribed_radius(s) + 0.5);
  const double gap = 0.25 * wave_number * wave_number;
  return gap < 1.0 ? gap : 1.0;
}

// Half a sweep of successive over-relaxation; returns the largest change.
template <class T>
T over_relax_colour(const Grid& g, const T* b, const T* inverse, int64_t colour, T omega, T* x) {
  Vector<T> most{};
  for (int64_t y = 0; y < g.h; ++y) {
    const T* b_row = row_of_colour(g, y, colour, b);
    const T* inverse_row = row_of_colour(g, y, colour, inverse);
    T* own = row_of_colour(g, y, colour, x);
    for_each_sum(g, y, colour, x, [&](int64_t k, Vector<T> sum) {
      const Vector<T> before = load(own + k);
      const Vector<T> change =
          omega * (relaxed(load(b_row + k), sum, load(inverse_row + k)) - before);
      store(own + k, before + change);
      most = larger_size<T>(most, change);
    });
  }
  return largest_lane<T>(most);
}

// What is left of a change c in all later sweeps, each leaving the factor 1 - gap, is c / gap at
// most; twice that, since the gap is an estimate.
template <class T>
struct Stop {
  double per_change, tol, rtol;
  double first = 0.0;

  bool operator()(int64_t sweep, T change) {
    const double left = static_cast<double>(change) * per_change;
    if (sweep == 0) first = left;
    const double relative = rtol * first;
    return left <= (tol > relative ? tol : relative);
  }
};

template <class T>
Outcome solve_sor(const Workspace<T>& s, double tol, double rtol, int64_t max_iterations) {
  const double gap = slowest_gap(s);
  const double omega = 2.0 / (1.0 + std::sqrt(gap * (2.0 - gap)));  // gap (2 - gap) = 1 - mu^2
  Stop<T> stop = {2.0 / (2.0 - omega), tol, rtol};
  for (int64_t sweep = 0; sweep < max_iterations; ++sweep) {
    T change{0};
    for (int64_t colour = 0; colour < 2; ++colour) {
      const T most =
          over_relax_colour(s.grid(), s.b, s.mask.inverse[0], colour, static_cast<T>(omega), s.x);
      change = most > change ? most : change;
    }
    if (stop(sweep, change)) return {true, sweep + 1};
  }
  return {false, max_iterations};
}

template <class T>
Outcome solve_jacobi(const Workspace<T>& s, double tol, double rtol, int64_t max_iterations) {
  const double damping = 0.8;
  const Grid& g = s.grid();
  Stop<T> stop = {2.0 / (damping * slowest_gap(s)), tol, rtol};
  for (int64_t sweep = 0; sweep < max_iterations; ++sweep) {
    apply_laplacian(g, s.mask.degree, s.x, s.q);
    Vector<T> most{};
    for_each_vector<T>(g.size(), [&](int64_t k) {
      const Vector<T> residual = load(s.b + k) - load(s.q + k);
      const Vector<T> step = static_cast<T>(damping) * residual * load(s.mask.inverse[0] + k);
      store(s.x + k, load(s.x + k) + step);
      most = larger_size<T>(most, step);
    });
    const T change = largest_lane<T>(most);
    if (stop(sweep, change)) return {true, sweep + 1};
  }
  return {false, max_iterations};
}

}  // namespace ssad::SSAD_LEVEL
