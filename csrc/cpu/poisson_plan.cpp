// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <new>

#include "kernels.h"
#include "poisson_grid.h"
#include "ssad/parallel.h"
#include "ssad/poisson.h"

namespace ssad {
namespace {

// About what a pixel of a channel costs: iterations x time of one. Few are needed by multigrid; the
// other two need about as many as a side has pixels, or the square of that.
double nanoseconds_per_pixel(const PoissonProblem& problem) {
  const auto side = static_cast<double>(problem.h < problem.w ? problem.h : problem.w);
  switch (problem.options.solver) {
    case kMultigrid: return 20.0;
    case kSor: return 1.0 * side;
    default: return 1.0 * side * side;
  }
}

}  // namespace

bool poisson_solve(const PoissonProblem& problem, int64_t threads) {
  const auto values = static_cast<double>(problem.n * problem.c * problem.h * problem.w);
  const int64_t wanted = threads < problem.n ? threads : problem.n;
  const int64_t used = useful_threads(wanted, values * nanoseconds_per_pixel(problem));
  PoissonScratch scratch;
  scratch.bytes = SSAD_LEVEL::workspace_size(problem.h, problem.w) * element_size(problem.dtype);
  scratch.bytes = (scratch.bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
  std::unique_ptr<char[]> memory(new (std::nothrow) char[used * scratch.bytes + kCacheLine]);
  if (!memory) return false;
  scratch.memory =
      memory.get() + kCacheLine - reinterpret_cast<uintptr_t>(memory.get()) % kCacheLine;
  kernels().poisson_solve(problem, scratch, used);
  return true;
}

}  // namespace ssad
