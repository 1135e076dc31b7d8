// SPDX-License-Identifier: Apache-2.0
// Compiled once, without contraction of multiply-adds: what is decided here must come out the same
// on every instruction set and device.
#include <memory>
#include <new>

#include "blend_layout.h"
#include "kernels.h"
#include "ssad/blend.h"
#include "ssad/parallel.h"

namespace ssad {
namespace {

// Larger coordinates cannot mean a place in an image.
constexpr int64_t kFar = int64_t{1} << 24;

bool is_near(int64_t x) { return -kFar < x && x < kFar; }

// Cuts [start, start + size) to [0, limit): how much is left, and how much was cut off in front.
int64_t clip(int64_t start, int64_t size, int64_t limit, int64_t* skipped) {
  *skipped = start < 0 ? -start : 0;
  const int64_t end = start + size < limit ? start + size : limit;
  return end - (start + *skipped);
}

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
  const BlendParams& params = problem.params;
  const ImageView& source = problem.source;
  const int64_t gradient = gradient_of(params, i);
  if (gradient < 0 || gradient >= kGradients) return kGated;
  if (problem.region == BlendRegion::kOpenCv && gradient == kAverageGradient) return kGated;

  const int64_t* box = params.source_box == nullptr ? nullptr : params.source_box + 4 * i;
  int64_t size[2] = {source.h, source.w};
  if (box != nullptr) size[0] = box[2], size[1] = box[3];
  if (params.sizes != nullptr) size[0] = params.sizes[2 * i], size[1] = params.sizes[2 * i + 1];
  if (size[0] < 1 || size[1] < 1) return kEmpty;
  if (box != nullptr && (box[2] < 1 || box[3] < 1)) return kEmpty;

  plan->index = params.source_index == nullptr ? i : params.source_index[i];
  if (plan->index < 0 || plan->index >= source.n) return kNoPlace;
  const bool has_mask = problem.mask_kind != MaskKind::kNone;
  if (has_mask && (size[0] > problem.mask_h || size[1] > problem.mask_w)) return kNoPlace;
  if (!is_near(size[0]) || !is_near(size[1])) return kNoPlace;
  plan->box_y = plan->box_x = 0;
  plan->box_h = size[0], plan->box_w = size[1];
  if (box != nullptr) {
    plan->box_y = box[0], plan->box_x = box[1], plan->box_h = box[2], plan->box_w = box[3];
    for (int k = 0; k < 4; ++k) {
      if (!is_near(box[k])) return kNoPlace;
    }
  }
  const bool fits = plan->box_y >= 0 && plan->box_y + plan->box_h <= source.h && plan->box_x >= 0 &&
                    plan->box_x + plan->box_w <= source.w;
  if (!fits) return kNoPlace;
  plan->patch_h = size[0], plan->patch_w = size[1];

  const int64_t y = params.top_left[2 * i], x = params.top_left[2 * i + 1];
  if (!is_near(y) || !is_near(x)) return kNoPlace;
  plan->h = clip(y, size[0], problem.target.h, &plan->skip_y);
  plan->w = clip(x, size[1], problem.target.w, &plan->skip_x);
  if (plan->h <= 0 || plan->w <= 0) return kNoPlace;
  plan->y = y + plan->skip_y, plan->x = x + plan->skip_x;
  plan->top = plan->y == 0, plan->bottom = plan->y + plan->h == problem.target.h;
  plan->left = plan->x == 0, plan->right = plan->x + plan->w == problem.target.w;
  return plan->h == size[0] && plan->w == size[1] ? kApplied : kClipped;
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
