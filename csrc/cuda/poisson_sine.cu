// SPDX-License-Identifier: Apache-2.0
// Planes without a mask: everything but the outermost pixels is unknown. A block takes a plane and
// solves directly: sine transforms along the rows and the columns are four products with small
// matrices, and between them each mode is divided by its eigenvalue. A product's sums are in
// registers, a tile for each thread, and replace the plane, which is all there is in shared memory
// but for a few rows of the matrix. Sums are in the order of their terms.
#include <cmath>

#include "poisson_plane.h"

namespace ssad::cuda {
namespace {

constexpr double kPi = 3.14159265358979323846;

// For planes of at most kSide x kSide: threads in rows of 16, so that a warp has two of them.
template <int kSide>
struct SineLayout {
  static constexpr int kInside = kSide - 2;  // row length in shared memory: two rows, other banks
  static constexpr int kColumns = 16;
  static constexpr int kThreads = kSide <= 32 ? 64 : 256;
  static constexpr int kRows = kThreads / kColumns;
  static constexpr int kBlocks = 512 / kThreads;  // see Layout
  // What a thread has: every kRows-th row, every kColumns-th column.
  static constexpr int kTileRows = kSide / kRows, kTileColumns = kSide / kColumns;
  static constexpr int kPanelRows = 4;
  static constexpr int kPlane = kInside * kInside, kPanel = kPanelRows * kInside;
  static constexpr int kBytes = (kPlane + kPanel) * int{sizeof(float)};
  __device__ static int index(int y, int x) { return y * kInside + x; }
  static_assert(kPanel * sizeof(float) >= kMostWarps * sizeof(double));
};

// One side's values, for a matrix that is made of them on the GPU.
struct Sines {
  int n;                          // points of the transform
  float of[kLargeSide];           // sin(pi m / (n + 1)) times a factor, m <= n
  float eigenvalues[kLargeSide];  // of mode m + 1
};

Sines sines_of(int64_t side) {
  Sines s = {};
  s.n = static_cast<int>(side - 2);
  const double unit = kPi / static_cast<double>(s.n + 1);
  // With this factor the transform is its own inverse.
  const double factor = std::sqrt(2.0 / static_cast<double>(s.n + 1));
  for (int m = 1; m <= s.n; ++m) {
    const double half = std::sin(0.5 * unit * m);
    // By symmetry, which rounding shall not break.
    s.of[m] = static_cast<float>(factor * std::sin(unit * (2 * m <= s.n ? m : s.n + 1 - m)));
    s.eigenvalues[m - 1] = static_cast<float>(4.0 * half * half);
  }
  return s;
}

// The matrix and below it, as one row more, the eigenvalues.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) sine_tables(Sines sines, float* to) {
  const Global<float> table = to;
  const int n = sines.n, period = 2 * (n + 1);
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
    const int row = static_cast<int>(blockIdx.x);
    float value = 0.0f;
    if (row == n) {
      value = sines.eigenvalues[i];
    } else {
      const int m = (row + 1) * (i + 1) % period;
      value = m <= n ? sines.of[m] : -sines.of[m - n - 1];
    }
    table[row * n + i] = value;
  }
}

struct SineMemory {
  Shared<float> plane, panel;
  // Where the panel will be.
  Shared<double> slots;
  Shared<float> float_slots;
};

template <int kSide>
__device__ SineMemory carve_sine(unsigned char* bytes) {
  using L = SineLayout<kSide>;
  constexpr int kPanel = L::kPlane * int{sizeof(float)};
  return {shared_array<float>(bytes, 0, L::kPlane), shared_array<float>(bytes, kPanel, L::kPanel),
          shared_array<double>(bytes, kPanel, kMostWarps),
          shared_array<float>(bytes, kPanel, kMostWarps)};
}

// The inside of a plane, h x w pixels, as a warp has a row at a time: act(y, x).
template <class Act>
__device__ void each_inside(int h, int w, Act act) {
  for (int y = warp_index(); y < h; y += warp_count()) {
    for (int x = lane_index(); x < w; x += kWarp) act(y, x);
  }
}

// Mean of the boundary over the edges between it and the inside, see Domain::typical_value.
__device__ inline float edge_mean(const Plane& plane, const Shared<double>& slots) {
  const BlockGroup block;
  const int h = plane.h - 2, w = plane.w - 2;
  double sum = 0.0;
  for (int i = block.rank(); i < 2 * (h + w); i += block.size()) {
    const int along = i / 2, far = i % 2;
    sum += static_cast<double>(along < w ? plane.boundary_at(far * (h + 1), along + 1)
                                         : plane.boundary_at(along - w + 1, far * (w + 1)));
  }
  sum = block_reduce(sum, Sum(), slots);
  return static_cast<float>(sum / static_cast<double>(2 * (h + w)));
}

