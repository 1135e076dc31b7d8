// SPDX-License-Identifier: Apache-2.0
// From a mask to its hierarchy, by the block that solves on it.
#pragma once

#include "poisson_grid.h"
#include "ssad/poisson.h"

namespace ssad::cuda {

template <int kSide>
__device__ bool is_unknown(const Memory<kSide>& m, const Grid& g, int y, int x) {
  if (y < 0 || y >= g.h || x < 0 || x >= g.w) return false;
  return bit_at<kSide>(m.bits, g.bits + y, x);
}

// An unknown, or beyond the image: nothing there holds the solution to zero.
template <int kSide>
__device__ bool is_free(const Memory<kSide>& m, const Grid& g, int y, int x) {
  if (y < 0) return g.is_natural(kTop);
  if (y >= g.h) return g.is_natural(kBottom);
  if (x < 0) return g.is_natural(kLeft);
  if (x >= g.w) return g.is_natural(kRight);
  return is_unknown(m, g, y, x);
}

// Rows of bits, one by each warp: bit x of row y is is_set(y, x).
template <int kSide, class IsSet>
__device__ void fill_rows(int h, int w, IsSet is_set, Shared<uint64_t> rows) {
  constexpr int kWords = Layout<kSide>::kRowWords;
  for (int y = warp_index(); y < h; y += warp_count()) {
    SSAD_UNROLL
    for (int i = 0; i < kWords; ++i) {
      const int rest = w - 64 * i;
      uint64_t word = 0;
      for (int x = 0; x < 64 && x < rest; x += kWarp) {
        const int own = x + lane_index();
        const uint64_t part = __ballot_sync(kWholeWarp, own < rest && is_set(y, 64 * i + own));
        word |= part << x;
      }
      if (lane_index() == 0) rows[y * kWords + i] = word;
    }
  }
}

// By one warp; its first lane writes the box.
template <int kSide>
__device__ void find_box(const Memory<kSide>& m, int h, int w, int natural) {
  constexpr int kWords = Layout<kSide>::kRowWords;
  int y0 = kSide, end_y = 0, x0 = kSide, end_x = 0, unknowns = 0;
  for (int i = lane_index(); i < h * kWords; i += kWarp) {
    SSAD_TURN(i - lane_index());
    const uint64_t word = m.pixels[i];
    if (word == 0) continue;
    const int y = i / kWords, first = i % kWords * 64;
    const auto bits = static_cast<long long>(word);
    y0 = smaller(y0, y);
    end_y = y + 1;
    x0 = smaller(x0, first + __ffsll(bits) - 1);
    end_x = larger(end_x, first + 64 - __clzll(bits));
    unknowns += __popcll(word);
  }
  SSAD_UNROLL
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    y0 = smaller(y0, __shfl_xor_sync(kWholeWarp, y0, distance));
    end_y = larger(end_y, __shfl_xor_sync(kWholeWarp, end_y, distance));
    x0 = smaller(x0, __shfl_xor_sync(kWholeWarp, x0, distance));
    end_x = larger(end_x, __shfl_xor_sync(kWholeWarp, end_x, distance));
    unknowns += __shfl_xor_sync(kWholeWarp, unknowns, distance);
  }
  if (lane_index() != 0) return;
  Box box = {0, 0, 0, 0, 0, 0, unknowns, 0, 0};
  if (unknowns > 0) {
    box.y = y0;
    box.x = x0;
    const bool top = (natural & kTop) != 0 && box.y == 0;
    const bool bottom = (natural & kBottom) != 0 && end_y == h;
    const bool left = (natural & kLeft) != 0 && box.x == 0;
    const bool right = (natural & kRight) != 0 && end_x == w;
    const int rows = end_y - box.y, columns_ = end_x - box.x;
    box.is_turned = rows > columns_;
    box.h = box.is_turned ? columns_ : rows;
    box.w = box.is_turned ? rows : columns_;
    const bool is_turned = box.is_turned != 0;
    box.natural =
        ((is_turned ? left : top) ? kTop : 0) | ((is_turned ? right : bottom) ? kBottom : 0) |
        ((is_turned ? top : left) ? kLeft : 0) | ((is_turned ? bottom : right) ? kRight : 0);
    box.is_full = unknowns == h * w && top && bottom && left && right;
  }
  m.box[0] = box;
}

// Reads a sample's mask and finds its box. Ends with a barrier.
template <int kSide>
__device__ Box read_mask(const Memory<kSide>& m, Global<const bool> mask, int h, int w,
                         int natural) {
  const BlockGroup block;
  fill_rows<kSide>(h, w, [=](int y, int x) { return mask[y * w + x]; }, m.pixels);
  block.sync();
  if (warp_index() == 0) find_box<kSide>(m, h, w, natural);
  block.sync();
  return m.box[0];
}

// How many edges a point of the finest grid has.
__device__ inline int edges_at(const Grid& g, int y, int x) {
  return 4 - (g.is_natural(kTop) && y == 0) - (g.is_natural(kBottom) && y == g.h - 1) -
         (g.is_natural(kLeft) && x == 0) - (g.is_natural(kRight) && x == g.w - 1);
}

