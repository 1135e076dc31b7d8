// SPDX-License-Identifier: Apache-2.0
// The points of a grid, as the threads of a group share them out.
#pragma once

#include "poisson_mask.h"

namespace ssad::cuda {

struct Point {
  int at;  // in the grid's planes
  int y, x;
  int shift;  // how far the second neighbour in the row is from where the first one is
  // Finest grid only: where the point is in a thread's vectors, and how many edges it has.
  int slot;
  uint32_t edges;
};

// In place of the number of edges: no unknown; an unknown without any.
constexpr uint32_t kNotUnknown = 0, kNoEdges = 5;

// Sum of the neighbours, which all have the other colour.
template <int kColour, class Points>
__device__ float around(const Points& points, const Point& point) {
  const int at = point.at + (kColour == kRed ? points.to_black() : -points.to_black());
  const float beside = points.u[at], further = points.u[at + point.shift];
  const float above = points.u[at - points.stride()], below = points.u[at + points.stride()];
  return neighbour_sum(beside, further, above, below);
}

// Interpolation at a natural border repeats the last coarse point instead of fading to zero. (The
// first row is not the last one, nor the first column: grids are not higher than wide.)
__device__ inline float border_factor(const Grid& g, int y, int x) {
  if (g.h == 1 || (y & 1) != 0) return 1.0f;
  const bool top_or_bottom =
      (g.is_natural(kTop) && y == 0) || (g.is_natural(kBottom) && y == g.h - 1);
  const bool left_or_right =
      (g.is_natural(kLeft) && x == 0) || (g.is_natural(kRight) && x == g.w - 1);
  return (top_or_bottom ? 2.0f : 1.0f) * (left_or_right ? 2.0f : 1.0f);
}

template <int kSide, class Term>
__device__ float sum_of(Term term) {
  float sum = 0.0f;
  SSAD_UNROLL
  for (int colour = 0; colour < 2; ++colour) {
    SSAD_UNROLL
    for (int i = 0; i < Layout<kSide>::kSlots; ++i) {
      SSAD_TURN(2 * (Layout<kSide>::kSlots + i) + colour);  // not those of the points before
      sum += term(colour, i);
    }
  }
  return sum;
}

// A thread's part of a vector on the finest grid, in registers: all indices are known when
// compiling. Slots of points that are no unknowns hold zeros.
template <int kSide>
struct Vector {
  static constexpr int kSlots = Layout<kSide>::kSlots;
  float of[2][kSlots];

  __device__ Vector() {}
  __device__ Vector(const Memory<kSide>&, Parked) {}

  __device__ float operator()(int colour, int i) const { return of[colour][i]; }
  __device__ void put(int colour, int i, float value) { of[colour][i] = value; }

  template <class Value>
  __device__ void fill(Value value) {
    SSAD_UNROLL
    for (int colour = 0; colour < 2; ++colour) {
      SSAD_UNROLL
      for (int i = 0; i < kSlots; ++i) of[colour][i] = value(colour, i);
    }
  }

  // By what it was: value(colour, i, old).
  template <class Value>
  __device__ void update(Value value) {
    fill([&](int colour, int i) { return value(colour, i, of[colour][i]); });
  }

  __device__ float sum() const {
    return sum_of<kSide>([&](int colour, int i) { return of[colour][i]; });
  }

  // In a slot that is known only when running.
  __device__ void set(int colour, int slot, float value) {
    fill([&](int c, int i) { return c == colour && i == slot ? value : of[c][i]; });
  }
};

// The same in global memory, for its thread alone, and of unknowns alone: slot by slot, so that a
// warp's elements lie side by side.
template <int kSide>
struct ParkedVector {
  using L = Layout<kSide>;
  Shared<typename L::Edges> edges;  // see FinePoints
  Global<float> of_slots;

  __device__ ParkedVector(const Memory<kSide>& m, Parked which) : edges(m.edges) {
    of_slots = m.parked + (static_cast<int>(which) * kSide * kSide + static_cast<int>(threadIdx.x));
  }

  __device__ static int place(int colour, int i) { return (colour * L::kSlots + i) * L::kThreads; }

  __device__ float operator()(int colour, int i) const { return of_slots[place(colour, i)]; }
  __device__ void put(int colour, int i, float value) { of_slots[place(colour, i)] = value; }

  template <class Act>
  __device__ void each(Act act) const {
    SSAD_UNROLL
    for (int colour = 0; colour < 2; ++colour) {
      const typename L::Edges packed = edges[colour * L::kThreads + static_cast<int>(threadIdx.x)];
      SSAD_UNROLL
      for (int i = 0; i < L::kSlots; ++i) {
        SSAD_TURN(2 * i + colour);
        if ((packed >> 4 * i & 15u) != 0) act(colour, i);
      }
    }
  }

  template <class Value>
  __device__ void fill(Value value) {
    each([&](int colour, int i) { put(colour, i, value(colour, i)); });
  }