// b of A e = b for e = u - offset, at pixel (y, x) of the inside.
__device__ inline float right_hand_side(const Plane& plane, float offset, int y, int x) {
  float b = -plane.rhs[(y + 1) * plane.w + x + 1];
  if (y == 0) b += plane.boundary_at(0, x + 1) - offset;
  if (y == plane.h - 3) b += plane.boundary_at(plane.h - 1, x + 1) - offset;
  if (x == 0) b += plane.boundary_at(y + 1, 0) - offset;
  if (x == plane.w - 3) b += plane.boundary_at(y + 1, plane.w - 1) - offset;
  return b;
}

// Threads' tiles of a plane of h x w points. What lies beyond it is a copy of its end.
template <int kSide>
struct Tile {
  using L = SineLayout<kSide>;
  float of[L::kTileRows][L::kTileColumns];

  __device__ static int row(int j) {
    return static_cast<int>(threadIdx.x) / L::kColumns + j * L::kRows;
  }
  __device__ static int column(int i) {
    return static_cast<int>(threadIdx.x) % L::kColumns + i * L::kColumns;
  }

  template <class Act>
  __device__ void each(Act act) {
    SSAD_UNROLL
    for (int j = 0; j < L::kTileRows; ++j) {
      SSAD_UNROLL
      for (int i = 0; i < L::kTileColumns; ++i) act(row(j), column(i), &of[j][i]);
    }
  }
};

enum class Along { kRows, kColumns };

// The product of the plane's rows, or columns, with a symmetric matrix.
template <Along kAlong, int kSide>
__device__ void multiply(const SineMemory& m, Global<const float> matrix, int h, int w,
                         Tile<kSide>* sums) {
  using L = SineLayout<kSide>;
  const BlockGroup block;
  const int depth = kAlong == Along::kRows ? w : h;
  int rows[L::kTileRows], columns[L::kTileColumns];
  SSAD_UNROLL
  for (int j = 0; j < L::kTileRows; ++j) rows[j] = smaller(Tile<kSide>::row(j), h - 1);
  SSAD_UNROLL
  for (int i = 0; i < L::kTileColumns; ++i) columns[i] = smaller(Tile<kSide>::column(i), w - 1);
  sums->each([](int, int, float* sum) { *sum = 0.0f; });
  SSAD_NO_UNROLL
  for (int start = 0; start < depth; start += L::kPanelRows) {
    const int count = smaller(L::kPanelRows, depth - start);
    if (start > 0) block.sync();
    for (int i = block.rank(); i < count * depth; i += block.size()) {
      m.panel[i] = matrix[start * depth + i];
    }
    block.sync();
    SSAD_NO_UNROLL
    for (int k = 0; k < count; ++k) {
      const Shared<float> from_matrix = m.panel + k * depth;
      const Shared<float> from_plane =
          m.plane + (kAlong == Along::kRows ? start + k : (start + k) * L::kInside);
      float left[L::kTileRows], right[L::kTileColumns];
      SSAD_UNROLL
      for (int j = 0; j < L::kTileRows; ++j) {
        left[j] = kAlong == Along::kRows ? from_plane[rows[j] * L::kInside] : from_matrix[rows[j]];
      }
      SSAD_UNROLL
      for (int i = 0; i < L::kTileColumns; ++i) {
        right[i] = kAlong == Along::kRows ? from_matrix[columns[i]] : from_plane[columns[i]];
      }
      SSAD_UNROLL
      for (int j = 0; j < L::kTileRows; ++j) {
        SSAD_UNROLL
        for (int i = 0; i < L::kTileColumns; ++i) sums->of[j][i] += left[j] * right[i];
      }
    }
  }
}

// Puts a product in the plane's place. Ends without a barrier: the next product has one before it
// reads the plane.
template <int kSide>
__device__ void replace(const SineMemory& m, int h, int w, Tile<kSide>* sums) {
  const BlockGroup block;
  block.sync();
  sums->each([&](int y, int x, float* sum) {
    if (y < h && x < w) m.plane[SineLayout<kSide>::index(y, x)] = *sum;
  });
}

// Turns b in shared memory into e.
template <int kSide>
__device__ void solve(const SineMemory& m, Global<const float> of_columns,
                      Global<const float> of_rows, int h, int w) {
  Tile<kSide> sums;
  multiply<Along::kRows>(m, of_rows, h, w, &sums);
  replace(m, h, w, &sums);
  multiply<Along::kColumns>(m, of_columns, h, w, &sums);
  sums.each([&](int y, int x, float* sum) {
    if (y < h && x < w) *sum /= of_columns[h * h + y] + of_rows[w * w + x];
  });
  replace(m, h, w, &sums);
  multiply<Along::kColumns>(m, of_columns, h, w, &sums);
  replace(m, h, w, &sums);
  multiply<Along::kRows>(m, of_rows, h, w, &sums);
  replace(m, h, w, &sums);
}

