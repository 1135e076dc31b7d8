// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ssad/cutpaste.h"
#include "ssad/jitter.h"
#include "ssad/level.h"

namespace ssad::SSAD_LEVEL {

template <class P>
void load_plane(const typename P::Stored* __restrict__ from, typename P::Compute* __restrict__ to,
                int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = P::load(from[i]);
}

template <class P>
void store_plane(const typename P::Compute* __restrict__ from, typename P::Stored* __restrict__ to,
                 int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = P::store(from[i]);
}

// A run of pixels in planes; g and b are unused where the images have no colour.
template <class F>
struct Run {
  F *r, *g, *b;
  int64_t count;
};

// Integers add up exactly, in any order.
template <bool kColour>
double grey_sum(const Run<int16_t>& run) {
  int32_t sum = 0;
  for (int64_t i = 0; i < run.count; ++i) {
    sum += kColour ? grey(run.r[i], run.g[i], run.b[i]) : run.r[i];
  }
  return sum;
}

// A float sum of a few hundred values in 16 lanes: as exact as needed, fast, and with an order that
// does not depend on the instruction set.
template <bool kColour, class F>
double grey_sum(const Run<F>& run) {
  constexpr int kLanes = 16;
  F lanes[kLanes] = {};
  const auto value = [&](int64_t i) {
    return kColour ? grey(run.r[i], run.g[i], run.b[i]) : run.r[i];
  };
  int64_t i = 0;
  for (; i + kLanes <= run.count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += value(i + lane);
  }
  double sum = 0.0;
  for (const F lane : lanes) sum += static_cast<double>(lane);
  for (; i < run.count; ++i) sum += static_cast<double>(value(i));
  return sum;
}

template <class F>
void blend_plane(F* plane, int64_t count, F other, F gain, F bound) {
  for (int64_t i = 0; i < count; ++i) plane[i] = blend(plane[i], other, gain, bound);
}

template <bool kColour, class F>
void blend_run(const Run<F>& run, F other, F gain, F bound) {
  blend_plane(run.r, run.count, other, gain, bound);
  if (!kColour) return;
  blend_plane(run.g, run.count, other, gain, bound);
  blend_plane(run.b, run.count, other, gain, bound);
}

template <class F>
void saturate_run(const Run<F>& run, F gain, F bound) {
  F* __restrict__ r = run.r, * __restrict__ g = run.g, * __restrict__ b = run.b;
  for (int64_t i = 0; i < run.count; ++i) {
    const F own = grey(r[i], g[i], b[i]);
    r[i] = blend(r[i], own, gain, bound);
    g[i] = blend(g[i], own, gain, bound);
    b[i] = blend(b[i], own, gain, bound);
  }
}

// A third of the circle passes each channel's value on to the next; only the rest needs arithmetic.
template <int kThirds, class F>
void turn_hue(const Run<F>& run, F shift) {
  F* __restrict__ r = run.r, * __restrict__ g = run.g, * __restrict__ b = run.b;
  for (int64_t i = 0; i < run.count; ++i) {
    F x = r[i], y = g[i], z = b[i];
    shift_hue(x, y, z, shift);
    r[i] = kThirds == 0 ? x : (kThirds == 1 ? z : y);
    g[i] = kThirds == 0 ? y : (kThirds == 1 ? x : z);
    b[i] = kThirds == 0 ? z : (kThirds == 1 ? y : x);
  }
}

template <class F>
void hue_run(const Run<F>& run, double turns) {
  const double circles = turns - __builtin_floor(turns);  // [0, 1]
  const int thirds = static_cast<int>(__builtin_floor(circles * 3.0 + 0.5));
  const double rest = circles * 6.0 - thirds * 2.0;  // [-1, 1] sixths
  // Backwards is forwards on the mirrored circle.
  const bool is_back = rest < 0.0;
  const Run<F> circle = {run.r, is_back ? run.b : run.g, is_back ? run.g : run.b, run.count};
  const F shift = fraction<F>(is_back ? -rest : rest);
  switch ((is_back ? 3 - thirds : thirds) % 3) {
    case 0: return turn_hue<0>(circle, shift);
    case 1: return turn_hue<1>(circle, shift);
    default: return turn_hue<2>(circle, shift);
  }
}

// Whether the gains of a plan fit `fraction<int16_t>`.
inline bool is_mild(const CutPastePlan& plan) {
  for (int k = 0; k < plan.steps; ++k) {
    if (plan.step[k] != kHue && !(plan.factor[k] >= 0.0f && plan.factor[k] < 2.0f)) return false;
  }
  return true;
}

// One step of the plan on one run; `mean` is the mean grey of the patch, for contrast.
template <bool kColour, class F>
void jitter_run(const Run<F>& run, JitterOp op, double factor, F mean, F bound) {
  if (op == kHue) return hue_run(run, factor);
  const F gain = fraction<F>(factor - 1.0);
  if (op == kSaturation) return saturate_run(run, gain, bound);
  blend_run<kColour>(run, op == kContrast ? mean : F(0), gain, bound);
}

// Jitters the colour planes of a cut patch, each `area` elements of P, through `work` of the same
// shape. Contrast needs the mean grey of all that was done before it, so the steps run in groups
// that end before a contrast; a group goes over the patch once, a cache-sized run at a time.
template <class P, bool kColour>
void jitter_patch(const CutPastePlan& plan, typename P::Stored* patch, typename P::Compute* work) {
  using F = typename P::Compute;
  constexpr int kPlanes = kColour ? 3 : 1;
  constexpr int64_t kRun = 512;
  const int64_t area = plan.cut_h * plan.cut_w;
  const int64_t stride = work_stride(area);
  F mean = F(0);
  int next = 0;
  bool is_loaded = false;
  do {
    const int first = next;
    if (is_loaded) ++next;  // the contrast that ended the group before
    while (next < plan.steps && plan.step[next] != kContrast) ++next;
    const bool is_last = next == plan.steps;
    double sum = 0.0;
    for (int64_t at = 0; at < area; at += kRun) {
      const int64_t count = area - at < kRun ? area - at : kRun;
      F* const planes[3] = {work + at, work + stride + at, work + 2 * stride + at};
      const Run<F> run = {planes[0], planes[1], planes[2], count};
      for (int c = 0; !is_loaded && c < kPlanes; ++c) {
        load_plane<P>(patch + c * area + at, planes[c], count);
      }
      for (int k = first; k < next; ++k) {
        jitter_run<kColour>(run, plan.step[k], plan.factor[k], mean, F(P::kBound));
      }
      if (!is_last) sum += grey_sum<kColour>(run);
      for (int c = 0; is_last && c < kPlanes; ++c) {
        store_plane<P>(planes[c], patch + c * area + at, count);
      }
    }
    mean = nearest<F>(sum / static_cast<double>(area));
    is_loaded = true;
  } while (next < plan.steps);
}

template <class P>
void jitter_colours(const CutPastePlan& plan, int64_t channels, typename P::Stored* patch,
                    char* scratch) {
  auto* work = reinterpret_cast<typename P::Compute*>(scratch);
  (channels >= 3 ? jitter_patch<P, true> : jitter_patch<P, false>)(plan, patch, work);
}

}  // namespace ssad::SSAD_LEVEL
