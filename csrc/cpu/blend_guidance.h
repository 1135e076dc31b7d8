// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <utility>

#include "blend_rows.h"

namespace ssad::SSAD_LEVEL {

// Pixels of a clipped patch, half-open.
struct Range {
  int64_t y0, y1, x0, x1;

  int64_t h() const { return y1 - y0; }
  int64_t w() const { return x1 - x0; }
  bool is_empty() const { return y0 >= y1 || x0 >= x1; }
};

// A sample on its way through the kernel. The blend is u = base + e, where A e = b on the unknowns,
// e is zero around them, and base is the source (see fill_membrane) or the target.
template <class P>
struct Blend {
  using T = typename P::Compute;
  static constexpr bool kIsUInt8 = sizeof(typename P::Stored) == 1;

  BlendRows<P> rows;
  int64_t gradient;
  T target_gain;
  Range window;       // the pixels that matter: the unknowns and their neighbours in the patch
  Range unknowns;     // the rectangle around them
  bool is_rectangle;  // all of it is unknown
  bool is_hard;       // the mask is 1 or 0 everywhere

  T* row(int64_t c, int64_t y) const {
    return rows.memory.planes + (c * rows.plan.h + y) * rows.plan.w;
  }
  const T* weights(int64_t y) const {
    return rows.memory.weight == nullptr ? nullptr : rows.memory.weight + y * rows.plan.w;
  }
  bool* inside(int64_t y) const { return rows.memory.inside + y * rows.plan.w; }
  // The same, 0 or 1: compilers vectorise conditions on bytes rather than on bool.
  const uint8_t* inside_bytes(int64_t y) const {
    return reinterpret_cast<const uint8_t*>(inside(y));
  }
};

// What an edge from p to q, each `count` of them, adds to b(p) and takes from b(q): by how much the
// guiding gradient differs from the target's.
template <int64_t kGradient, bool kWeighted, class T>
void guide_edges(const T* s_p, const T* s_q, const T* t_p, const T* t_q, const T* m_p, const T* m_q,
                 T target_gain, int64_t count, T* __restrict__ out) {
  for (int64_t i = 0; i < count; ++i) {
    const T target = t_p[i] - t_q[i];
    const T excess = guided<kGradient>(s_p[i] - s_q[i], target_gain * target) - target;
    if constexpr (kWeighted) {
      const T weight = edge_weight(m_p[i], m_q[i]);
      out[i] = weight > T{0} ? weight * excess : T{0};
    } else {
      out[i] = excess;
    }
  }
}

// b for base = target: the sum over the edges of the patch. `guide` turns two rows of source,
// target and mask into those across, within the upper row, and those down to the lower one.
template <class P, class Guide>
void fill_guided(const Blend<P>& blend, int64_t c, Guide guide) {
  using T = typename P::Compute;
  const Range& r = blend.window;
  const int64_t count = r.w();
  T* const* line = blend.rows.memory.line;
  T *s = line[0], *s_below = line[1], *t = line[2], *t_below = line[3];
  T *across = line[4], *down = line[5];
  blend.rows.source_row(c, r.y0, r.x0, count, s);
  blend.rows.target_row(c, r.y0, r.x0, count, t);
  std::memset(blend.row(c, r.y0) + r.x0, 0, static_cast<size_t>(count) * sizeof(T));
  across[-1] = across[count - 1] = T{0};
  for (int64_t y = r.y0; y < r.y1; ++y) {
    const bool is_last = y + 1 == r.y1;
    if (!is_last) {
      blend.rows.source_row(c, y + 1, r.x0, count, s_below);
      blend.rows.target_row(c, y + 1, r.x0, count, t_below);
    }
    const T* m = blend.weights(y);
    if (m != nullptr) m += r.x0;
    guide(s, is_last ? s : s_below, t, is_last ? t : t_below, m,
          is_last ? m : m + blend.rows.plan.w, count, across, down);
    T* __restrict__ b = blend.row(c, y) + r.x0;
    for (int64_t x = 0; x < count; ++x) b[x] += across[x] - across[x - 1];
    if (is_last) break;
    T* __restrict__ below = b + blend.rows.plan.w;
    for (int64_t x = 0; x < count; ++x) {
      b[x] += down[x];
      below[x] = -down[x];
    }
    std::swap(s, s_below);
    std::swap(t, t_below);
  }
}

template <int64_t kGradient, bool kWeighted, class P>
void fill_edges(const Blend<P>& blend, int64_t c) {
  using T = typename P::Compute;
  const T gain = blend.target_gain;
  fill_guided(
      blend, c,
      [gain](const T* s, const T* s_below, const T* t, const T* t_below, const T* m,
             const T* m_below, int64_t count, T* across, T* down) {
        guide_edges<kGradient, kWeighted>(s, s + 1, t, t + 1, m, m + 1, gain, count - 1, across);
        guide_edges<kGradient, kWeighted>(s, s_below, t, t_below, m, m_below, gain, count, down);
      });
}

template <bool kWeighted, class P>
void fill_by_gradient(const Blend<P>& blend, int64_t c) {
  switch (blend.gradient) {
    case kMixedGradient: return fill_edges<kMixedGradient, kWeighted>(blend, c);
    case kAverageGradient: return fill_edges<kAverageGradient, kWeighted>(blend, c);
    default: return fill_edges<kSourceGradient, kWeighted>(blend, c);
  }
}

// For base = source with the source's gradients and a hard mask b lives on the edges that leave the
// unknowns: there e is the target less the source. Where the patch ends the source goes on with the
// target's gradient, so that e is what it is one pixel before.
template <class P>
void fill_membrane(const Blend<P>& blend, int64_t c) {
  using T = typename P::Compute;
  const BlendPlan& plan = blend.rows.plan;
  const Range& r = blend.window;
  const int64_t count = r.w();
  T* const* line = blend.rows.memory.line;
  T *above = line[0], *here = line[1], *below = line[2];  // e, and 0 for unknowns
  T *all = line[3], *all_below = line[4];                 // e of all pixels
  const auto load = [&](int64_t y, T* __restrict__ e, T* __restrict__ known) {
    const T* __restrict__ source = line[5];
    const T* __restrict__ target = line[6];
    blend.rows.source_row(c, y, r.x0, count, line[5]);
    blend.rows.target_row(c, y, r.x0, count, line[6]);
    const uint8_t* __restrict__ is_unknown = blend.inside_bytes(y) + r.x0;
    for_bytes(count, [=](int64_t x) {
      const T value = target[x] - source[x];
      e[x] = value;
      known[x] = is_unknown[x] != 0 ? T{0} : value;
    });
  };
  for (T* known : {above, here, below}) known[-1] = known[count] = T{0};
  std::memset(above, 0, static_cast<size_t>(count) * sizeof(T));
  load(r.y0, all, here);
  for (int64_t y = r.y0; y < r.y1; ++y) {
    const bool is_first = y == r.y0, is_last = y + 1 == r.y1;
    if (is_last) {
      std::memset(below, 0, static_cast<size_t>(count) * sizeof(T));
    } else {
      load(y + 1, all_below, below);
    }
    T* __restrict__ b = blend.row(c, y) + r.x0;
    for (int64_t x = 0; x < count; ++x) b[x] = above[x] + below[x] + (here[x - 1] + here[x + 1]);
    const auto add_all = [&](int64_t first, int64_t last) {
      for (int64_t x = first; x < last; ++x) b[x] += all[x];
    };
    if (is_first && r.y0 == 0 && !plan.top) add_all(0, count);
    if (is_last && r.y1 == plan.h && !plan.bottom) add_all(0, count);
    if (r.x0 == 0 && !plan.left) add_all(0, 1);
    if (r.x1 == plan.w && !plan.right) add_all(count - 1, count);
    T* free = above;
    above = here, here = below, below = free;
    std::swap(all, all_below);
  }
}

// The same for a rectangle with known values all around it: only its outermost unknowns have such
// edges.
template <class P>
void fill_frame(const Blend<P>& blend, int64_t c) {
  using T = typename P::Compute;
  const Range& u = blend.unknowns;
  const int64_t reach = blend.window.y0 == u.y0 ? 0 : 1;  // whether the frame is part of the patch
  T* const* line = blend.rows.memory.line;
  const auto load = [&](int64_t y, int64_t x, int64_t count, T* to) {
    blend.rows.source_row(c, y, x, count, to);
    blend.rows.target_row(c, y, x, count, line[1]);
    for (int64_t i = 0; i < count; ++i) to[i] = line[1][i] - to[i];
  };
  for (int64_t y = u.y0; y < u.y1; ++y) {
    T* b = blend.row(c, y) + u.x0;
    std::memset(b, 0, static_cast<size_t>(u.w()) * sizeof(T));
    T left, right;
    load(y, u.x0 - reach, 1, &left);
    load(y, u.x1 - 1 + reach, 1, &right);
    b[0] += left;
    b[u.w() - 1] += right;
  }
  const auto add_row = [&](int64_t from, int64_t to) {
    load(from, u.x0, u.w(), line[0]);
    T* __restrict__ b = blend.row(c, to) + u.x0;
    for (int64_t x = 0; x < u.w(); ++x) b[x] += line[0][x];
  };
  add_row(u.y0 - reach, u.y0);
  add_row(u.y1 - 1 + reach, u.y1 - 1);
}

}  // namespace ssad::SSAD_LEVEL
