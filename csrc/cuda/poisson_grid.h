// SPDX-License-Identifier: Apache-2.0
// The grids of a multigrid hierarchy, and where their values lie in a block's shared memory.
#pragma once

#include <type_traits>

#include "block.h"
#include "poisson.h"

namespace ssad::cuda {

enum Colour { kRed = 0, kBlack = 1 };

// A plane of unknowns by colour, like a chess board: row y holds its points x of each colour at
// column x / 2; a point is red if x + y + first_row is even. So a half sweep of red-black smoothing
// reads and writes neighbouring words. Around the rows there are zeros: a row above and below, and
// at least one before each row, which is also the one after the row before; the last one is
// followed by one. The same grid as on the CPU (see csrc/cpu/poisson_grid.h), but padded for the
// banks of shared memory instead of for vectors.
struct Grid {
  int h, w;
  int first_row;  // 1 in a grid of one row, so that its coarse points are red, too
  int stride;     // from row to row
  int colour;     // from a red point to the black one of the same row and column
  int lanes;      // the columns of a colour, as a power of two that is not smaller: 1 << lanes
  int start;      // of its values in the planes of all coarse grids; 0 for the finest
  int bits;       // of its rows in the mask's bits
  int natural;    // sides, see NaturalSide

  __device__ int parity(int y) const { return (y + first_row) & 1; }
  __device__ int row(int y) const { return (y + 1) * stride + 1; }
  // Also of the points around the grid.
  __device__ int index(int y, int x) const {
    return row(y) + (x >> 1) + (((x ^ parity(y)) & 1) != 0 ? colour : 0);
  }
  __device__ bool is_natural(int side) const { return (natural & side) != 0; }
};

// Where the unknowns lie in the plane: the rectangle around the mask, turned so that it is not
// higher than wide.
struct Box {
  int y, x;  // of its first pixel
  int h, w;
  int is_turned;
  int natural;   // sides of the box, turned with it, that are the image's border
  int unknowns;  // none: the rest is not filled in
  int is_full;   // the mask is the image: nothing is known
  int levels;    // grids of the hierarchy, once it is built

  __device__ int pixel_y(int y_, int x_) const { return y + (is_turned ? x_ : y_); }
  __device__ int pixel_x(int y_, int x_) const { return x + (is_turned ? y_ : x_); }
};

// Odd, since coarse points read every second row of the finer grid, which then start in different
// banks; so no two lanes of a warp's third row or later meet those of its first.
__host__ __device__ constexpr int stride_of(int w) { return ((w + 1) / 2 + 1) | 1; }

// Half the banks away, so that a row of both colours, as coarse grids have them for the red points
// of finer ones, is read without conflict.
__host__ __device__ constexpr int colour_of(int h, int stride) {
  constexpr int kBanks = 32, kHalf = 16;
  const int words = (h + 2) * stride + 1;
  return (words + kHalf - 1) / kBanks * kBanks + kHalf;
}

// A block for planes of at most kSide x kSide.
template <int kSide>
struct Layout {
  // Pixels of a colour for each thread.
  static constexpr int kSlots = kSide > kMediumSide ? 16 : 8;
  static constexpr int kThreads = kSide * kSide / (2 * kSlots);
  // Blocks that a multiprocessor shall have room for: 128 registers for each of 512 threads. With
  // more blocks, so fewer registers, the vectors of a thread no longer fit (see
  // docs/design/003-gpu-slice.md).
  static constexpr int kBlocks = 512 / kThreads;
  // Whether a thread has registers for two of its four vectors only, and the others are in global
  // memory, in so many elements of each plane.
  static constexpr bool kParks = kSlots > 8;
  static constexpr int kParked = kParks ? 2 * kSide * kSide : 0;
  static constexpr int kMostLevels = 8;
  // Of a row of bits.
  static constexpr int kRowWords = kSide > 64 ? kSide / 64 : 1;
  // Four bits for each slot.
  using Edges = std::conditional_t<(kSlots > 8), uint64_t, uint32_t>;

  static constexpr int plane_words(int side) { return 2 * colour_of(side, stride_of(side)); }
  static constexpr int hierarchy_words(int side) {
    return plane_words(side) + (side > 1 ? hierarchy_words(side / 2) : 0);
  }

  // Of the finest grid.
  static constexpr int kStride = stride_of(kSide);
  static constexpr int kColour = colour_of(kSide, kStride);
  static constexpr int kFine = plane_words(kSide);
  static constexpr int kCoarse = hierarchy_words(kSide / 2);

