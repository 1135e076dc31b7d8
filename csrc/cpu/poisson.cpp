// SPDX-License-Identifier: Apache-2.0
// A thread takes a sample: it builds the hierarchy of its mask once, in scratch memory of its own,
// and solves channel after channel.
#include <cstdint>
#include <cstring>

#include "families.h"
#include "poisson_iterate.h"
#include "poisson_plane.h"
#include "ssad/parallel.h"

namespace ssad::SSAD_LEVEL {
namespace {

struct Job {
  const PoissonProblem& problem;
  const PoissonScratch& scratch;
};

template <class T>
Outcome solve_plane(const PoissonProblem& problem, const Workspace<T>& s, const Plane<T>& plane,
                    T offset, T* residual) {
  const Outcome outcome = solve(s, problem.options);
  const auto unscale = static_cast<T>(1.0 / outcome.scale);
  store_plane(s, plane, unscale, offset);
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
  const Domain image = {mask, problem.h, problem.w, true, true, true, true};
  const bool any = prepare(&s, image, memory);
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
    const T offset = typical_value(s, plane);
    if (!load_plane(s, plane, offset)) {
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
