// SPDX-License-Identifier: Apache-2.0
// A thread takes a sample: it builds the hierarchy of its mask once, in scratch memory of its own,
// and solves channel after channel.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "families.h"
#include "poisson_plane.h"
#include "poisson_relax.h"
#include "ssad/parallel.h"

namespace ssad::SSAD_LEVEL {
namespace {

struct Job {
  const PoissonProblem& problem;
  const PoissonScratch& scratch;
};

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

template <class T>
Outcome solve_plane(const PoissonProblem& problem, const Workspace<T>& s, const Plane<T>& plane,
                    T offset, T* residual) {
  const Grid& g = s.grid();
  const double scale = scale_of(s);
  for (int64_t k = 0; k < g.size(); ++k) s.b[k] *= static_cast<T>(scale);
  std::memset(s.x, 0, static_cast<size_t>(g.size()) * sizeof(T));
  const auto solve = problem.solver == kMultigrid ? solve_multigrid<T>
                     : problem.solver == kSor     ? solve_sor<T>
                                                  : solve_jacobi<T>;
  const Outcome outcome = solve(s, problem.tol * scale, problem.rtol, problem.max_iterations);
  const auto unscale = static_cast<T>(1.0 / scale);
  s.box.step_x == 1 ? store_plane<1>(s, plane, unscale, offset)
                    : store_plane<0>(s, plane, unscale, offset);
  *residual = largest_residual(s) * unscale;
  return outcome;
}

template <class T>
void solve_sample(void* context, int64_t worker, int64_t i) {
  const Job& job = *static_cast<const Job*>(context);
  const PoissonProblem& problem = job.problem;
  const int64_t pixels = problem.h * problem.w;
  const bool* mask = problem.mask + i * pixels;
  Workspace<T> s;
  T* memory = reinterpret_cast<T*>(job.scratch.memory + worker * job.scratch.bytes);
  const bool any = prepare(&s, mask, problem.h, problem.w, memory);
  for (int64_t c = i * problem.c; c < (i + 1) * problem.c; ++c) {
    const Plane<T> plane = {static_cast<const T*>(problem.rhs) + c * pixels, mask,
                            static_cast<const T*>(problem.boundary) + c * pixels,
                            static_cast<T*>(problem.solution) + c * pixels};
    std::memcpy(plane.solution, plane.boundary, static_cast<size_t>(pixels) * sizeof(T));
    T* residual = static_cast<T*>(problem.residual) + c;
    problem.status[c] = kApplied;
    problem.iterations[c] = 0;
    *residual = T{0};
    if (!any) continue;
    const bool dense = s.box.step_x == 1;
    const T offset = dense ? typical_value<1>(s, plane) : typical_value<0>(s, plane);
    if (!(dense ? load_plane<1>(s, plane, offset) : load_plane<0>(s, plane, offset))) {
      store_not_a_number(s.box, plane);
      problem.status[c] = kNotFinite;
      *residual = not_a_number<T>();
      continue;
    }
    const Outcome outcome = solve_plane(problem, s, plane, offset, residual);
    problem.status[c] = outcome.is_converged ? kApplied : kNotConverged;
    problem.iterations[c] = static_cast<int32_t>(outcome.iterations);
  }
}

}  // namespace

void poisson_solve(const PoissonProblem& problem, const PoissonScratch& scratch, int64_t threads) {
  Job job = {problem, scratch};
  const bool is_double = problem.dtype == Dtype::kFloat64;
  parallel_for(problem.n, threads, is_double ? solve_sample<double> : solve_sample<float>, &job);
}

}  // namespace ssad::SSAD_LEVEL
