// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstring>

#include "poisson_relax.h"

namespace ssad::SSAD_LEVEL {

// Conjugate gradients, preconditioned by a V-cycle. An iteration ends with a new x.
template <class T>
Outcome solve_multigrid(const Workspace<T>& s, double tol, double rtol, int64_t max_iterations) {
  const Grid& g = s.grid();
  std::memcpy(s.r(), s.b, static_cast<size_t>(g.size()) * sizeof(T));
  std::memset(s.p, 0, static_cast<size_t>(g.size()) * sizeof(T));
  double rz_before = 1.0, limit = tol;
  for (int64_t iteration = 0;; ++iteration) {
    if (s.box.is_full) remove_mean(s, s.r());
    v_cycle(s.mask, 0);
    if (s.box.is_full) remove_mean(s, s.z());
    const auto correction = static_cast<double>(largest(g, s.z()));
    if (iteration == 0 && rtol * correction > limit) limit = rtol * correction;
    if (correction <= limit) return {true, iteration};
    if (iteration == max_iterations) return {false, iteration};
    const double rz = dot(g, s.r(), s.z());
    turn_direction(g, s.z(), static_cast<T>(iteration == 0 ? 0.0 : rz / rz_before), s.p);
    rz_before = rz;
    const double curvature = apply_laplacian(g, s.mask.degree, s.p, s.q);
    if (!(curvature > 0.0)) return {false, iteration};
    step(g, static_cast<T>(rz / curvature), s.p, s.q, s.x, s.r());
  }
}

template <class T>
T largest_residual(const Workspace<T>& s) {
  const Grid& g = s.grid();
  apply_laplacian(g, s.mask.degree, s.x, s.q);
  for (int64_t k = 0; k < g.size(); ++k) s.q[k] -= s.b[k];
  return largest(g, s.q);
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
  for (int64_t k = 0; k < g.size(); ++k) s.b[k] *= static_cast<T>(scale);
  std::memset(s.x, 0, static_cast<size_t>(g.size()) * sizeof(T));
  const auto iterate = options.solver == kMultigrid ? solve_multigrid<T>
                       : options.solver == kSor     ? solve_sor<T>
                                                    : solve_jacobi<T>;
  Outcome outcome = iterate(s, options.tol * scale, options.rtol, options.max_iterations);
  outcome.scale = scale;
  return outcome;
}

}  // namespace ssad::SSAD_LEVEL
