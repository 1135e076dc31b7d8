// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace ssad::cuda {

// Which sides of a plane are the image's border (natural condition); beyond the others the
// solution is known.
enum NaturalSide : uint8_t { kTop = 1, kBottom = 2, kLeft = 4, kRight = 8 };

constexpr int kLargestSide = 64;

// A batch of Dirichlet problems on pixel masks as in ssad::PoissonProblem, in device memory,
// float32, and with a plane that may be a part of an image: Laplace(u) = rhs where the mask is set,
// u = boundary elsewhere.
struct PoissonPlanes {
  int64_t n, c, h, w;      // sides of at most kLargestSide; every channel has its sample's mask
  const uint8_t* natural;  // (n): the sum of the sample's natural sides
  const float* rhs;        // (n, c, h, w), contiguous
  const bool* mask;        // (n, h, w), contiguous
  // Pixel (0, 0) of the first plane. The row or column beyond a side is read where the mask touches
  // a side that is not natural.
  const float* boundary;
  int64_t boundary_plane, boundary_row;  // elements from plane to plane, from row to row
  double tol, rtol;        // stop when the correction is at most max(tol, rtol * first correction)
  int32_t max_iterations;  // stop there in any case
  float* solution;         // (n, c, h, w), contiguous; not over boundary
  int8_t* status;          // (n, c): kApplied, kNotConverged or kNotFinite
  int32_t* iterations;     // (n, c)
  float* residual;         // (n, c): max |Laplace(u) - rhs| over the mask
};

// Queues the work in the stream (a cudaStream_t) and returns at once: null, or what is wrong.
const char* poisson_solve(const PoissonPlanes& planes, void* stream);

}  // namespace ssad::cuda
