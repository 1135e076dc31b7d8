// SPDX-License-Identifier: Apache-2.0
// Successive over-relaxation and damped Jacobi, a block per plane: the arithmetic of
// csrc/cpu/poisson_relax.h, point by point. The solution lies in shared memory, where neighbours
// read it, and in its owners' registers; all the rest in registers alone.
#include "poisson_solve.h"

namespace ssad::cuda {
namespace {

constexpr int kUnreachable = 1 << 16;

// How far along row y the nearest point is where the solution is held, from x.
template <int kSide>
__device__ int distance_along(const Memory<kSide>& m, const Grid& g, int y, int x) {
  if (y < 0) return g.is_natural(kTop) ? kUnreachable : 0;
  if (y >= g.h) return g.is_natural(kBottom) ? kUnreachable : 0;
  static_assert(Layout<kSide>::kRowWords == 1);
  const uint64_t row = m.bits[g.bits + y];
  const uint64_t held = ~row & ~uint64_t{0} >> (64 - g.w);
  const uint64_t after = held >> x, before = held << (63 - x);
  int left = g.is_natural(kLeft) ? kUnreachable : x + 1;
  int right = g.is_natural(kRight) ? kUnreachable : g.w - x;
  if (before != 0) left = __clzll(static_cast<long long>(before));
  if (after != 0) right = __ffsll(static_cast<long long>(after)) - 1;
  return left < right ? left : right;
}

// The chamfer distance of an unknown from the nearest such point: 5 for a step along a row or
// column, 7 for a diagonal one.
template <int kSide>
__device__ int chamfer_distance(const Memory<kSide>& m, const Grid& g, int y, int x) {
  int nearest = 5 * (g.h + g.w);
  for (int down = 0; 5 * down < nearest; ++down) {
    const int above = distance_along(m, g, y - down, x), below = distance_along(m, g, y + down, x);
    const int along = above < below ? above : below;
    const int distance = along > down ? 5 * along + 2 * down : 5 * down + 2 * along;
    if (distance < nearest) nearest = distance;
  }
  return nearest;
}

// See slowest_gap of csrc/cpu/poisson_relax.h.
template <int kSide>
__device__ double slowest_gap(const Memory<kSide>& m, const Box& box,
                              const FinePoints<kSide>& points) {
  int own = 0;
  if (!box.is_full) {
    points.each_unknown(m, [&](int, const Point& point) {
      const int distance = chamfer_distance(m, points.grid, point.y, point.x);
      own = distance > own ? distance : own;
    });
  }
  const float most = block_reduce(static_cast<float>(own), Largest(), m.float_slots);
  const double radius = box.is_full ? static_cast<double>(box.w) : static_cast<double>(most) / 5.0;
  const double wave_number = 2.405 / (radius + 0.5);
  const double gap = 0.25 * wave_number * wave_number;
  return gap < 1.0 ? gap : 1.0;
}

// Whether the change of a sweep is small enough, see Stop of csrc/cpu/poisson_relax.h.
struct Stop {
  double per_change, limit, rtol;

