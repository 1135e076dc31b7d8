// SPDX-License-Identifier: Apache-2.0
// Compiled once, without contraction of multiply-adds: what is decided here must come out the same
// on every instruction set and device.
#include <memory>
#include <new>

#include "blend_layout.h"
#include "kernels.h"
#include "ssad/blend.h"
#include "ssad/blend_plan.h"
#include "ssad/parallel.h"

namespace ssad {
namespace {

// About what a pixel of a channel costs.
double nanoseconds_per_pixel(PoissonSolver solver) {
  switch (solver) {
    case kSine: return 3.0;
    case kMultigrid: return 20.0;
    default: return 500.0;
  }
}

}  // namespace

Status plan_patch(const BlendProblem& problem, int64_t i, BlendPlan* plan) {
  return SSAD_LEVEL::plan_patch_of(problem, i, plan);
}

bool poisson_blend(const BlendProblem& problem, int64_t threads) {
  const int64_t n = problem.target.n;
  std::unique_ptr<BlendPlan[]> plans(new (std::nothrow) BlendPlan[n]);
  if (!plans) return false;
  BlendScratch scratch = {nullptr, 0, 0};
  double work = 0.0;
  for (int64_t i = 0; i < n; ++i) {
    BlendPlan& plan = plans[i];
    plan.status = plan_patch(problem, i, &plan);
    if (!is_active(plan)) continue;
    const int64_t sine = SSAD_LEVEL::sine_bytes(problem, plan);
    const int64_t rest = SSAD_LEVEL::layout_bytes(problem, plan);
    scratch.sine_bytes = sine > scratch.sine_bytes ? sine : scratch.sine_bytes;
    scratch.bytes = rest > scratch.bytes ? rest : scratch.bytes;
    work += static_cast<double>(problem.target.c * plan.h * plan.w);
  }
  scratch.bytes += scratch.sine_bytes;
  const int64_t wanted = threads < n ? threads : n;
  const int64_t used = useful_threads(wanted, work * nanoseconds_per_pixel(problem.options.solver));
  std::unique_ptr<char[]> memory(new (std::nothrow) char[used * scratch.bytes + kCacheLine]);
  if (!memory) return false;
  scratch.memory = SSAD_LEVEL::align(memory.get());
  kernels().poisson_blend(problem, plans.get(), scratch, used);
  return true;
}

}  // namespace ssad
