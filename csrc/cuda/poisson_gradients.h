// SPDX-License-Identifier: Apache-2.0
// Conjugate gradients, preconditioned by a V-cycle, by a block. Nothing depends on the order in
// which threads run: there are no atomics, and sums have a fixed tree.
#pragma once

#include "poisson_cycle.h"
#include "poisson_solve.h"

namespace ssad::cuda {

// On entry r = points->right_hand_side is b and x is zero; r is what remains of it.
template <int kSide>
__device__ Outcome conjugate_gradients(const Memory<kSide>& m, const Limits& limits,
                                       FinePoints<kSide>* points, KeptVector<kSide>* x) {
  const BlockGroup block;
  Vector<kSide>& r = points->right_hand_side;
  KeptVector<kSide> p(m, Parked::kDirection);
  p.fill([](int, int) { return 0.0f; });
  float rz_before = 1.0f;
  // Compared with floats alone, so that rounding it down changes nothing but spares a register.
  float limit = __double2float_rd(limits.tol);
  for (int iteration = 0;; ++iteration) {
    const Box box = m.box[0];
    if (box.is_full) remove_mean(m, *points, box.unknowns, &r);
    v_cycle(m, *points, box.levels);
    Vector<kSide> z;
    fetch(*points, &z);
    if (box.is_full) remove_mean(m, *points, box.unknowns, &z);
    const float correction = block_reduce(largest_of(z), Largest(), m.float_slots);
    if (iteration == 0) {
      const double relative = limits.rtol * static_cast<double>(correction);
      limit = fmaxf(limit, __double2float_rd(relative));
    }
    if (correction <= limit) return {true, iteration};
    if (iteration == limits.max_iterations) return {false, iteration};
    const float own_rz = sum_of<kSide>([&](int c, int i) { return r.of[c][i] * z.of[c][i]; });
    const float rz = block_reduce(own_rz, Sum(), m.float_slots);
    const float beta = iteration == 0 ? 0.0f : rz / rz_before;
    p.update([&](int c, int i, float old) {
      z.of[c][i] += beta * old;
      return z.of[c][i];
    });
    rz_before = rz;
    share(*points, z);
    block.sync();
    const auto& own = nearest(*points, p);
    Vector<kSide> q;
    apply_laplacian(*points, own, &q);
    const float own_curvature = sum_of<kSide>([&](int c, int i) { return own(c, i) * q.of[c][i]; });
    const float curvature = block_reduce(own_curvature, Sum(), m.float_slots);
    if (!(curvature > 0.0f)) return {false, iteration};
    const float alpha = rz / curvature;
    x->update([&](int c, int i, float old) { return old + alpha * own(c, i); });
    r.fill([&](int c, int i) { return r.of[c][i] - alpha * q.of[c][i]; });
  }
}

}  // namespace ssad::cuda