  template <class Value>
  __device__ void update(Value value) {
    each([&](int colour, int i) { put(colour, i, value(colour, i, (*this)(colour, i))); });
  }

  __device__ float sum() const {
    float sum = 0.0f;
    each([&](int colour, int i) { sum += (*this)(colour, i); });
    return sum;
  }
};

// A vector that a solver keeps from one iteration to the next, and looks at once in each.
template <int kSide>
using KeptVector = std::conditional_t<Layout<kSide>::kParks, ParkedVector<kSide>, Vector<kSide>>;

template <int kSide>
__device__ float largest_of(const Vector<kSide>& vector) {
  float most = 0.0f;
  SSAD_UNROLL
  for (int colour = 0; colour < 2; ++colour) {
    SSAD_UNROLL
    for (int i = 0; i < Vector<kSide>::kSlots; ++i) {
      most = fmaxf(most, fabsf(vector.of[colour][i]));
    }
  }
  return most;
}

// The finest grid. A thread owns a strip of each colour, kSlots rows of a column; a warp's threads
// lie side by side. So what only its owner needs, as the right-hand side, stays in registers, and
// a neighbour above or below is read once for the strip; but the numbers of edges, four bits each,
// are fetched anew after each barrier, lest the compiler keeps an unpacked copy in registers.
template <int kSide>
struct FinePoints {
  static constexpr int kColumns = kSide / 2;
  static constexpr int kThreads = Layout<kSide>::kThreads;
  static constexpr int kRows = Layout<kSide>::kSlots;
  static constexpr int kStrips = kSide / kRows;
  static constexpr int kStripsOfWarp = kWarp > kColumns ? kWarp / kColumns : 1;
  using Edges = typename Layout<kSide>::Edges;
  static_assert(kThreads / kColumns == kStrips && kRows % 2 == 0);

  Grid grid;
  Shared<float> u;
  Shared<Edges> edges;  // one per colour and thread
  Vector<kSide> right_hand_side;

  __device__ FinePoints(const Memory<kSide>& m) : u(m.fine), edges(m.edges) {
    grid = finest_grid<kSide>(m);
  }

  __device__ static constexpr int stride() { return Layout<kSide>::kStride; }
  __device__ static constexpr int to_black() { return Layout<kSide>::kColour; }
  __device__ static int column() { return static_cast<int>(threadIdx.x) % kColumns; }
  // Of the first point. The strips of a warp are as far apart as they can, in different banks.
  __device__ static int row() {
    const int i = static_cast<int>(threadIdx.x) / kColumns;
    return (i % kStripsOfWarp * (kStrips / kStripsOfWarp) + i / kStripsOfWarp) * kRows;
  }

  __device__ Point first_point(int colour) const {
    const int odd = grid.parity(row()) ^ colour;
    const int at = (row() + 1) * stride() + 1 + column() + (colour == kRed ? 0 : to_black());
    return {at, row(), 2 * column() + odd, odd != 0 ? 1 : -1, 0, kNotUnknown};
  }

  __device__ Point point_after(const Point& first, int rows, Edges packed) const {
    const int shift = rows % 2 == 0 ? first.shift : -first.shift;
    return {first.at + rows * stride(),
            first.y + rows,
            rows % 2 == 0 ? first.x : first.x - first.shift,
            shift,
            rows,
            static_cast<uint32_t>(packed >> 4 * rows & 15u)};
  }

  __device__ Edges packed_edges(int colour) const {
    const Edges packed = edges[colour * kThreads + static_cast<int>(threadIdx.x)];
    return packed;
  }

  // The unknowns of a colour. Elsewhere the plane keeps its zeros.
  template <int kColour, class Act>
  __device__ void each(Act act) const {
    const Edges packed = packed_edges(kColour);
    const Point first = first_point(kColour);
    SSAD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      SSAD_TURN(2 * i + kColour);
      const Point point = point_after(first, i, packed);
      if (point.edges != kNotUnknown) act(point);
    }
  }

