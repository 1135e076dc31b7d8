// SPDX-License-Identifier: Apache-2.0
// Elements of global memory, of which the type is known at run time only; and what floats can be.
#pragma once

#include "launch.h"

namespace ssad::cuda {

template <class T>
__device__ T load_element(const void* data, int64_t at) {
  const Global<const T> elements = static_cast<const T*>(data);
  return elements[at];
}

template <class T>
__device__ void store_element(void* data, int64_t at, T value) {
  const Global<T> elements = static_cast<T*>(data);
  elements[at] = value;
}

__device__ inline bool is_finite(float value) { return value - value == 0.0f; }

__device__ inline float not_a_number() { return nanf(""); }

}  // namespace ssad::cuda
