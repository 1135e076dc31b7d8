// SPDX-License-Identifier: Apache-2.0
// A block takes a plane and solves it in shared memory and registers: conjugate gradients,
// preconditioned by a V-cycle. Nothing depends on the order in which threads run: there are no
// atomics, and sums have a fixed tree.
#include "poisson.h"

#include "poisson_cycle.h"
#include "poisson_plane.h"
#include "ssad/view.h"

namespace ssad::cuda {
namespace {

struct Limits {
  double tol, rtol;
  int max_iterations;
};

struct Outcome {
  bool is_converged;
  int iterations;
};

// For a full mask, where all points are unknowns: neither b nor u have a mean, and rounding shall
// not give them one.
template <int kSide>
__device__ void remove_mean(const Memory& m, const FinePoints<kSide>& points, int unknowns,
                            Vector* vector) {
  const float own = sum_of([&](int colour, int i) { return vector->of[colour][i]; });
  const double sum = block_reduce(static_cast<double>(own), Sum(), m.slots);
  const auto mean = static_cast<float>(sum / static_cast<double>(unknowns));
  points.template each<kRed>([&](const Point& p) { vector->of[kRed][p.slot] -= mean; });
  points.template each<kBlack>([&](const Point& p) { vector->of[kBlack][p.slot] -= mean; });
}

// Between the shared plane and the owners' registers.
template <int kSide>
__device__ void fetch(const FinePoints<kSide>& points, Vector* to) {
  to->fill([](int, int) { return 0.0f; });
  points.template each<kRed>([&](const Point& p) { to->of[kRed][p.slot] = points.u[p.at]; });
  points.template each<kBlack>([&](const Point& p) { to->of[kBlack][p.slot] = points.u[p.at]; });
}

template <int kSide>
__device__ void share(const FinePoints<kSide>& points, const Vector& from) {
  points.template each<kRed>([&](const Point& p) { points.u[p.at] = from.of[kRed][p.slot]; });
  points.template each<kBlack>([&](const Point& p) { points.u[p.at] = from.of[kBlack][p.slot]; });
}

template <int kColour, int kSide>
__device__ void apply_laplacian_to_colour(const FinePoints<kSide>& points, const Vector& own,
                                          Vector* to) {
  points.template each<kColour>([&](const Point& p) {
    const float sum = around<kColour>(points, p);
    const float degree = p.edges == kNoEdges ? 0.0f : static_cast<float>(p.edges);
    to->of[kColour][p.slot] = laplacian(degree, own.of[kColour][p.slot], sum);
  });
}

// A times the vector in the shared plane, which is `own` of all threads.
template <int kSide>
__device__ void apply_laplacian(const FinePoints<kSide>& points, const Vector& own, Vector* to) {
  to->fill([](int, int) { return 0.0f; });
  apply_laplacian_to_colour<kRed>(points, own, to);
  apply_laplacian_to_colour<kBlack>(points, own, to);
}

// On entry r = points->right_hand_side is b and x is zero; r is what remains of it.
template <int kSide>
__device__ Outcome solve(const Memory& m, const Box& box, int levels, const Limits& limits,
                         FinePoints<kSide>* points, Vector* x) {
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

// A power of two near 1 / the largest |b|: as a factor it rounds nothing, and it keeps the squares
// in sums from overflowing and gradients from getting lost.
__device__ inline int scale_exponent(float largest) {
  constexpr int kLimit = 120;
  int exponent = 0;
  frexpf(largest, &exponent);
  return exponent > kLimit ? kLimit : exponent < -kLimit ? -kLimit : exponent;
}

// b of the finest grid, by way of the shared plane; false if a value that matters is not finite.
template <int kSide>
__device__ bool load(const Domain<kSide>& domain, float offset, FinePoints<kSide>* points) {
  Vector& b = points->right_hand_side;
  b.fill([](int, int) { return 0.0f; });
  share(*points, b);
  bool is_bad = !is_finite(offset);
  points->each_unknown(domain.memory, [&](int, const Point& point) {
    const float value = domain.right_hand_side(point, offset);
    points->u[point.at] = value;
    is_bad |= !is_finite(value);
  });
  fetch(*points, &b);
  return block_reduce(is_bad ? 1.0f : 0.0f, Largest(), domain.memory.float_slots) == 0.0f;
}

template <int kSide>
__device__ void solve_plane(const Memory& m, const Box& box, int levels, const Plane& plane,
                            const PoissonPlanes& planes, int64_t index) {
  const BlockGroup block;
  FinePoints<kSide> points(m);
  points.count_edges(m);
  const Domain<kSide> domain = {m, box, plane, points.grid};
  const float offset = domain.typical_value(points);
  if (!load(domain, offset, &points)) {
    store(m, box, plane, [](int, int) { return not_a_number(); });
    if (block.rank() != 0) return;
    planes.status[index] = kNotFinite;
    planes.iterations[index] = 0;
    planes.residual[index] = not_a_number();
    return;
  }
  Vector& b = points.right_hand_side;
  if (box.is_full) remove_mean(m, points, box.unknowns, &b);  // only such a b has a solution
  const int exponent = scale_exponent(block_reduce(largest_of(b), Largest(), m.float_slots));
  const float scale = ldexpf(1.0f, -exponent), unscale = ldexpf(1.0f, exponent);
  b.fill([&](int colour, int i) { return b.of[colour][i] * scale; });

  Vector x;
  x.fill([](int, int) { return 0.0f; });
  const Limits limits = {planes.tol * static_cast<double>(scale), planes.rtol,
                         planes.max_iterations};
  const Outcome outcome = solve(m, box, levels, limits, &points, &x);

  load(domain, offset, &points);  // b once more: its registers hold what remained of it
  if (box.is_full) remove_mean(m, points, box.unknowns, &b);
  share(points, x);
  block.sync();
  Vector residual;
  apply_laplacian(points, x, &residual);
  residual.fill(
      [&](int colour, int i) { return residual.of[colour][i] - b.of[colour][i] * scale; });
  const float largest = block_reduce(largest_of(residual), Largest(), m.float_slots);
  if (box.is_full) {  // the constant that was left open
    remove_mean(m, points, box.unknowns, &x);
    share(points, x);
    block.sync();
  }
  const Grid& grid = points.grid;
  store(m, box, plane, [&](int y, int x_) {
    const float value = m.fine[grid.index(y, x_)];
    return value * unscale + offset;
  });
  if (block.rank() != 0) return;
  planes.status[index] = outcome.is_converged ? kApplied : kNotConverged;
  planes.iterations[index] = outcome.iterations;
  planes.residual[index] = largest * unscale;
}

template <int kSide>
__global__ void __launch_bounds__(Layout<kSide>::kThreads, Layout<kSide>::kBlocks)
    solve_planes(PoissonPlanes planes) {
  SSAD_DYNAMIC_SHARED(bytes);
  const Memory m = carve<kSide>(bytes);
  const BlockGroup block;
  const int64_t index = blockIdx.x, sample = index / planes.c;
  const int h = static_cast<int>(planes.h), w = static_cast<int>(planes.w);
  const int64_t pixels = planes.h * planes.w;
  const Plane plane = {planes.rhs + index * pixels,
                       planes.boundary + index * planes.boundary_plane,
                       planes.solution + index * pixels,
                       planes.boundary_row,
                       h,
                       w};
  const Box box = read_mask<kSide>(m, planes.mask + sample * pixels, h, w, planes.natural[sample]);
  if (box.unknowns > 0) {
    const int levels = build_hierarchy<kSide>(m, box);
    return solve_plane<kSide>(m, box, levels, plane, planes, index);
  }
  store(m, box, plane, [](int, int) { return 0.0f; });
  if (block.rank() != 0) return;
  planes.status[index] = kApplied;
  planes.iterations[index] = 0;
  planes.residual[index] = 0.0f;
}

template <int kSide>
const char* launch_planes(const PoissonPlanes& planes, void* stream) {
  using L = Layout<kSide>;
  return launch(solve_planes<kSide>, planes.n * planes.c, L::kThreads, L::kBytes, stream, planes);
}

}  // namespace

const char* poisson_solve(const PoissonPlanes& planes, void* stream) {
  constexpr int64_t kMostBlocks = INT32_MAX;
  constexpr int kSmallSide = 32;
  const int64_t side = planes.h > planes.w ? planes.h : planes.w;
  if (side > kLargestSide) return "a side is larger than a block can take";
  if (planes.n * planes.c > kMostBlocks) return "too many planes for one launch";
  if (planes.n * planes.c * planes.h * planes.w == 0) return nullptr;
  return side <= kSmallSide ? launch_planes<kSmallSide>(planes, stream)
                            : launch_planes<kLargestSide>(planes, stream);
}

}  // namespace ssad::cuda
