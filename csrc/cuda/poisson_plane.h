// SPDX-License-Identifier: Apache-2.0
// From the planes in global memory to the equation A u = b on the finest grid, and back.
#pragma once

#include "elements.h"
#include "poisson_points.h"
#include "ssad/view.h"

namespace ssad::cuda {

// One channel of a sample.
struct Plane {
  Global<const float> rhs, boundary;
  Global<float> solution;
  int64_t boundary_row;
  int h, w;

  __device__ float boundary_at(int y, int x) const { return boundary[y * boundary_row + x]; }
};

__device__ inline Plane plane_of(const PoissonPlanes& planes, int64_t index) {
  const int64_t pixels = planes.h * planes.w;
  return {planes.rhs + index * pixels,      planes.boundary + index * planes.boundary_plane,
          planes.solution + index * pixels, planes.boundary_row,
          static_cast<int>(planes.h),       static_cast<int>(planes.w)};
}

// A power of two near 1 / the largest |b|: as a factor it rounds nothing, and it keeps the squares
// in sums from overflowing and gradients from getting lost.
__device__ inline int scale_exponent(float largest) {
  constexpr int kLimit = 120;
  int exponent = 0;
  frexpf(largest, &exponent);
  return exponent > kLimit ? kLimit : exponent < -kLimit ? -kLimit : exponent;
}

// By one thread.
__device__ inline void report(const PoissonPlanes& planes, int64_t index, Status status,
                              int iterations, float residual) {
  const Global<int8_t> statuses = planes.status;
  const Global<int32_t> counts = planes.iterations;
  const Global<float> residuals = planes.residual;
  statuses[index] = status;
  counts[index] = iterations;
  residuals[index] = residual;
}

// The finest grid's points with the plane's pixels.
template <int kSide>
struct Domain {
  const Memory<kSide>& memory;
  const Box& box;
  const Plane& plane;
  const Grid& grid;

  // Does something with the boundary's value across each edge of an unknown that ends there. What
  // lies beyond a natural side is not looked at.
  template <class Act>
  __device__ void each_edge(const Point& point, Act act) const {
    const auto look = [&](int side, int y, int x) {
      SSAD_TURN(side);
      if (is_free(memory, grid, y, x)) return;
      act(plane.boundary_at(box.pixel_y(y, x), box.pixel_x(y, x)));
    };
    look(kTop, point.y - 1, point.x);
    look(kBottom, point.y + 1, point.x);
    look(kLeft, point.y, point.x - 1);
    look(kRight, point.y, point.x + 1);
  }

  // b at an unknown, of the equation for u - offset.
  __device__ float right_hand_side(const Point& point, float offset) const {
    float sum = 0.0f;
    each_edge(point, [&](float value) { sum += value - offset; });
    const int y = box.pixel_y(point.y, point.x), x = box.pixel_x(point.y, point.x);
    return sum - plane.rhs[y * plane.w + x];
  }

  // A constant near the solution: solving for what is left of it loses fewer digits, and makes
  // constants exact. It is the mean over the edges of the mask, or for a full mask that of the
  // plane.
  __device__ float typical_value(const FinePoints<kSide>& points) const {
    double sum = 0.0, count = 0.0;
    const auto add = [&](float value) {
      sum += static_cast<double>(value);
      count += 1.0;
    };
    points.each_unknown(memory, [&](int, const Point& point) {
      if (box.is_full) {
        add(plane.boundary_at(box.pixel_y(point.y, point.x), box.pixel_x(point.y, point.x)));
      } else {
        each_edge(point, add);
      }
    });
    sum = block_reduce(sum, Sum(), memory.slots);
    count = block_reduce(count, Sum(), memory.slots);
    return static_cast<float>(sum / count);
  }
};

// Writes the solution: value(y, x) at the unknowns, given their place in the box, and elsewhere the
// boundary's bits. Neighbouring threads write neighbouring pixels.
template <int kSide, class Value>
__device__ void store(const Memory<kSide>& m, const Box& box, const Plane& plane, Value value) {
  const BlockGroup block;
  for (int i = block.rank(); i < plane.h * plane.w; i += block.size()) {
    SSAD_TURN(i - block.rank());
    const int y = i / plane.w, x = i % plane.w;
    if (!bit_at<kSide>(m.pixels, y, x)) {
      plane.solution[i] = plane.boundary_at(y, x);
    } else {
      const int down = y - box.y, along = x - box.x;
      plane.solution[i] = box.is_turned ? value(along, down) : value(down, along);
    }
  }
}

}  // namespace ssad::cuda
