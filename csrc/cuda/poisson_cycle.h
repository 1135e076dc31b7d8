// SPDX-License-Identifier: Apache-2.0
// One symmetric V(1,1) cycle from zero: the arithmetic of csrc/cpu/poisson_multigrid.h, point by
// point. There is a barrier wherever a thread reads what another one wrote, and none elsewhere.
#pragma once

#include "poisson_points.h"

namespace ssad::cuda {

// Half a sweep: solves for the points of one colour, given the other one.
template <int kColour, class Points>
__device__ void relax(const Points& points) {
  points.template each_around<kColour>([&](const Point& point, float sum) {
    const float f = points.template f<kColour>(point);
    points.u[point.at] = relaxed(f, sum, points.template inverse<kColour>(point));
  });
}

// After a red and then a black half sweep from zero the black points have no residual, and the red
// ones that of the black update: the sum of their neighbours. It takes the place of the red
// points' values, which are f times inverse and can be had again.
template <class Points>
__device__ void leave_residual(const Points& points) {
  points.template each_around<kRed>([&](const Point& point, float sum) {
    const bool is_unknown = points.template inverse<kRed>(point) > 0.0f;
    points.u[point.at] = is_unknown ? sum * points.border_factor(point) : 0.0f;
  });
}

__device__ inline float restricted_at(const Grid& g, const Shared<float>& red, int y, int x) {
  // Edges of a coarse row weigh half as much, so its equations are multiplied by two.
  if (g.h == 1) return 2.0f * red[g.row(0) + x];
  const int centre = g.row(2 * y + 1) + x, above = centre - g.stride, below = centre + g.stride;
  const float own = red[centre];
  const float a = red[above], b = red[above + 1], c = red[below], d = red[below + 1];
  return restricted(own, a, b, c, d);
}

// Gives a coarse grid its right-hand side, and its red points their first half sweep from zero.
template <class Group>
__device__ void restrict_residual(const Grid& g, const Shared<float>& red,
                                  const CoarsePoints<Group>& coarse) {
  coarse.template each<kRed>([&](const Point& point) {
    const float f = restricted_at(g, red, point.y, point.x);
    coarse.right_hand_side[point.at] = f;
    coarse.u[point.at] = f * coarse.template inverse<kRed>(point);
  });
  coarse.template each<kBlack>([&](const Point& point) {
    coarse.right_hand_side[point.at] = restricted_at(g, red, point.y, point.x);
  });
}

// The coarse correction at a red point.
template <class Points>
__device__ float correction_at(const Points& points, const Grid& coarse, const Shared<float>& u,
                               const Point& point) {
  const int lower = point.y >> 1, right = point.x / 2;
  if (points.grid.h == 1 || (point.y & 1) != 0) return u[coarse.index(lower, right)];
  const float a = u[coarse.index(lower - 1, right - 1)], b = u[coarse.index(lower - 1, right)];
  const float c = u[coarse.index(lower, right - 1)], d = u[coarse.index(lower, right)];
  return interpolated(a, b, c, d) * points.border_factor(point);
}

// The red points' values again, with the correction. The next half sweep overwrites the black ones.
template <class Points>
__device__ void correct(const Points& points, const Grid& coarse, const Shared<float>& coarse_u) {
  points.template each<kRed>([&](const Point& point) {
    const float inverse = points.template inverse<kRed>(point);
    float value = 0.0f;
    if (inverse > 0.0f) {
      value =
          points.template f<kRed>(point) * inverse + correction_at(points, coarse, coarse_u, point);
    }
    points.u[point.at] = value;
  });
}

// From red points with their first half sweep to the right-hand side of the next grid.
template <class Group, class Points>
__device__ void descend(const Group& group, const Points& points,
                        const CoarsePoints<Group>& coarse) {
  relax<kBlack>(points);
  group.sync();
  leave_residual(points);
  group.sync();
  restrict_residual(points.grid, points.u, coarse);
  group.sync();
}

// From a coarse grid's solution to that of the next finer one.
template <class Group, class Points>
__device__ void ascend(const Group& group, const Points& points,
                       const CoarsePoints<Group>& coarse) {
  correct(points, coarse.grid, coarse.u);
  group.sync();
  relax<kBlack>(points);
  group.sync();
  relax<kRed>(points);
  group.sync();
}

// On the coarsest grid.
template <class Group, class Points>
__device__ void finish_sweep(const Group& group, const Points& points) {
  relax<kBlack>(points);
  group.sync();
  relax<kRed>(points);
  group.sync();
}

__device__ inline bool fits_a_warp(const Grid& g) { return g.h << g.lanes <= kWarp; }

// From grid 1 down and up again. Grids with a point of each colour per lane are left to one warp,
// which waits for its own lanes only.
template <int kSide>
__device__ void cycle_coarse(const Memory<kSide>& m, int levels) {
  const BlockGroup block;
  const WarpGroup warp;
  using OfBlock = CoarsePoints<BlockGroup>;
  using OfWarp = CoarsePoints<WarpGroup>;
  int level = 1;
  while (level + 1 < levels && !fits_a_warp(unpacked(m.grids[level]))) {
    descend(block, OfBlock(m, level), OfBlock(m, level + 1));
    ++level;
  }
  const int first = level;
  if (warp_index() == 0) {
    for (; level + 1 < levels; ++level) descend(warp, OfWarp(m, level), OfWarp(m, level + 1));
    finish_sweep(warp, OfWarp(m, level));
    while (--level >= first) ascend(warp, OfWarp(m, level), OfWarp(m, level + 1));
  }
  block.sync();
  for (level = first - 1; level >= 1; --level) {
    ascend(block, OfBlock(m, level), OfBlock(m, level + 1));
  }
}

template <int kSide>
__device__ void v_cycle(const Memory<kSide>& m, const FinePoints<kSide>& points, int levels) {
  const BlockGroup block;
  points.template each<kRed>([&](const Point& point) {
    points.u[point.at] = points.template f<kRed>(point) * points.template inverse<kRed>(point);
  });
  block.sync();
  if (levels == 1) return finish_sweep(block, points);
  descend(block, points, CoarsePoints<BlockGroup>(m, 1));
  cycle_coarse(m, levels);
  ascend(block, points, CoarsePoints<BlockGroup>(m, 1));
}

}  // namespace ssad::cuda