// Writes the inside, and returns the thread's largest residual. value(y, x) is the solution.
template <class Value>
__device__ float store_inside(const Plane& plane, Value value) {
  const int h = plane.h - 2, w = plane.w - 2;
  float most = 0.0f;
  each_inside(h, w, [&](int y, int x) {
    const auto u = [&](int row, int column) {
      const bool is_inside = row >= 0 && row < h && column >= 0 && column < w;
      return is_inside ? value(row, column) : plane.boundary_at(row + 1, column + 1);
    };
    const float here = value(y, x);
    const int at = (y + 1) * plane.w + x + 1;
    // Four times a large value could overflow.
    const float along = (u(y, x - 1) - here) + (u(y, x + 1) - here);
    const float across = (u(y - 1, x) - here) + (u(y + 1, x) - here);
    most = fmaxf(most, fabsf(along + across - plane.rhs[at]));
    plane.solution[at] = here;
  });
  return most;
}

__device__ inline void store_boundary(const Plane& plane) {
  const BlockGroup block;
  for (int i = block.rank(); i < plane.h * plane.w; i += block.size()) {
    const int y = i / plane.w, x = i % plane.w;
    const bool is_inside = y > 0 && y < plane.h - 1 && x > 0 && x < plane.w - 1;
    if (!is_inside) plane.solution[i] = plane.boundary_at(y, x);
  }
}

template <int kSide>
__global__ void __launch_bounds__(SineLayout<kSide>::kThreads, SineLayout<kSide>::kBlocks)
    sine_planes(PoissonPlanes planes) {
  SSAD_DYNAMIC_SHARED(bytes);
  const SineMemory m = carve_sine<kSide>(bytes);
  const BlockGroup block;
  const int64_t index = blockIdx.x;
  const Plane plane = plane_of(planes, index);
  store_boundary(plane);
  const int h = plane.h - 2, w = plane.w - 2;
  if (h < 1 || w < 1) {
    if (block.rank() == 0) report(planes, index, kApplied, 0, 0.0f);
    return;
  }
  const float offset = edge_mean(plane, m.slots);
  using L = SineLayout<kSide>;
  float most = 0.0f;
  each_inside(h, w, [&](int y, int x) {
    const float b = right_hand_side(plane, offset, y, x);
    m.plane[L::index(y, x)] = b;
    most = is_finite(b) ? fmaxf(most, fabsf(b)) : INFINITY;
  });
  most = block_reduce(most, Largest(), m.float_slots);
  if (!is_finite(most)) {
    each_inside(h, w,
                [&](int y, int x) { plane.solution[(y + 1) * plane.w + x + 1] = not_a_number(); });
    if (block.rank() == 0) report(planes, index, kNotFinite, 0, not_a_number());
    return;
  }
  const int exponent = scale_exponent(most);
  const float scale = ldexpf(1.0f, -exponent), unscale = ldexpf(1.0f, exponent);
  each_inside(h, w,
              [&](int y, int x) { m.plane[L::index(y, x)] = m.plane[L::index(y, x)] * scale; });
  const Global<const float> of_columns = planes.scratch;
  const Global<const float> of_rows = of_columns + (h == w ? 0 : h * (h + 1));
  solve<kSide>(m, of_columns, of_rows, h, w);
  block.sync();
  most =
      store_inside(plane, [&](int y, int x) { return m.plane[L::index(y, x)] * unscale + offset; });
  most = block_reduce(most, Largest(), m.float_slots);
  if (block.rank() == 0) report(planes, index, kApplied, 0, most);
}

const char* fill_tables(const PoissonPlanes& planes, void* stream) {
  constexpr int kThreads = kLargeSide;
  float* table = planes.scratch;
  for (const int64_t side : {planes.h, planes.w}) {
    const char* error =
        launch(sine_tables<kThreads>, side - 1, kThreads, 0, stream, sines_of(side), table);
    if (error != nullptr || planes.h == planes.w) return error;
    table += sine_table_size(side);
  }
  return nullptr;
}

template <int kSide>
const char* launch_planes(const PoissonPlanes& planes, void* stream) {
  using L = SineLayout<kSide>;
  return launch(sine_planes<kSide>, planes.n * planes.c, L::kThreads, L::kBytes, stream, planes);
}

}  // namespace

const char* solve_by_sines(const PoissonPlanes& planes, void* stream) {
  const int64_t side = planes.h > planes.w ? planes.h : planes.w;
  if (planes.h > 2 && planes.w > 2) {
    const char* error = fill_tables(planes, stream);
    if (error != nullptr) return error;
  }
  return side <= kSmallSide    ? launch_planes<kSmallSide>(planes, stream)
         : side <= kMediumSide ? launch_planes<kMediumSide>(planes, stream)
                               : launch_planes<kLargeSide>(planes, stream);
}

}  // namespace ssad::cuda
