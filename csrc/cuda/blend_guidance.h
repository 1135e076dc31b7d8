// SPDX-License-Identifier: Apache-2.0
// The equation A e = b of a channel, where the blend is base + e: as csrc/cpu/blend_guidance.h.
#pragma once

#include "blend_mask.h"

namespace ssad::cuda {

__device__ inline Guidance choose_guidance(const BlendProblem& problem, int64_t gradient,
                                           bool is_hard, bool is_full) {
  if (problem.region == BlendRegion::kOpenCv) return Guidance::kOpenCv;
  const bool is_masked = problem.mask_kind != MaskKind::kNone;
  const bool is_one = !is_masked || (is_hard && problem.region == BlendRegion::kMask);
  if (!is_one) return Guidance::kWeightedEdges;
  const bool is_source = gradient == kSourceGradient || gradient == kMonochromeGradient;
  return is_source && !is_full ? Guidance::kMembrane : Guidance::kEdges;
}

// Source and target of a channel around the unknowns. Coordinates are those of the finest grid. All
// that is in here is fetched anew for each channel: registers are for the solver.
template <int kSide>
struct Guide {
  const Memory<kSide>& m;
  const BlendMemory& memory;
  const Grid& grid;
  Weights<kSide> weights;
  Box box;
  Guidance guidance;
  int gradient;
  float target_gain;

  __device__ bool is_in_patch(int y, int x) const {
    const int down = box.pixel_y(y, x), along = box.pixel_x(y, x);
    return down >= 0 && down < weights.h && along >= 0 && along < weights.w;
  }
  __device__ float source(int y, int x) const {
    const float value = memory.source[grid.index(y, x)];
    return value;
  }
  __device__ float target(int y, int x) const {
    const float value = memory.target[grid.index(y, x)];
    return value;
  }
  __device__ float weight(int y, int x) const {
    return weights.at(box.pixel_y(y, x), box.pixel_x(y, x));
  }
  __device__ bool has_source_base() const { return guidance == Guidance::kMembrane; }
  __device__ float base(int y, int x) const {
    return has_source_base() ? source(y, x) : target(y, x);
  }

  // b at an unknown.
  __device__ float right_hand_side(int y, int x) const {
    float sum = 0.0f;
    SSAD_NO_UNROLL
    for (int side = 0; side < 4; ++side) sum += from_edge(y, x, y + down(side), x + along(side));
    return sum;
  }

  // Of mixed gradients one is left out, and which one a NaN leaves out is not told: none of the
  // pixels that take part may be one.
  __device__ bool takes_part(int y, int x) const {
    bool any_unknown = false, any_weight = guidance != Guidance::kWeightedEdges;
    SSAD_NO_UNROLL
    for (int side = 0; side <= 4; ++side) {
      const int near_y = y + down(side), near_x = x + along(side);
      any_unknown |= is_unknown(m, grid, near_y, near_x);
      any_weight |= weight(near_y, near_x) > 0.0f;
    }
    return any_unknown && any_weight;
  }

 private:
  // To the neighbours above, below, left and right, and to the point itself.
  __device__ static int down(int side) { return side < 2 ? 2 * side - 1 : 0; }
  __device__ static int along(int side) { return side == 2 ? -1 : side == 3 ? 1 : 0; }

  // What the edge from an unknown p to its neighbour q adds to b(p).
  __device__ float from_edge(int y, int x, int q_y, int q_x) const {
    if (guidance == Guidance::kMembrane) return from_known(y, x, q_y, q_x);
    if (!is_in_patch(q_y, q_x)) return 0.0f;
    if (guidance == Guidance::kOpenCv) {
      const bool is_start = q_y > y || q_x > x;
      const int start_y = is_start ? y : q_y, start_x = is_start ? x : q_x;
      const float flow = forward(start_y, start_x, is_start ? q_y : y, is_start ? q_x : x);
      return is_start ? flow : -flow;
    }
    const float excess =
        excess_of(source(y, x) - source(q_y, q_x), target(y, x) - target(q_y, q_x));
    if (guidance == Guidance::kEdges) return excess;
    const float w = edge_weight(weight(y, x), weight(q_y, q_x));
    return w > 0.0f ? w * excess : 0.0f;
  }

  // By how much the guiding gradient differs from the target's.
  __device__ float excess_of(float from_source, float from_target) const {
    const float scaled = target_gain * from_target;
    const float guiding = gradient == kMixedGradient ? guided<kMixedGradient>(from_source, scaled)
                          : gradient == kAverageGradient
                              ? guided<kAverageGradient>(from_source, scaled)
                              : from_source;
    return guiding - from_target;
  }

  // The known e = target - source at q. Beyond the patch the source goes on with the target's
  // gradient, so that e is what it is one pixel before.
  __device__ float from_known(int y, int x, int q_y, int q_x) const {
    if (is_free(m, grid, q_y, q_x)) return 0.0f;
    if (is_in_patch(q_y, q_x)) return target(q_y, q_x) - source(q_y, q_x);
    return target(y, x) - source(y, x);
  }

  // As in cv2.seamlessClone: forward differences, weighted by the mask at their start, and for
  // mixed gradients taken from the source where its two differences lie further apart.
  __device__ float forward(int y, int x, int q_y, int q_x) const {
    const float s = source(y, x), t = target(y, x);
    if (gradient == kMixedGradient) {
      const float s_down = s - source(y + 1, x), s_along = s - source(y, x + 1);
      const float t_down = t - target(y + 1, x), t_along = t - target(y, x + 1);
      if (!(fabsf(s_along - s_down) > fabsf(t_along - t_down))) return 0.0f;
    }
    return weight(y, x) * ((s - source(q_y, q_x)) - (t - target(q_y, q_x)));
  }
};

template <int kSide>
__device__ Guide<kSide> make_guide(const Memory<kSide>& m, const BlendMemory& memory,
                                   const Grid& grid, const Images<kSide>& images) {
  const BlendPlan plan = memory.plan[0];
  const BlendProblem& problem = images.problem;
  return {m,
          memory,
          grid,
          {memory, problem.mask_kind, static_cast<int>(plan.h), static_cast<int>(plan.w)},
          m.box[0],
          memory.guidance[0],
          static_cast<int>(gradient_of(problem.params, images.sample())),
          images.target_gain()};
}

}  // namespace ssad::cuda
