// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ssad/blend.h"

namespace ssad::cuda {

// Bytes of shared memory that a block takes for patches whose sides are at most `side`.
int64_t poisson_blend_bytes(int64_t side, int64_t channels, MaskKind mask);

// As ssad::poisson_blend, with all arrays in device memory, not in float64, by multigrid,
// rectangles too. `side`: at most kMediumSide, and what no side of a patch, as far as it lies in
// the target, exceeds. Queues the work in the stream (a cudaStream_t) and returns at once: null, or
// what is wrong.
const char* poisson_blend(const BlendProblem& problem, int64_t side, void* stream);

}  // namespace ssad::cuda
