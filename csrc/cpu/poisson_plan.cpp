// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <new>

#include "kernels.h"
#include "poisson_grid.h"
#include "poisson_rectangle.h"
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
    case kSine: return 2.0 + 0.03 * side;
    default: return 1.0 * side * side;
  }
}

int64_t scratch_bytes(const PoissonProblem& problem) {
  const int64_t element = element_size(problem.dtype);
  const int64_t bytes = problem.options.solver == kSine
                            ? SSAD_LEVEL::rectangle_bytes(problem.h, problem.w, element)
                            : SSAD_LEVEL::workspace_size(problem.h, problem.w) * element;
  return SSAD_LEVEL::round_up(bytes, kCacheLine);
}

void fill_ring(int64_t h, int64_t w, bool* mask) {
  for (int64_t y = 0; y < h; ++y) {
    for (int64_t x = 0; x < w; ++x) *mask++ = y > 0 && y < h - 1 && x > 0 && x < w - 1;
  }
}

}  // namespace

bool poisson_solve(const PoissonProblem& problem, int64_t threads) {
  const auto values = static_cast<double>(problem.n * problem.c * problem.h * problem.w);
  const int64_t wanted = threads < problem.n ? threads : problem.n;
  const int64_t used = useful_threads(wanted, values * nanoseconds_per_pixel(problem));
  PoissonScratch scratch;
  scratch.bytes = scratch_bytes(problem);
  const bool has_ring = problem.mask == nullptr && problem.options.solver != kSine;
  const int64_t ring_bytes = has_ring ? problem.h * problem.w : 0;
  const int64_t bytes = used * scratch.bytes + kCacheLine + ring_bytes;
  std::unique_ptr<char[]> memory(new (std::nothrow) char[bytes]);
  if (!memory) return false;
  scratch.memory = SSAD_LEVEL::align(memory.get());
  auto* ring = reinterpret_cast<bool*>(memory.get() + bytes - ring_bytes);
  if (has_ring) fill_ring(problem.h, problem.w, ring);
  scratch.ring = ring;
  kernels().poisson_solve(problem, scratch, used);
  return true;
}

}  // namespace ssad