  // In bytes; what has the widest elements comes first.
  static constexpr int kPixels = 0;
  static constexpr int kBits = kPixels + kSide * kRowWords * int{sizeof(uint64_t)};
  static constexpr int kSumSlots = kBits + 2 * kSide * kRowWords * int{sizeof(uint64_t)};
  static constexpr int kFloatSlots = kSumSlots + kMostWarps * int{sizeof(double)};
  static constexpr int kGrids = kFloatSlots + kMostWarps * int{sizeof(float)};
  static constexpr int kBox = kGrids + kMostLevels * int{sizeof(uint32_t)};
  static constexpr int kFineU = kBox + int{sizeof(Box)};
  static constexpr int kFineEnd = kFineU + kFine * int{sizeof(float)};
  static constexpr int kEdges = (kFineEnd + alignof(Edges) - 1) / alignof(Edges) * alignof(Edges);
  static constexpr int kFineBytes = kEdges + 2 * kThreads * int{sizeof(Edges)};
  // Coarse grids, if any.
  static constexpr int kU = kFineBytes;
  static constexpr int kF = kU + kCoarse * int{sizeof(float)};
  static constexpr int kInverse = kF + kCoarse * int{sizeof(float)};
  static_assert(kSide < 1 << 8 && kCoarse < 1 << 16);  // see packed()
  static constexpr int kBytes = kInverse + kCoarse * int{sizeof(float)};
};

__device__ inline Grid make_grid(int h, int w, int start, int bits, int natural) {
  const int columns = (w + 1) / 2, stride = stride_of(w), lanes = 64 - __clzll(columns - 1);
  return {h, w, h == 1 ? 1 : 0, stride, colour_of(h, stride), lanes, start, bits, natural};
}

// With the strides of the largest one, whatever its size: the compiler knows them.
template <int kSide>
__device__ Grid make_finest_grid(int h, int w, int natural) {
  Grid g = make_grid(h, w, 0, 0, natural);
  g.stride = Layout<kSide>::kStride;
  g.colour = Layout<kSide>::kColour;
  return g;
}

// A grid in a word, since all threads fetch it again and again; but for its bits, which only
// building the hierarchy needs. The start is a multiple of 16.
__device__ inline uint32_t packed(const Grid& g) {
  const auto start = static_cast<uint32_t>(g.start);
  return static_cast<uint32_t>(g.natural | g.h << 4 | g.w << 12) | start << 16;
}

__device__ inline Grid unpacked(uint32_t word) {
  const auto field = [=](int first, int bits) {
    return static_cast<int>(word >> first & ((1u << bits) - 1));
  };
  return make_grid(field(4, 8), field(12, 8), field(20, 12) * 16, 0, field(0, 4));
}

// Coarse point i lies on fine point 2 i + 1. A grid that is one row high is coarsened along it.
__device__ inline Grid coarsened(const Grid& g, bool is_finest) {
  const int start = is_finest ? 0 : g.start + 2 * g.colour;
  return make_grid(g.h > 1 ? g.h / 2 : 1, g.w / 2, start, g.bits + g.h, g.natural);
}

__device__ inline bool can_coarsen(const Grid& g) { return g.w > 1; }

// A block's shared memory. `fine` is the only plane of the finest grid: the rest of it is in
// registers, or parked.
template <int kSide>
struct Memory {
  Shared<uint64_t> pixels;  // the mask of the plane, kRowWords for each row
  Shared<uint64_t> bits;    // the masks of all grids, likewise
  Shared<double> slots;
  Shared<float> float_slots;
  Shared<uint32_t> grids;  // packed
  Shared<Box> box;
  Shared<typename Layout<kSide>::Edges> edges;  // of the finest grid's points, see FinePoints
  Shared<float> fine;
  Shared<float> u, f, inverse;  // of the coarse grids: u is about inverse(A) f; 1 / degree or 0
  Global<float> parked;         // kParked elements
};

// The vectors that a solver keeps on the finest grid, where it cannot in registers.
enum class Parked : int { kSolution, kDirection };

// Bit x of a row.
template <int kSide>
__device__ bool bit_at(const Shared<uint64_t>& rows, int y, int x) {
  constexpr int kWords = Layout<kSide>::kRowWords;
  const uint64_t word = rows[kWords == 1 ? y : y * kWords + (x >> 6)];
  return (word >> (kWords == 1 ? x : x & 63) & 1) != 0;
}

template <int kSide>
__device__ Grid finest_grid(const Memory<kSide>& m) {
  const Grid g = unpacked(m.grids[0]);
  return make_finest_grid<kSide>(g.h, g.w, g.natural);
}

// Without coarse grids: the first kFineBytes.
template <int kSide>
__device__ Memory<kSide> carve_finest(unsigned char* bytes) {
  using L = Layout<kSide>;
  return {shared_array<uint64_t>(bytes, L::kPixels, kSide * L::kRowWords),
          shared_array<uint64_t>(bytes, L::kBits, 2 * kSide * L::kRowWords),
          shared_array<double>(bytes, L::kSumSlots, kMostWarps),
          shared_array<float>(bytes, L::kFloatSlots, kMostWarps),
          shared_array<uint32_t>(bytes, L::kGrids, L::kMostLevels),
          shared_array<Box>(bytes, L::kBox, 1),
          shared_array<typename L::Edges>(bytes, L::kEdges, 2 * L::kThreads),
          shared_array<float>(bytes, L::kFineU, L::kFine),
          {},
          {},
          {},
          {}};
}

template <int kSide>
__device__ Memory<kSide> carve(unsigned char* bytes) {
  using L = Layout<kSide>;
  Memory<kSide> m = carve_finest<kSide>(bytes);
  m.u = shared_array<float>(bytes, L::kU, L::kCoarse);
  m.f = shared_array<float>(bytes, L::kF, L::kCoarse);
  m.inverse = shared_array<float>(bytes, L::kInverse, L::kCoarse);
  return m;
}

}  // namespace ssad::cuda