template <int kSide>
__device__ bool is_coarse_unknown_at(const Memory<kSide>& m, const Grid& g, int y, int x) {
  const int fine_y = g.h > 1 ? 2 * y + 1 : 0, fine_x = 2 * x + 1;
  int free_neighbours = is_free(m, g, fine_y, fine_x - 1) + is_free(m, g, fine_y, fine_x + 1);
  if (g.h > 1) {
    free_neighbours += is_free(m, g, fine_y - 1, fine_x) + is_free(m, g, fine_y + 1, fine_x);
  } else if (free_neighbours == 2) {
    free_neighbours = 4;  // along a single row both neighbours are needed
  }
  return is_coarse_unknown(is_unknown(m, g, fine_y, fine_x), free_neighbours);
}

// A hole that no coarse point sees still holds its surroundings to zero. Each of them gets a leak
// for it, as if it had further edges to boundary pixels, and hands its leak on to coarser grids.
// The finest grid has no leaks; those of another one are where its f will be.
template <int kSide>
__device__ float coarse_leak(const Memory<kSide>& m, const Grid& g, bool is_finest, int y, int x) {
  const int fine_y = g.h > 1 ? 2 * y + 1 : 0, fine_x = 2 * x + 1;
  const int reach = g.h > 1 ? 1 : 0;
  float sum = 0.0f;
  for (int dy = -reach; dy <= reach; ++dy) {
    for (int dx = -1; dx <= 1; ++dx) {
      SSAD_TURN(3 * dy + dx + 4);
      const int near_y = fine_y + dy, near_x = fine_x + dx;
      if (near_y >= g.h || near_x >= g.w) continue;
      const float weight = (dy == 0 ? 1.0f : 0.5f) * (dx == 0 ? 1.0f : 0.5f);
      if (is_free(m, g, near_y, near_x)) {
        const float leak = is_finest ? 0.0f : m.f[g.start + g.index(near_y, near_x)];
        sum += weight * leak;
      } else if (is_free(m, g, near_y + dy, near_x + dx)) {
        sum += weight * static_cast<float>(kPoissonHoleLeak);
      }
    }
  }
  return g.h > 1 ? sum : 2.0f * sum;
}

// 1 / degree. In a grid of one row that came from a coarser and coarser one, an edge across weighs
// `across` times one along.
__device__ inline float coarse_inverse(const Grid& g, int y, int x, float across, float leak) {
  const int vertical = 2 - (g.is_natural(kTop) && y == 0) - (g.is_natural(kBottom) && y == g.h - 1);
  const int horizontal =
      2 - (g.is_natural(kLeft) && x == 0) - (g.is_natural(kRight) && x == g.w - 1);
  const float degree =
      static_cast<float>(horizontal) + across * static_cast<float>(vertical) + leak;
  return degree > 0.0f ? 1.0f / degree : 1.0f;
}

// The finest grid, with its bits; its plane gets its zeros. Ends with a barrier.
template <int kSide>
__device__ Grid build_finest_grid(const Memory<kSide>& m, const Box& box) {
  const BlockGroup block;
  const Grid fine = make_finest_grid<kSide>(box.h, box.w, box.natural);
  for (int i = block.rank(); i < Layout<kSide>::kFine; i += block.size()) m.fine[i] = 0.0f;
  const auto is_set = [&](int y, int x) {
    return bit_at<kSide>(m.pixels, box.pixel_y(y, x), box.pixel_x(y, x));
  };
  fill_rows<kSide>(box.h, box.w, is_set, m.bits);
  if (block.rank() == 0) m.grids[0] = packed(fine);
  block.sync();
  return fine;
}

// Fills the bits of all grids, and inverse of the coarse ones; u gets its zeros, and the box the
// number of grids. Coarse grids and box are to be looked at after the next barrier only.
template <int kSide>
__device__ void build_hierarchy(const Memory<kSide>& m, const Box& box) {
  constexpr int kWords = Layout<kSide>::kRowWords;
  const BlockGroup block;
  for (int i = block.rank(); i < Layout<kSide>::kCoarse; i += block.size()) m.u[i] = 0.0f;
  Grid fine = build_finest_grid<kSide>(m, box);
  float across = 1.0f;
  int levels = 1;
  while (can_coarsen(fine)) {
    const bool is_finest = levels == 1;
    const Grid coarse = coarsened(fine, is_finest);
    const Shared<uint64_t> bits = m.bits + coarse.bits * kWords;
    fill_rows<kSide>(
        coarse.h, coarse.w, [&](int y, int x) { return is_coarse_unknown_at(m, fine, y, x); },
        bits);
    block.sync();
    uint64_t any = 0;
    for (int i = 0; i < coarse.h * kWords; ++i) any |= bits[i];
    if (any == 0) break;
    if (fine.h == 1) across *= 4.0f;
    const int log_width = coarse.lanes + 1;  // of both colours
    for (int i = block.rank(); i < coarse.h << log_width; i += block.size()) {
      SSAD_TURN(i - block.rank());
      const int y = i >> log_width, x = i & ((1 << log_width) - 1);
      if (x >= coarse.w) continue;
      const int at = coarse.start + coarse.index(y, x);
      const float leak = coarse_leak(m, fine, is_finest, y, x);
      m.f[at] = leak;
      m.inverse[at] =
          is_unknown(m, coarse, y, x) ? coarse_inverse(coarse, y, x, across, leak) : 0.0f;
    }
    if (block.rank() == 0) m.grids[levels] = packed(coarse);
    fine = coarse;  // its leaks are read after the next barrier only
    ++levels;
  }
  if (block.rank() != 0) return;
  Box known = box;
  known.levels = levels;
  m.box[0] = known;
}

}  // namespace ssad::cuda
