// SPDX-License-Identifier: Apache-2.0
// A thread takes a sample: it builds the hierarchy of its mask once, in scratch memory of its own,
// and solves channel after channel. Without a mask it may solve directly.
#include <cstdint>
#include <cstring>

#include "families.h"
#include "poisson_iterate.h"
#include "poisson_plane.h"
#include "poisson_rectangle.h"
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
  const bool* mask = problem.mask != nullptr ? problem.mask + i * pixels : job.scratch.ring;
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

template <class T>
void solve_sample_directly(void* context, int64_t worker, int64_t i) {
  const Job& job = *static_cast<const Job*>(context);
  const PoissonProblem& problem = job.problem;
  const int64_t h = problem.h, w = problem.w, pixels = h * w;
  const bool is_turned = w > h;
  char* scratch = job.scratch.memory + worker * job.scratch.bytes;
  Sine<T>* s = sine_of<T>(scratch);
  if (has_inside(h, w)) {
    prepare_sine(s, (is_turned ? w : h) - 2, (is_turned ? h : w) - 2, scratch + kSineHeader);
  }
  for (int64_t c = i * problem.c; c < (i + 1) * problem.c; ++c) {
    const Image<T> image = {h, w, static_cast<const T*>(problem.rhs) + c * pixels,
                            static_cast<const T*>(problem.boundary) + c * pixels,
                            static_cast<T*>(problem.solution) + c * pixels};
    std::memcpy(image.solution, image.boundary, static_cast<size_t>(pixels) * sizeof(T));
    T* residual = static_cast<T*>(problem.residual) + c;
    problem.status[c] = kApplied;
    problem.iterations[c] = 0;
    *residual = T{0};
    if (!has_inside(h, w)) continue;
    if (is_turned ? solve_rectangle<true>(*s, image) : solve_rectangle<false>(*s, image)) {
      *residual = rectangle_residual(image);
    } else {
      fill_rectangle(image, not_a_number<T>());
      problem.status[c] = kNotFinite;
      *residual = not_a_number<T>();
    }
  }
}

template <class T>
void solve_batch(Job* job, int64_t threads) {
  const bool is_direct = job->problem.options.solver == kSine;
  if (is_direct) forget_tables<T>(job->scratch.memory, job->scratch.bytes, threads);
  parallel_for(job->problem.n, threads, is_direct ? solve_sample_directly<T> : solve_sample<T>,
               job);
}

}  // namespace

void poisson_solve(const PoissonProblem& problem, const PoissonScratch& scratch, int64_t threads) {
  Job job = {problem, scratch};
  problem.dtype == Dtype::kFloat64 ? solve_batch<double>(&job, threads)
                                   : solve_batch<float>(&job, threads);
}

}  // namespace ssad::SSAD_LEVEL