  // The unknowns of a colour with the sums of their neighbours, which all have the other one;
  // in_strip(at, i) is the one in row i of the thread's own column.
  template <int kColour, class InStrip, class Act>
  __device__ void each_around_in(InStrip in_strip, Act act) const {
    const Edges packed = packed_edges(kColour);
    if (packed == 0) return;
    const Point first = first_point(kColour);
    const int at = first.at + (kColour == kRed ? to_black() : -to_black());
    float above = u[at - stride()], beside = in_strip(at, 0);
    SSAD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      SSAD_TURN(2 * i + kColour);
      const Point point = point_after(first, i, packed);
      const float further = u[at + i * stride() + point.shift];
      const float below = i + 1 < kRows ? in_strip(at, i + 1) : u[at + kRows * stride()];
      if (point.edges != kNotUnknown) act(point, neighbour_sum(beside, further, above, below));
      above = beside;
      beside = below;
    }
  }

  template <int kColour, class Act>
  __device__ void each_around(Act act) const {
    each_around_in<kColour>([&](int at, int i) -> float { return u[at + i * stride()]; }, act);
  }

  // With the vector in the shared plane, which is `own` of all threads.
  template <int kColour, class Own, class Act>
  __device__ void each_around(const Own& own, Act act) const {
    constexpr int kOther = kColour == kRed ? kBlack : kRed;
    each_around_in<kColour>([&](int, int i) { return own(kOther, i); }, act);
  }

  // The unknowns of both colours, in a loop: for what is long, done only once or twice, and touches
  // no Vector but with `set`.
  template <class Act>
  __device__ void each_unknown(const Memory<kSide>& m, Act act) const {
    for (int colour = 0; colour < 2; ++colour) {
      SSAD_TURN(colour);
      const Point first = first_point(colour);
      SSAD_NO_UNROLL
      for (int i = 0; i < kRows; ++i) {
        SSAD_TURN(i);
        const Point point = point_after(first, i, 0);
        if (is_unknown(m, grid, point.y, point.x)) act(colour, point);
      }
    }
  }

  // Of the thread's own points; nobody else reads them.
  __device__ void count_edges(const Memory<kSide>& m) const {
    Edges packed[2] = {0, 0};
    each_unknown(m, [&](int colour, const Point& point) {
      const auto count = static_cast<Edges>(edges_at(grid, point.y, point.x));
      packed[colour == kRed ? 0 : 1] |= (count == 0 ? Edges{kNoEdges} : count) << 4 * point.slot;
    });
    edges[static_cast<int>(threadIdx.x)] = packed[kRed];
    edges[kThreads + static_cast<int>(threadIdx.x)] = packed[kBlack];
  }

  template <int kColour>
  __device__ float inverse(const Point& point) const {
    switch (point.edges) {
      case kNotUnknown: return 0.0f;
      case 2: return 0.5f;
      case 3: return 1.0f / 3.0f;
      case 4: return 0.25f;
      default: return 1.0f;
    }
  }

  // At a red unknown. Without a border there would be four edges.
  __device__ float border_factor(const Point& point) const {
    if (grid.h == 1 || (point.y & 1) != 0) return 1.0f;
    return point.edges == 4 ? 1.0f : point.edges == 3 ? 2.0f : 4.0f;
  }

  template <int kColour>
  __device__ float f(const Point& point) const {
    return right_hand_side.of[kColour][point.slot];
  }
};

// What the shared plane has at a thread's own points, by their slots.
template <int kSide>
struct OwnPlane {
  Shared<float> u;
  int first;

  __device__ explicit OwnPlane(const FinePoints<kSide>& points)
      : u(points.u), first(points.first_point(kRed).at) {}

  __device__ int place(int colour, int i) const {
    return first + (colour == kRed ? 0 : Layout<kSide>::kColour) + i * Layout<kSide>::kStride;
  }
  __device__ float operator()(int colour, int i) const { return u[place(colour, i)]; }
};

// A vector that was shared, from where it is nearer.
template <int kSide>
__device__ const Vector<kSide>& nearest(const FinePoints<kSide>&, const Vector<kSide>& vector) {
  return vector;
}

template <int kSide>
__device__ OwnPlane<kSide> nearest(const FinePoints<kSide>& points, const ParkedVector<kSide>&) {
  return OwnPlane<kSide>(points);
}

// A coarse grid, shared out among a group; everything is in shared memory.
template <class Group>
struct CoarsePoints {
  Group group;
  Grid grid;
  Shared<float> u, right_hand_side, inverses;

  template <int kSide>
  __device__ CoarsePoints(const Memory<kSide>& m, int level) : grid(unpacked(m.grids[level])) {
    u = m.u + grid.start;
    right_hand_side = m.f + grid.start;
    inverses = m.inverse + grid.start;
  }

  __device__ int stride() const { return grid.stride; }
  __device__ int to_black() const { return grid.colour; }

  __device__ float border_factor(const Point& point) const {
    return cuda::border_factor(grid, point.y, point.x);
  }

  template <int kColour, class Act>
  __device__ void each(Act act) const {
    const int columns = 1 << grid.lanes;
    for (int i = group.rank(); i < grid.h << grid.lanes; i += group.size()) {
      SSAD_TURN(2 * (i - group.rank()) + kColour);
      const int y = i >> grid.lanes, column = i & (columns - 1);
      const int odd = grid.parity(y) ^ kColour;
      const int x = 2 * column + odd;
      if (x >= grid.w) continue;
      const int at = grid.row(y) + column + (kColour == kRed ? 0 : grid.colour);
      act(Point{at, y, x, odd != 0 ? 1 : -1, 0, kNotUnknown});
    }
  }

  template <int kColour, class Act>
  __device__ void each_around(Act act) const {
    each<kColour>([&](const Point& point) { act(point, around<kColour>(*this, point)); });
  }

  template <int kColour>
  __device__ float inverse(const Point& point) const {
    return inverses[point.at];
  }

  template <int kColour>
  __device__ float f(const Point& point) const {
    return right_hand_side[point.at];
  }
};

}  // namespace ssad::cuda
