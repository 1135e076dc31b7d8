// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ssad/labels.h"

namespace ssad::cuda {

// The disk of which difference_label takes medians, which is NSA's. Others are not worth the time
// that nvcc takes for each of them.
constexpr int64_t kLabelRadius = 5;

// As ssad::median_filter, of anything but float64, and ssad::difference_label, in device memory,
// where before and after may have strides of their own. They queue the work in the stream (a
// cudaStream_t) and return at once: null, or what is wrong.
const char* median_filter(const MedianProblem& problem, void* stream);
const char* difference_label(const LabelProblem& problem, void* stream);

}  // namespace ssad::cuda
