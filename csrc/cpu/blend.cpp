// SPDX-License-Identifier: Apache-2.0
// A thread takes a sample: it reads the mask, and then for each channel the right-hand side, solves
// it, and in the end, if all went well, writes the blend.
#include <cmath>
#include <cstdint>

#include "blend_guidance.h"
#include "blend_mask.h"
#include "blend_opencv.h"
#include "families.h"
#include "poisson_iterate.h"
#include "rows.h"
#include "ssad/parallel.h"

namespace ssad::SSAD_LEVEL {
namespace {

struct Job {
  const BlendProblem& problem;
  const BlendPlan* plans;
  const BlendScratch& scratch;
};

// Sets the plane of b outside of the unknowns to zero; returns whether it is finite.
template <class P>
bool restrict_to_unknowns(const Blend<P>& blend, int64_t c) {
  using T = typename P::Compute;
  const Range& u = blend.unknowns;
  bool is_finite = true;
  for (int64_t y = u.y0; y < u.y1; ++y) {
    T* b = blend.row(c, y) + u.x0;
    if (!blend.is_rectangle) keep_where(blend.inside_bytes(y) + u.x0, u.w(), b);
    if (!Blend<P>::kIsUInt8) is_finite &= all_finite(b, u.w());
  }
  return is_finite;
}

// The unknowns of the base itself: where no edge has weight, b does not see them.
template <class P>
bool is_base_finite(const Blend<P>& blend, int64_t c, bool from_source) {
  using T = typename P::Compute;
  if (Blend<P>::kIsUInt8) return true;
  const Range& u = blend.unknowns;
  T* line = blend.rows.memory.line[0];
  bool is_finite = true;
  for (int64_t y = u.y0; y < u.y1; ++y) {
    if (from_source) {
      blend.rows.source_row(c, y, u.x0, u.w(), line);
    } else {
      blend.rows.target_row(c, y, u.x0, u.w(), line);
    }
    if (!blend.is_rectangle) keep_where(blend.inside_bytes(y) + u.x0, u.w(), line);
    is_finite &= all_finite(line, u.w());
  }
  return is_finite;
}

// Of mixed gradients one is left out, and which one a NaN leaves out is up to the compiler: none of
// the pixels that take part may be one.
template <class P>
bool is_mixture_finite(const Blend<P>& blend, int64_t c) {
  using T = typename P::Compute;
  if (Blend<P>::kIsUInt8 || blend.gradient != kMixedGradient) return true;
  const Range &r = blend.window, &u = blend.unknowns;
  const int64_t stride = blend.rows.plan.w;
  const auto is_unknown = [&](int64_t y, int64_t x) {
    const bool is_within = y >= u.y0 && y < u.y1 && x >= u.x0 && x < u.x1;
    return is_within && (blend.is_rectangle || blend.inside(y)[x]);
  };
  const auto has_weight = [&](int64_t y, int64_t x) {
    if (blend.rows.memory.weight == nullptr) return true;
    const bool is_within = y >= r.y0 && y < r.y1 && x >= r.x0 && x < r.x1;
    return is_within && blend.rows.memory.weight[y * stride + x] > T{0};
  };
  const auto any = [](const auto& is, int64_t y, int64_t x) {
    return is(y, x) || is(y - 1, x) || is(y + 1, x) || is(y, x - 1) || is(y, x + 1);
  };
  T *source = blend.rows.memory.line[0], *target = blend.rows.memory.line[1];
  for (int64_t y = r.y0; y < r.y1; ++y) {
    blend.rows.source_row(c, y, r.x0, r.w(), source);
    blend.rows.target_row(c, y, r.x0, r.w(), target);
    if (all_finite(source, r.w()) && all_finite(target, r.w())) continue;
    for (int64_t i = 0; i < r.w(); ++i) {
      if (all_finite(source + i, 1) && all_finite(target + i, 1)) continue;
      if (any(is_unknown, y, r.x0 + i) && any(has_weight, y, r.x0 + i)) return false;
    }
  }
  return true;
}

// From b to e, in place.
template <class P>
bool solve_iteratively(const Blend<P>& blend, const Workspace<typename P::Compute>& s, int64_t c) {
  using T = typename P::Compute;
  const Box& box = s.box;
  T* plane = blend.row(c, 0) + box.start;
  T* line = s.mask.line[0];
  for (int64_t y = 0; y < box.h; ++y) {
    gather_row(plane + y * box.step_y, box.step_x, line, box.w);
    split_row(s.grid(), y, line, s.b);
  }
  if (box.is_full) remove_mean(s, s.b);
  PoissonOptions options = blend.rows.problem.options;
  if (options.solver == kSine) options.solver = kMultigrid;
  const Outcome outcome = solve(s, options);
  if (box.is_full) remove_mean(s, s.x);
  const auto unscale = static_cast<T>(1.0 / outcome.scale);
  for (int64_t y = 0; y < box.h; ++y) {
    join_row(s.grid(), y, s.x, line);
    for (int64_t x = 0; x < box.w; ++x) line[x] *= unscale;
    scatter_row(line, plane + y * box.step_y, box.step_x, box.w);
  }
  return outcome.is_converged;
}

// The same for a rectangle, turned so that it is at least as high as wide.
template <class P>
void solve_directly(const Blend<P>& blend, const Sine<typename P::Compute>& sine, int64_t c,
                    bool frame_only) {
  using T = typename P::Compute;
  const Range& u = blend.unknowns;
  const int64_t stride = blend.rows.plan.w;
  T* plane = blend.row(c, u.y0) + u.x0;
  const bool is_turned = u.w() > u.h();
  const int64_t step_y = is_turned ? 1 : stride, step_x = is_turned ? stride : 1;
  for (int64_t y = 0; y < sine.h; ++y) gather_row(plane + y * step_y, step_x, sine.row(y), sine.w);
  solve_sine(sine, frame_only);
  for (int64_t y = 0; y < sine.h; ++y) scatter_row(sine.row(y), plane + y * step_y, step_x, sine.w);
}

// Adds what was solved for to its base, and writes the unknowns.
template <class P>
void composite(const Blend<P>& blend, int64_t c, bool from_source) {
  using T = typename P::Compute;
  using Stored = typename P::Stored;
  const bool is_opencv = blend.rows.problem.region == BlendRegion::kOpenCv;
  const Range& u = blend.unknowns;
  const int64_t count = u.w();
  T* __restrict__ base = blend.rows.memory.line[0];
  for (int64_t y = u.y0; y < u.y1; ++y) {
    if (from_source) {
      blend.rows.source_row(c, y, u.x0, count, base);
    } else {
      blend.rows.target_row(c, y, u.x0, count, base);
    }
    const T* __restrict__ e = blend.row(c, y) + u.x0;
    for (int64_t x = 0; x < count; ++x) {
      T value = base[x] + e[x];
      if constexpr (Blend<P>::kIsUInt8) {
        if (is_opencv) value = std::floor(value);
        value = value < T{0} ? T{0} : value > P::kBound ? P::kBound : value;
      }
      base[x] = value;
    }
    Stored* __restrict__ to = blend.rows.target_pixel(c, y, u.x0);
    const int64_t step = blend.rows.problem.target.stride_x;
    const uint8_t* __restrict__ inside = blend.inside_bytes(y) + u.x0;
    const auto write = [=](int64_t step_x) {
      for_bytes(count, [=](int64_t x) {
        const Stored before = to[x * step_x], after = P::store(base[x]);
        to[x * step_x] = inside[x] != 0 ? after : before;
      });
    };
    step == 1 ? write(1) : step == 3 ? write(3) : write(step);
  }
}

// Where b comes from.
enum class Guidance { kFrame, kMembrane, kEdges, kWeightedEdges, kOpenCv };

bool has_source_base(Guidance guidance) {
  return guidance == Guidance::kFrame || guidance == Guidance::kMembrane;
}

template <class P>
Guidance choose_guidance(const Blend<P>& blend, bool is_full) {
  const BlendProblem& problem = blend.rows.problem;
  if (problem.region == BlendRegion::kOpenCv) return Guidance::kOpenCv;
  const bool is_masked = problem.mask_kind != MaskKind::kNone;
  const bool is_one = !is_masked || (blend.is_hard && problem.region == BlendRegion::kMask);
  if (!is_one) return Guidance::kWeightedEdges;
  const bool is_source = blend.gradient == kSourceGradient || blend.gradient == kMonochromeGradient;
  if (!is_source || is_full) return Guidance::kEdges;
  const bool has_frame = problem.region == BlendRegion::kRect || !is_natural(blend.rows.plan);
  return has_frame && !is_masked ? Guidance::kFrame : Guidance::kMembrane;
}

// Fills b; returns whether all that the blend depends on is finite.
template <class P>
bool fill(const Blend<P>& blend, int64_t c, Guidance guidance) {
  switch (guidance) {
    case Guidance::kFrame: fill_frame(blend, c); break;
    case Guidance::kMembrane: fill_membrane(blend, c); break;
    case Guidance::kEdges: fill_by_gradient<false>(blend, c); break;
    case Guidance::kWeightedEdges: fill_by_gradient<true>(blend, c); break;
    case Guidance::kOpenCv: fill_opencv(blend, c); break;
  }
  return restrict_to_unknowns(blend, c) && is_mixture_finite(blend, c) &&
         is_base_finite(blend, c, has_source_base(guidance));
}

template <class P>
void set_inside(const Blend<P>& blend, const Range& range) {
  const BlendPlan& plan = blend.rows.plan;
  std::memset(blend.inside(0), 0, static_cast<size_t>(plan.h * plan.w));
  for (int64_t y = range.y0; y < range.y1; ++y) {
    std::memset(blend.inside(y) + range.x0, 1, static_cast<size_t>(range.w()));
  }
}

// Returns kApplied, or why the sample has to be left alone.
template <class P>
Status blend_sample(Blend<P>* blend, char* sine_scratch) {
  using T = typename P::Compute;
  const BlendProblem& problem = blend->rows.problem;
  const BlendPlan& plan = blend->rows.plan;
  const Status found = find_unknowns(blend);
  if (found != kApplied) return found;
  if (!all_finite(&blend->rows.gain, 1) || !all_finite(&blend->target_gain, 1)) return kNotFinite;
  plan_columns(plan, blend->rows.memory);
  if (problem.region == BlendRegion::kOpenCv) erode_mask(*blend);

  const Range& u = blend->unknowns;
  const bool is_direct = uses_sine(problem, plan);
  Sine<T>* sine = sine_of<T>(sine_scratch);
  Workspace<T> s;
  if (is_direct) {
    const bool is_turned = u.w() > u.h();
    prepare_sine(sine, is_turned ? u.w() : u.h(), is_turned ? u.h() : u.w(),
                 sine_scratch + kSineHeader);
  } else {
    if (blend->is_rectangle) set_inside(*blend, u);
    const Domain domain = {blend->inside(0), plan.h,    plan.w,    plan.top,
                           plan.bottom,      plan.left, plan.right};
    prepare(&s, domain, blend->rows.memory.workspace);
  }
  const Guidance guidance = choose_guidance(*blend, !is_direct && s.box.is_full);
  for (int64_t c = 0; c < problem.target.c; ++c) {
    if (!fill(*blend, c, guidance)) return kNotFinite;
    if (is_direct) {
      solve_directly(*blend, *sine, c, guidance == Guidance::kFrame);
    } else if (!solve_iteratively(*blend, s, c)) {
      return kNotConverged;
    }
    if (!Blend<P>::kIsUInt8 && !restrict_to_unknowns(*blend, c)) return kNotFinite;  // overflow
  }
  if (blend->is_rectangle) set_inside(*blend, u);  // whatever the mask was
  for (int64_t c = 0; c < problem.target.c; ++c) {
    composite(*blend, c, has_source_base(guidance));
  }
  return kApplied;
}

template <class P>
void run_sample(void* context, int64_t worker, int64_t i) {
  using T = typename P::Compute;
  const Job& job = *static_cast<const Job*>(context);
  const BlendProblem& problem = job.problem;
  const BlendPlan& plan = job.plans[i];
  problem.status[i] = plan.status;
  if (!is_active(plan)) return;
  char* memory = job.scratch.memory + worker * job.scratch.bytes;
  Arena arena = {memory + job.scratch.sine_bytes};
  const BlendParams& params = problem.params;
  const auto gain = [i](const double* gains) {
    return gains == nullptr ? T{1} : static_cast<T>(gains[i]);
  };
  Blend<P> blend = {{problem, plan, i, lay_out<T>(problem, plan, &arena), gain(params.source_gain),
                     gradient_of(params, i) == kMonochromeGradient},
                    gradient_of(params, i),
                    gain(params.target_gain),
                    {},
                    {},
                    false,
                    false};
  const Status status = blend_sample(&blend, memory);
  if (status != kApplied) problem.status[i] = status;
}

template <class P>
void run(Job* job, int64_t threads) {
  const BlendScratch& scratch = job->scratch;
  if (scratch.sine_bytes > 0) {
    forget_tables<typename P::Compute>(scratch.memory, scratch.bytes, threads);
  }
  parallel_for(job->problem.target.n, threads, run_sample<P>, job);
}

}  // namespace

void poisson_blend(const BlendProblem& problem, const BlendPlan* plans, const BlendScratch& scratch,
                   int64_t threads) {
  Job job = {problem, plans, scratch};
  switch (problem.target.dtype) {
    case Dtype::kUInt8: return run<UInt8Wide>(&job, threads);
    case Dtype::kFloat16: return run<Float16>(&job, threads);
    case Dtype::kBFloat16: return run<BFloat16>(&job, threads);
    case Dtype::kFloat32: return run<Float32>(&job, threads);
    case Dtype::kFloat64: return run<Float64>(&job, threads);
  }
}

}  // namespace ssad::SSAD_LEVEL
