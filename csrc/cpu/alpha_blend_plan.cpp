// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <new>

#include "alpha_layout.h"
#include "kernels.h"
#include "ssad/blend.h"
#include "ssad/parallel.h"

namespace ssad {

bool alpha_blend(const AlphaBlendProblem& problem, int64_t threads) {
  constexpr double kNanosecondsPerPixel = 0.5;
  const BlendProblem& patches = problem.patches;
  const int64_t n = patches.target.n;
  std::unique_ptr<BlendPlan[]> plans(new (std::nothrow) BlendPlan[n]);
  if (!plans) return false;
  BlendScratch scratch = {nullptr, 0, 0};
  double work = 0.0;
  for (int64_t i = 0; i < n; ++i) {
    BlendPlan& plan = plans[i];
    plan.status = plan_patch(patches, i, &plan);
    if (!is_active(plan)) continue;
    const int64_t bytes = SSAD_LEVEL::alpha_layout_bytes(patches, plan);
    scratch.bytes = bytes > scratch.bytes ? bytes : scratch.bytes;
    work += static_cast<double>(patches.target.c * plan.h * plan.w);
  }
  const int64_t used = useful_threads(threads < n ? threads : n, work * kNanosecondsPerPixel);
  std::unique_ptr<char[]> memory(new (std::nothrow) char[used * scratch.bytes + kCacheLine]);
  if (!memory) return false;
  scratch.memory = SSAD_LEVEL::align(memory.get());
  kernels().alpha_blend(problem, plans.get(), scratch, used);
  return true;
}

}  // namespace ssad
