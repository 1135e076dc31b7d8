// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ssad/labels.h"

namespace ssad::cuda {

// As ssad::median_filter, of anything but float64, in device memory. It queues the work in the
// stream (a cudaStream_t) and returns at once: null, or what is wrong.
const char* median_filter(const MedianProblem& problem, void* stream);

}  // namespace ssad::cuda
