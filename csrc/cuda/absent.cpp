// SPDX-License-Identifier: Apache-2.0
// Stands in for the kernels in a build without nvcc, so that its bindings are the same.
#include "blend.h"
#include "filters.h"
#include "poisson.h"
#include "runtime.h"

namespace ssad::cuda {

const char* build() { return "none"; }

Runtime runtime() { return {}; }

const char* median_filter(const MedianProblem&, void*) { return "there are no CUDA kernels"; }

const char* difference_label(const LabelProblem&, void*) { return "there are no CUDA kernels"; }

const char* poisson_solve(const PoissonPlanes&, void*) { return "there are no CUDA kernels"; }

int64_t multigrid_bytes(int64_t) { return 0; }

int64_t poisson_scratch_size(PoissonSolver, int64_t, int64_t, int64_t) { return 0; }

int64_t poisson_blend_bytes(int64_t, int64_t, MaskKind) { return 0; }

const char* poisson_blend(const BlendProblem&, int64_t, void*) {
  return "there are no CUDA kernels";
}

}  // namespace ssad::cuda
