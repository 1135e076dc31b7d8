// SPDX-License-Identifier: Apache-2.0
// A block takes a plane and solves it in shared memory and registers.
#include "poisson.h"

#include "poisson_gradients.h"

namespace ssad::cuda {
namespace {

template <int kSide>
__global__ void __launch_bounds__(Layout<kSide>::kThreads, Layout<kSide>::kBlocks)
    solve_planes(PoissonPlanes planes) {
  SSAD_DYNAMIC_SHARED(bytes);
  Memory<kSide> m = carve<kSide>(bytes);
  m.parked = planes.scratch + int64_t{blockIdx.x} * Layout<kSide>::kParked;
  for_the_plane<kSide>(m, planes, [&](const Box& box, const Plane& plane, int64_t index) {
    build_hierarchy<kSide>(m, box);
    const auto iterate = [&](const Limits& limits, FinePoints<kSide>* points,
                             KeptVector<kSide>* x) {
      return conjugate_gradients(m, limits, points, x);
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
  const int64_t side = planes.h > planes.w ? planes.h : planes.w;
  return side <= kSmallSide    ? launch_planes<kSmallSide>(planes, stream)
         : side <= kMediumSide ? launch_planes<kMediumSide>(planes, stream)
                               : launch_planes<kLargeSide>(planes, stream);
}

}  // namespace

int64_t multigrid_bytes(int64_t side) {
  return side <= kSmallSide    ? Layout<kSmallSide>::kBytes
         : side <= kMediumSide ? Layout<kMediumSide>::kBytes
                               : Layout<kLargeSide>::kBytes;
}

int64_t poisson_scratch_size(PoissonSolver solver, int64_t planes, int64_t h, int64_t w) {
  if (solver == kSine) return sine_table_size(h) + sine_table_size(w);
  const bool is_large = solver == kMultigrid && (h > kMediumSide || w > kMediumSide);
  return is_large ? planes * Layout<kLargeSide>::kParked : 0;
}

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