  __device__ bool operator()(int sweep, float change) {
    const double left = static_cast<double>(change) * per_change;
    if (sweep == 0 && rtol * left > limit) limit = rtol * left;
    return left <= limit;
  }
};

// Half a sweep; raises `most` to its largest change.
template <int kColour, int kSide>
__device__ void over_relax(const FinePoints<kSide>& points, float omega, Vector<kSide>* x,
                           float* most) {
  points.template each_around<kColour>([&](const Point& p, float sum) {
    const float f = points.template f<kColour>(p);
    const float before = x->of[kColour][p.slot];
    const float change = omega * (relaxed(f, sum, points.template inverse<kColour>(p)) - before);
    x->of[kColour][p.slot] = before + change;
    points.u[p.at] = before + change;
    *most = fmaxf(*most, fabsf(change));
  });
}

struct OverRelaxation {
  template <int kSide>
  static __device__ Outcome iterate(const Memory<kSide>& m, double gap, const Limits& limits,
                                    const FinePoints<kSide>& points, Vector<kSide>* x) {
    const BlockGroup block;
    const double omega = 2.0 / (1.0 + sqrt(gap * (2.0 - gap)));
    Stop stop = {2.0 / (2.0 - omega), limits.tol, limits.rtol};
    for (int sweep = 0; sweep < limits.max_iterations; ++sweep) {
      float most = 0.0f;
      over_relax<kRed>(points, static_cast<float>(omega), x, &most);
      block.sync();
      over_relax<kBlack>(points, static_cast<float>(omega), x, &most);
      if (stop(sweep, block_reduce(most, Largest(), m.float_slots))) return {true, sweep + 1};
    }
    return {false, limits.max_iterations};
  }
};

// What a sweep adds at the points of a colour.
template <int kColour, int kSide>
__device__ void jacobi_steps(const FinePoints<kSide>& points, const Vector<kSide>& x,
                             Vector<kSide>* steps) {
  constexpr auto kDamping = 0.8f;
  points.template each_around<kColour>(x, [&](const Point& p, float sum) {
    const float degree = p.edges == kNoEdges ? 0.0f : static_cast<float>(p.edges);
    const float residual =
        points.template f<kColour>(p) - laplacian(degree, x.of[kColour][p.slot], sum);
    steps->of[kColour][p.slot] = kDamping * residual * points.template inverse<kColour>(p);
  });
}

struct Jacobi {
  template <int kSide>
  static __device__ Outcome iterate(const Memory<kSide>& m, double gap, const Limits& limits,
                                    const FinePoints<kSide>& points, Vector<kSide>* x) {
    const BlockGroup block;
    Stop stop = {2.0 / (0.8 * gap), limits.tol, limits.rtol};
    for (int sweep = 0; sweep < limits.max_iterations; ++sweep) {
      Vector<kSide> steps;
      steps.fill([](int, int) { return 0.0f; });
      jacobi_steps<kRed>(points, *x, &steps);
      jacobi_steps<kBlack>(points, *x, &steps);
      block.sync();
      x->fill([&](int c, int i) { return x->of[c][i] + steps.of[c][i]; });
      share(points, *x);
      const float change = block_reduce(largest_of(steps), Largest(), m.float_slots);
      if (stop(sweep, change)) return {true, sweep + 1};
    }
    return {false, limits.max_iterations};
  }
};

template <int kSide, class Method>
__device__ void sweep_plane(unsigned char* bytes, const PoissonPlanes& planes) {
  const Memory<kSide> m = carve_finest<kSide>(bytes);
  for_the_plane<kSide>(m, planes, [&](const Box& box, const Plane& plane, int64_t index) {
    build_finest_grid<kSide>(m, box);
    const auto iterate = [&](const Limits& limits, FinePoints<kSide>* points, Vector<kSide>* x) {
      share(*points, *x);
      const double gap = slowest_gap(m, box, *points);  // its barriers order the shared zeros, too
      return Method::iterate(m, gap, limits, *points, x);
    };
    solve_plane<kSide>(m, box, plane, planes, index, iterate);
  });
}

template <int kSide>
__global__ void __launch_bounds__(Layout<kSide>::kThreads, Layout<kSide>::kBlocks)
    sor_planes(PoissonPlanes planes) {
  SSAD_DYNAMIC_SHARED(bytes);
  sweep_plane<kSide, OverRelaxation>(bytes, planes);
}

template <int kSide>
__global__ void __launch_bounds__(Layout<kSide>::kThreads, Layout<kSide>::kBlocks)
    jacobi_planes(PoissonPlanes planes) {
  SSAD_DYNAMIC_SHARED(bytes);
  sweep_plane<kSide, Jacobi>(bytes, planes);
}

template <int kSide>
const char* launch_planes(void (*kernel)(PoissonPlanes), const PoissonPlanes& planes,
                          void* stream) {
  using L = Layout<kSide>;
  return launch(kernel, planes.n * planes.c, L::kThreads, L::kFineBytes, stream, planes);
}

}  // namespace

const char* solve_by_sweeps(const PoissonPlanes& planes, void* stream) {
  if (planes.solver == kSor) {
    return launch_planes<kSmallSide>(sor_planes<kSmallSide>, planes, stream);
  }
  return planes.h <= kSmallSide && planes.w <= kSmallSide
             ? launch_planes<kSmallSide>(jacobi_planes<kSmallSide>, planes, stream)
             : launch_planes<kMediumSide>(jacobi_planes<kMediumSide>, planes, stream);
}

}  // namespace ssad::cuda
