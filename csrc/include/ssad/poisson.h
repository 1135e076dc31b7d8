// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ssad/level.h"
#include "ssad/view.h"

namespace ssad {

// The numbers are those of ssad_kernels/poisson.py.
enum PoissonSolver : int32_t { kMultigrid = 0, kSor = 1, kJacobi = 2, kSine = 3 };

struct PoissonOptions {
  PoissonSolver solver;
  double tol, rtol;        // stop when the correction is at most max(tol, rtol * first correction)
  int64_t max_iterations;  // stop there in any case
};

// A batch of Dirichlet problems on pixel masks: Laplace(u) = rhs where the mask is set, u =
// boundary elsewhere. Edges that would leave the image do not exist (natural condition). A mask
// that covers its image leaves u free up to a constant: then u gets the mean of boundary, and the
// mean of rhs, which no u can have, is dropped. All arrays are contiguous. kSine is exact: it
// ignores the options and iterates not.
struct PoissonProblem {
  Dtype dtype;         // kFloat32 or kFloat64
  int64_t n, c, h, w;  // every channel of a sample has the sample's mask
  const void* rhs;     // (n, c, h, w)
  const bool* mask;    // (n, h, w), or null: every pixel but the outermost ones; kSine asks for it
  const void* boundary;  // (n, c, h, w)
  PoissonOptions options;
  void* solution;       // (n, c, h, w)
  int8_t* status;       // (n, c): kApplied, kNotConverged or kNotFinite
  int32_t* iterations;  // (n, c)
  void* residual;       // (n, c): max |Laplace(u) - rhs| over the mask
};

// Returns false when there is no memory for the scratch vectors, with nothing done.
bool poisson_solve(const PoissonProblem& problem, int64_t threads);

}  // namespace ssad

// What happens at one point. A is minus the Laplacian: A u = degree * u - sum of the neighbours,
// where u is zero beyond the mask and the degree counts the neighbours inside the image.
namespace ssad::SSAD_LEVEL {

// Sum over the four neighbours of point k, which all have the other colour (see poisson_grid.h):
// one of the two in its row has its index, the other one is `shift` = -1 or 1 further.
template <class T>
SSAD_HD T neighbours(const T* row, const T* above, const T* below, int64_t k, int64_t shift) {
  return (row[k] + row[k + shift]) + (above[k] + below[k]);
}

// The same, by value.
template <class T>
SSAD_HD T neighbour_sum(T beside, T further, T above, T below) {
  return (beside + further) + (above + below);
}

// (A u)(p); zero where the degree is.
template <class T>
SSAD_HD T laplacian(T degree, T u, T neighbour_sum) {
  return degree * u - (degree > T{0} ? neighbour_sum : T{0});
}

// The u(p) that satisfies the equation at p; zero outside of the mask, where 1 / degree is set to
// 0.
template <class T>
SSAD_HD T relaxed(T f, T neighbour_sum, T inverse_degree) {
  return (f + neighbour_sum) * inverse_degree;
}

// A coarse point lies on every second point of every second row. Bilinear interpolation gives it to
// that point whole and to the four diagonal ones by a quarter each; restriction is the transpose,
// which keeps the cycle symmetric. (The other points are not needed: red-black smoothing leaves no
// residual there, and overwrites what would be interpolated to them.)
template <class T>
SSAD_HD T restricted(T centre, T a, T b, T c, T d) {
  return centre + 0.25f * ((a + b) + (c + d));
}

template <class T>
SSAD_HD T interpolated(T a, T b, T c, T d) {
  return 0.25f * ((a + b) + (c + d));
}

// A coarse point is an unknown if its fine point is, and at least three of that one's neighbours
// are unknowns or beyond the image. Keeping all makes the cycle a poor preconditioner for masks
// with holes; asking for all four neighbours makes it one for plain rectangles.
SSAD_HD bool is_coarse_unknown(bool is_unknown, int free_neighbours) {
  return is_unknown && free_neighbours >= 3;
}

// What a hole that no coarse point sees adds to the degrees around it, for each whole weight of
// interpolation. A hole in a wide image conducts about as well as one edge.
constexpr double kPoissonHoleLeak = 2.0;

}  // namespace ssad::SSAD_LEVEL
