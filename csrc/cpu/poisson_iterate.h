// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstring>

#include "poisson_relax.h"

namespace ssad::SSAD_LEVEL {

// What the cycle made of the residual.
struct Correction {
  double largest;  // of z
  double product;  // z . r
};

// Sums up the rows of z as they come.
template <class T>
struct CorrectionSum {
  const Workspace<T>& s;
  Vector<T> most{};
  RowSum<T> product{};

  SSAD_INLINE void operator()(const Grid& g, int64_t y) {
    const T* r = s.r() + g.row(y);
    const T* z = s.z() + g.row(y);
    for_each_vector<T>(g.both(), [&](int64_t k) {
      most = larger_size<T>(most, load(z + k));
      product.part += load(r + k) * load(z + k);
    });
    product.end_row(g, y);
  }

  Correction result() { return {static_cast<double>(largest_lane<T>(most)), product.result()}; }
};

// r -= alpha q in row y
template <class T>
SSAD_INLINE void step_residual(const Workspace<T>& s, const Grid& g, T alpha, int64_t y) {
  T* r = s.r();
  const T* q = s.q;
  const int64_t row = g.row(y);
  for_each_vector<T>(g.both(), [=](int64_t k) {
    store(r + row + k, load(r + row + k) - alpha * load(q + row + k));
  });
}

// r -= alpha q, then z = M r.
template <class T>
Correction precondition(const Workspace<T>& s, T alpha) {
  CorrectionSum<T> sum{s};
  const auto step = [&](const Grid& g, int64_t y) { step_residual(s, g, alpha, y); };
  if (!s.box.is_full) {
    v_cycle(s.mask, step, [&](const Grid& g, int64_t y) { sum(g, y); });
  } else {
    const auto nothing = [](const Grid&, int64_t) {};
    for (int64_t y = 0; y < s.grid().h; ++y) step(s.grid(), y);
    remove_mean(s, s.r());
    v_cycle(s.mask, nothing, nothing);
    remove_mean(s, s.z());
    for (int64_t y = 0; y < s.grid().h; ++y) sum(s.grid(), y);
  }
  return sum.result();
}

// x += alpha p in row y, and after that p = z + beta p.
template <class T>
SSAD_INLINE void turn_direction(const Workspace<T>& s, const Grid& g, T alpha, T beta, int64_t y) {
  T* x = s.x;
  T* p = s.p;
  const T* z = s.z();
  const int64_t row = g.row(y);
  for_each_vector<T>(g.both(), [=](int64_t k) {
    const int64_t at = row + k;
    const Vector<T> direction = load(p + at);
    store(x + at, load(x + at) + alpha * direction);
    store(p + at, load(z + at) + beta * direction);
  });
}

// The same for all rows, and q = A p; returns p . q.
template <int kVectors, class T>
double advance(const Workspace<T>& s, T alpha, T beta) {
  const Grid g = with_span<kVectors>(s.grid());
  RowSum<T> curvature;
  for (int64_t y = 0; y <= g.h; ++y) {
    if (y < g.h) turn_direction(s, g, alpha, beta, y);
    if (y > 0) apply_row(g, y - 1, s.mask.degree, s.p, s.q, &curvature);
  }
  return curvature.result();
}

// Conjugate gradients, preconditioned by a V-cycle. x follows a step behind: it is due when p is
// read next.
template <class T>
Outcome solve_multigrid(const Workspace<T>& s, double tol, double rtol, int64_t max_iterations) {
  const Grid& g = s.grid();
  std::memcpy(s.r(), s.b, static_cast<size_t>(g.size()) * sizeof(T));
  std::memset(s.p, 0, static_cast<size_t>(g.size()) * sizeof(T));
  std::memset(s.q, 0, static_cast<size_t>(g.size()) * sizeof(T));
  double rz_before = 1.0, limit = tol;
  T alpha{0};
  const auto finish = [&](bool is_converged, int64_t iteration) {
    for (int64_t y = 0; y < g.h; ++y) turn_direction(s, g, alpha, T{0}, y);
    return Outcome{is_converged, iteration};
  };
  for (int64_t iteration = 0;; ++iteration) {
    const Correction correction = precondition(s, alpha);
    if (iteration == 0 && rtol * correction.largest > limit) limit = rtol * correction.largest;
    if (correction.largest <= limit) return finish(true, iteration);
    if (iteration == max_iterations) return finish(false, iteration);
    const T beta = static_cast<T>(iteration == 0 ? 0.0 : correction.product / rz_before);
    rz_before = correction.product;
    double curvature = 0.0;
    for_span(g, [&](auto vectors) { curvature = advance<vectors>(s, alpha, beta); });
    alpha = T{0};
    if (!(curvature > 0.0)) return finish(false, iteration);
    alpha = static_cast<T>(correction.product / curvature);
  }
}

template <class T>
T largest_residual(const Workspace<T>& s) {
  const Grid& g = s.grid();
  Vector<T> most{};
  for (int64_t y = 0; y < g.h; ++y) {
    laplacian_row(g, y, s.mask.degree, s.x, [&](int64_t at, Vector<T> value) {
      most = larger_size<T>(most, value - load(s.b + at));
    });
  }
  return largest_lane<T>(most);
}

// A power of two near 1 / the largest |b|: as a factor it rounds nothing, and it keeps the squares
// in sums from overflowing and gradients from getting lost.
template <class T>
double scale_of(const Workspace<T>& s) {
  int exponent = 0;
  std::frexp(static_cast<double>(largest(s.grid(), s.b)), &exponent);
  const int limit = sizeof(T) == 4 ? 120 : 1000;
  exponent = exponent > limit ? limit : exponent < -limit ? -limit : exponent;
  return std::ldexp(1.0, -exponent);
}

// Solves A x = b for a plane whose b is filled in. Both are scaled by the outcome's factor.
template <class T>
Outcome solve(const Workspace<T>& s, const PoissonOptions& options) {
  const Grid& g = s.grid();
  const double scale = scale_of(s);
  for_each_vector<T>(g.size(),
                     [&](int64_t k) { store(s.b + k, load(s.b + k) * static_cast<T>(scale)); });
  std::memset(s.x, 0, static_cast<size_t>(g.size()) * sizeof(T));
  const auto iterate = options.solver == kMultigrid ? solve_multigrid<T>
                       : options.solver == kSor     ? solve_sor<T>
                                                    : solve_jacobi<T>;
  Outcome outcome = iterate(s, options.tol * scale, options.rtol, options.max_iterations);
  outcome.scale = scale;
  return outcome;
}

}  // namespace ssad::SSAD_LEVEL
