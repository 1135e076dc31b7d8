// SPDX-License-Identifier: Apache-2.0
// What the iterative solvers of a plane have in common: the data's offset and scale, the residual,
// the status. A block takes a plane.
#pragma once

#include "poisson_plane.h"

namespace ssad::cuda {

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
template <int kSide, class Own>
__device__ void remove_mean(const Memory<kSide>& m, const FinePoints<kSide>& points, int unknowns,
                            Own* vector) {
  const double sum = block_reduce(static_cast<double>(vector->sum()), Sum(), m.slots);
  const auto mean = static_cast<float>(sum / static_cast<double>(unknowns));
  points.template each<kRed>(
      [&](const Point& p) { vector->put(kRed, p.slot, (*vector)(kRed, p.slot) - mean); });
  points.template each<kBlack>(
      [&](const Point& p) { vector->put(kBlack, p.slot, (*vector)(kBlack, p.slot) - mean); });
}

// Between the shared plane and the owners' registers.
template <int kSide>
__device__ void fetch(const FinePoints<kSide>& points, Vector<kSide>* to) {
  to->fill([](int, int) { return 0.0f; });
  points.template each<kRed>([&](const Point& p) { to->of[kRed][p.slot] = points.u[p.at]; });
  points.template each<kBlack>([&](const Point& p) { to->of[kBlack][p.slot] = points.u[p.at]; });
}

template <int kSide, class Own>
__device__ void share(const FinePoints<kSide>& points, const Own& from) {
  points.template each<kRed>([&](const Point& p) { points.u[p.at] = from(kRed, p.slot); });
  points.template each<kBlack>([&](const Point& p) { points.u[p.at] = from(kBlack, p.slot); });
}

template <int kColour, int kSide, class Own>
__device__ void apply_laplacian_to_colour(const FinePoints<kSide>& points, const Own& own,
                                          Vector<kSide>* to) {
  points.template each_around<kColour>(own, [&](const Point& p, float sum) {
    const float degree = p.edges == kNoEdges ? 0.0f : static_cast<float>(p.edges);
    to->of[kColour][p.slot] = laplacian(degree, own(kColour, p.slot), sum);
  });
}

// A times the vector in the shared plane, which is `own` of all threads.
template <int kSide, class Own>
__device__ void apply_laplacian(const FinePoints<kSide>& points, const Own& own,
                                Vector<kSide>* to) {
  to->fill([](int, int) { return 0.0f; });
  apply_laplacian_to_colour<kRed>(points, own, to);
  apply_laplacian_to_colour<kBlack>(points, own, to);
}

// b of the finest grid, by way of the shared plane; false if a value that matters is not finite.
template <int kSide>
__device__ bool load(const Domain<kSide>& domain, float offset, FinePoints<kSide>* points) {
  Vector<kSide>& b = points->right_hand_side;
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
__device__ int exponent_of(const Memory<kSide>& m, const Vector<kSide>& b) {
  return scale_exponent(block_reduce(largest_of(b), Largest(), m.float_slots));
}

// Returns the limits that go with it.
template <int kSide>
__device__ Limits scale_down(const Memory<kSide>& m, const PoissonPlanes& planes,
                             Vector<kSide>* b) {
  const float scale = ldexpf(1.0f, -exponent_of(m, *b));
  b->fill([&](int colour, int i) { return b->of[colour][i] * scale; });
  return {planes.tol * static_cast<double>(scale), planes.rtol, planes.max_iterations};
}

// Solves for the unknowns of a plane, of which there are some. iterate(limits, points, x): on entry
// points->right_hand_side is b, which it may overwrite, and x is zero; on exit A x = b.
template <int kSide, class Iterate>
__device__ void solve_plane(const Memory<kSide>& m, const Box& box, const Plane& plane,
                            const PoissonPlanes& planes, int64_t index, Iterate iterate) {
  const BlockGroup block;
  FinePoints<kSide> points(m);
  points.count_edges(m);
  const Domain<kSide> domain = {m, box, plane, points.grid};
  const float offset = domain.typical_value(points);
  if (!load(domain, offset, &points)) {
    store(m, box, plane, [](int, int) { return not_a_number(); });
    if (block.rank() == 0) report(planes, index, kNotFinite, 0, not_a_number());
    return;
  }
  Vector<kSide>& b = points.right_hand_side;
  if (box.is_full) remove_mean(m, points, box.unknowns, &b);  // only such a b has a solution
  const Limits limits = scale_down(m, planes, &b);

  KeptVector<kSide> x(m, Parked::kSolution);
  x.fill([](int, int) { return 0.0f; });
  const Outcome outcome = iterate(limits, &points, &x);

  load(domain, offset, &points);  // b once more: its registers hold what remained of it
  if (box.is_full) remove_mean(m, points, box.unknowns, &b);
  const int exponent = exponent_of(m, b);
  const float scale = ldexpf(1.0f, -exponent), unscale = ldexpf(1.0f, exponent);
  share(points, x);
  block.sync();
  Vector<kSide> residual;
  apply_laplacian(points, nearest(points, x), &residual);
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
  const Status status = outcome.is_converged ? kApplied : kNotConverged;
  report(planes, index, status, outcome.iterations, largest * unscale);
}

// The block's plane: reads its mask and, unless that is empty, calls solve(box, plane, index).
template <int kSide, class Solve>
__device__ void for_the_plane(const Memory<kSide>& m, const PoissonPlanes& planes, Solve solve) {
  const BlockGroup block;
  const int64_t index = blockIdx.x, sample = index / planes.c;
  const Plane plane = plane_of(planes, index);
  const Global<const bool> mask = planes.mask + sample * planes.h * planes.w;
  const Global<const uint8_t> natural = planes.natural;
  const Box box = read_mask<kSide>(m, mask, plane.h, plane.w, natural[sample]);
  if (box.unknowns > 0) return solve(box, plane, index);
  store(m, box, plane, [](int, int) { return 0.0f; });
  if (block.rank() == 0) report(planes, index, kApplied, 0, 0.0f);
}

}  // namespace ssad::cuda
