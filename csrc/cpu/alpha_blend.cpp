// SPDX-License-Identifier: Apache-2.0
// A thread takes a sample, row by row. Where the weight is 0 or 1 nothing is computed: the target's
// bits stay, or the source's take their place, whatever the other image holds.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "alpha_layout.h"
#include "blend_mask.h"
#include "blend_rows.h"
#include "families.h"
#include "rows.h"
#include "ssad/parallel.h"

namespace ssad::SSAD_LEVEL {
namespace {

struct Job {
  const AlphaBlendProblem& problem;
  const BlendPlan* plans;
  const BlendScratch& scratch;
};

template <class P>
struct AlphaBlend {
  using T = typename P::Compute;

  BlendRows<P> rows;
  AlphaMemory<T> memory;
  T alpha;
};

// mask_value, in the precision of the images.
template <class T, class M>
T weight_of(M value) {
  if constexpr (std::is_same_v<M, uint8_t>) {
    return static_cast<T>(value) / T{255};
  } else {
    return static_cast<T>(mask_value(value));
  }
}

// Calls body(typed pointer to the first value of the sample's mask that its patch uses).
template <class Body>
auto with_mask(const BlendProblem& problem, const BlendPlan& plan, int64_t sample, Body body) {
  const int64_t first = (sample * problem.mask_h + plan.skip_y) * problem.mask_w + plan.skip_x;
  switch (problem.mask_kind) {
    case MaskKind::kBool: return body(static_cast<const BoolByte*>(problem.mask) + first);
    case MaskKind::kUInt8: return body(static_cast<const uint8_t*>(problem.mask) + first);
    default: return body(static_cast<const float*>(problem.mask) + first);
  }
}

Status check_mask(const BlendProblem& problem, const BlendPlan& plan, int64_t sample) {
  if (problem.mask_kind == MaskKind::kNone) return kApplied;
  return with_mask(problem, plan, sample, [&](const auto* mask) {
    bool is_set = false, has_numbers = true;
    for (int64_t y = 0; y < plan.h; ++y, mask += problem.mask_w) {
      for (int64_t x = 0; x < plan.w; ++x) {
        is_set |= mask_value(mask[x]) > 0.0f;
        has_numbers &= is_number(mask[x]);
      }
    }
    return !is_set ? kEmpty : has_numbers ? kApplied : kNotFinite;
  });
}

template <class P>
void weigh_row(const AlphaBlend<P>& blend, int64_t y) {
  using T = typename P::Compute;
  const BlendProblem& problem = blend.rows.problem;
  const BlendPlan& plan = blend.rows.plan;
  if (problem.mask_kind == MaskKind::kNone) return;
  with_mask(problem, plan, blend.rows.sample, [&](const auto* mask) {
    const auto* __restrict__ from = mask + y * problem.mask_w;
    T* __restrict__ weight = blend.memory.weight;
    for (int64_t x = 0; x < plan.w; ++x) weight[x] = blend.alpha * weight_of<T>(from[x]);
  });
}

// Without a detour through lines of numbers. Weights of 0 and 1 are exact in whole levels.
bool blend_bytes(const AlphaBlend<UInt8Wide>& blend, int64_t c, int64_t y) {
  const BlendProblem& problem = blend.rows.problem;
  if (is_resized(blend.rows.plan) || problem.source.stride_x != 1 || problem.target.stride_x != 1) {
    return false;
  }
  const float* __restrict__ weight = blend.memory.weight;
  const uint8_t* __restrict__ from = blend.rows.source_pixel(c, y, 0);
  uint8_t* __restrict__ to = blend.rows.target_pixel(c, y, 0);
  // Groups of bytes overlap, and a pixel that is mixed already must not be mixed once more.
  uint8_t* __restrict__ old = reinterpret_cast<uint8_t*>(blend.memory.target);
  std::memcpy(old, to, static_cast<size_t>(blend.rows.plan.w));
  const float half = problem.region == BlendRegion::kOpenCv ? 0.0f : 0.5f;
  for_bytes(blend.rows.plan.w, [=](int64_t x) {
    const auto before = static_cast<float>(old[x]), pasted = static_cast<float>(from[x]);
    to[x] =
        static_cast<uint8_t>(static_cast<int32_t>(before + weight[x] * (pasted - before) + half));
  });
  return true;
}

template <class P>
void blend_row(const AlphaBlend<P>& blend, int64_t c, int64_t y) {
  using T = typename P::Compute;
  using Stored = typename P::Stored;
  if constexpr (std::is_same_v<P, UInt8Wide>) {
    if (blend_bytes(blend, c, y)) return;
  }
  const BlendProblem& problem = blend.rows.problem;
  const int64_t count = blend.rows.plan.w;
  const T* __restrict__ weight = blend.memory.weight;
  T* __restrict__ source = blend.memory.source;
  T* __restrict__ target = blend.memory.target;
  blend.rows.colour_row(c, y, 0, count, source);
  blend.rows.target_row(c, y, 0, count, target);
  for (int64_t x = 0; x < count; ++x) {
    const T mixed = target[x] + weight[x] * (source[x] - target[x]);
    target[x] = weight[x] == T{1} ? source[x] : mixed;
  }
  if (problem.region == BlendRegion::kOpenCv) {
    for (int64_t x = 0; x < count; ++x) target[x] = std::floor(target[x]);
  }
  Stored* __restrict__ to = blend.rows.target_pixel(c, y, 0);
  const auto write = [=](int64_t step_x) {
    for_bytes(count, [=](int64_t x) {
      const Stored before = to[x * step_x], after = P::store(target[x]);
      to[x * step_x] = weight[x] != T{0} ? after : before;
    });
  };
  const int64_t step = problem.target.stride_x;
  step == 1 ? write(1) : step == 3 ? write(3) : write(step);
}

template <class P>
void run_sample(void* context, int64_t worker, int64_t i) {
  using T = typename P::Compute;
  const Job& job = *static_cast<const Job*>(context);
  const BlendProblem& problem = job.problem.patches;
  const BlendPlan& plan = job.plans[i];
  problem.status[i] = plan.status;
  if (!is_active(plan)) return;
  const double alpha = job.problem.alpha == nullptr ? 1.0 : job.problem.alpha[i];
  Status status = check_mask(problem, plan, i);
  if (status == kApplied && !all_finite(&alpha, 1)) status = kNotFinite;
  if (status != kApplied) {
    problem.status[i] = status;
    return;
  }
  Arena arena = {job.scratch.memory + worker * job.scratch.bytes};
  const AlphaMemory<T> memory = lay_out_alpha<T>(plan, &arena);
  const auto clamped = static_cast<T>(alpha < 0.0 ? 0.0 : alpha > 1.0 ? 1.0 : alpha);
  const AlphaBlend<P> blend = {{problem, plan, i, memory.rows, T{1}, false}, memory, clamped};
  plan_columns(plan, memory.rows);
  for (int64_t x = 0; x < plan.w; ++x) memory.weight[x] = clamped;
  for (int64_t y = 0; y < plan.h; ++y) {
    weigh_row(blend, y);
    for (int64_t c = 0; c < problem.target.c; ++c) blend_row(blend, c, y);
  }
}

}  // namespace

void alpha_blend(const AlphaBlendProblem& problem, const BlendPlan* plans,
                 const BlendScratch& scratch, int64_t threads) {
  Job job = {problem, plans, scratch};
  const int64_t n = problem.patches.target.n;
  switch (problem.patches.target.dtype) {
    case Dtype::kUInt8: return parallel_for(n, threads, run_sample<UInt8Wide>, &job);
    case Dtype::kFloat16: return parallel_for(n, threads, run_sample<Float16>, &job);
    case Dtype::kBFloat16: return parallel_for(n, threads, run_sample<BFloat16>, &job);
    case Dtype::kFloat32: return parallel_for(n, threads, run_sample<Float32>, &job);
    case Dtype::kFloat64: return parallel_for(n, threads, run_sample<Float64>, &job);
  }
}

}  // namespace ssad::SSAD_LEVEL
