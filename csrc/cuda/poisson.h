// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ssad/poisson.h"

namespace ssad::cuda {

// Which sides of a plane are the image's border (natural condition); beyond the others the
// solution is known.
enum NaturalSide : uint8_t { kTop = 1, kBottom = 2, kLeft = 4, kRight = 8 };

// The largest sides of planes that a block takes: of its three sizes.
constexpr int kSmallSide = 32, kMediumSide = 64, kLargeSide = 128;

inline int largest_side(PoissonSolver solver) {
  return solver == kSor ? kSmallSide : solver == kJacobi ? kMediumSide : kLargeSide;
}

// A batch of Dirichlet problems on pixel masks as in ssad::PoissonProblem, in device memory,
// float32, and with a plane that may be a part of an image: Laplace(u) = rhs where the mask is set,
// u = boundary elsewhere.
struct PoissonPlanes {
  PoissonSolver solver;
  int64_t n, c, h, w;  // sides of at most largest_side(solver); every channel has its sample's mask
  const uint8_t* natural;  // (n): the sum of the sample's natural sides; kSine: not looked at
  const float* rhs;        // (n, c, h, w), contiguous
  const bool* mask;        // (n, h, w), contiguous; kSine: not looked at, see PoissonProblem
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
  float* scratch;          // room for poisson_scratch_size() elements
};

// Of a side of n pixels, whose transform has n - 2 points: its matrix, and its eigenvalues.
inline int64_t sine_table_size(int64_t n) { return n > 2 ? (n - 2) * (n - 1) : 0; }

// Elements of scratch memory for so many planes.
int64_t poisson_scratch_size(PoissonSolver solver, int64_t planes, int64_t h, int64_t w);

// Bytes of shared memory that multigrid takes for a plane of which no side is larger.
int64_t multigrid_bytes(int64_t side);

// Queues the work in the stream (a cudaStream_t) and returns at once: null, or what is wrong.
const char* poisson_solve(const PoissonPlanes& planes, void* stream);

// The same by one solver, for planes that there are and that fit: over-relaxation or Jacobi; kSine.
const char* solve_by_sweeps(const PoissonPlanes& planes, void* stream);
const char* solve_by_sines(const PoissonPlanes& planes, void* stream);

}  // namespace ssad::cuda
