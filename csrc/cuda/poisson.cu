// SPDX-License-Identifier: Apache-2.0
// A block takes a plane and solves it in shared memory and registers: conjugate gradients,
// preconditioned by a V-cycle. Nothing depends on the order in which threads run: there are no
// atomics, and sums have a fixed tree.
#include "poisson.h"

#include "poisson_cycle.h"
#include "poisson_solve.h"

namespace ssad::cuda {
namespace {

// On entry r = points->right_hand_side is b and x is zero; r is what remains of it.
template <int kSide>
__device__ Outcome conjugate_gradients(const Memory& m, const Box& box, int levels,
                                       const Limits& limits, FinePoints<kSide>* points, Vector* x) {
  const BlockGroup block;
  Vector& r = points->right_hand_side;
  Vector p;
  p.fill([](int, int) { return 0.0f; });
  float rz_before = 1.0f;
  double limit = limits.tol;
  for (int iteration = 0;; ++iteration) {
    if (box.is_full) remove_mean(m, *points, box.unknowns, &r);
    v_cycle(m, *points, levels);
    Vector z;
    fetch(*points, &z);
    if (box.is_full) remove_mean(m, *points, box.unknowns, &z);
    const auto correction =
        static_cast<double>(block_reduce(largest_of(z), Largest(), m.float_slots));
    if (iteration == 0 && limits.rtol * correction > limit) limit = limits.rtol * correction;
    if (correction <= limit) return {true, iteration};
    if (iteration == limits.max_iterations) return {false, iteration};
    const float own_rz = sum_of([&](int c, int i) { return r.of[c][i] * z.of[c][i]; });
    const float rz = block_reduce(own_rz, Sum(), m.float_slots);
    const float beta = iteration == 0 ? 0.0f : rz / rz_before;
    p.fill([&](int c, int i) { return z.of[c][i] + beta * p.of[c][i]; });
    rz_before = rz;
    share(*points, p);
    block.sync();
    Vector q;
    apply_laplacian(*points, p, &q);
    const float own_curvature = sum_of([&](int c, int i) { return p.of[c][i] * q.of[c][i]; });
    const float curvature = block_reduce(own_curvature, Sum(), m.float_slots);
    if (!(curvature > 0.0f)) return {false, iteration};
    const float alpha = rz / curvature;
    x->fill([&](int c, int i) { return x->of[c][i] + alpha * p.of[c][i]; });
    r.fill([&](int c, int i) { return r.of[c][i] - alpha * q.of[c][i]; });
  }
}

template <int kSide>
__global__ void __launch_bounds__(Layout<kSide>::kThreads, Layout<kSide>::kBlocks)
    solve_planes(PoissonPlanes planes) {
  SSAD_DYNAMIC_SHARED(bytes);
  const Memory m = carve<kSide>(bytes);
  for_the_plane<kSide>(m, planes, [&](const Box& box, const Plane& plane, int64_t index) {
    const int levels = build_hierarchy<kSide>(m, box);
    const auto iterate = [&](const Limits& limits, FinePoints<kSide>* points, Vector* x) {
      return conjugate_gradients(m, box, levels, limits, points, x);
    };
    solve_plane<kSide>(m, box, plane, planes, index, iterate);
  });
}

template <int kSide>
const char* launch_planes(const PoissonPlanes& planes, void* stream) {
  using L = Layout<kSide>;
  return launch(solve_planes<kSide>, planes.n * planes.c, L::kThreads, L::kBytes, stream, planes);
}

const char* solve_by_multigrid(const PoissonPlanes& planes, void* stream) {
  return planes.h <= kSmallSide && planes.w <= kSmallSide
             ? launch_planes<kSmallSide>(planes, stream)
             : launch_planes<kLargestSide>(planes, stream);
}

}  // namespace

const char* poisson_solve(const PoissonPlanes& planes, void* stream) {
  constexpr int64_t kMostBlocks = INT32_MAX;
  const int64_t side = planes.h > planes.w ? planes.h : planes.w;
  if (side > largest_side(planes.solver)) return "a side is larger than a block can take";
  if (planes.n * planes.c > kMostBlocks) return "too many planes for one launch";
  if (planes.n * planes.c * planes.h * planes.w == 0) return nullptr;
  switch (planes.solver) {
    case kMultigrid: return solve_by_multigrid(planes, stream);
    case kSine: return solve_by_sines(planes, stream);
    default: return solve_by_sweeps(planes, stream);
  }
}

}  // namespace ssad::cuda
