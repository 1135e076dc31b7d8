// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#include "ssad/level.h"

namespace ssad::SSAD_LEVEL {

// One row out of and back into an image of any layout. The steps of planes and of packed RGB are
// known to the compiler.

template <class T>
void gather_row(const T* __restrict__ from, int64_t step, T* __restrict__ to, int64_t count) {
  if (step == 1) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(T));
  } else if (step == 3) {
    for (int64_t i = 0; i < count; ++i) to[i] = from[3 * i];
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = from[step * i];
  }
}

template <class T>
void scatter_row(const T* __restrict__ from, T* __restrict__ to, int64_t step, int64_t count) {
  if (step == 1) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(T));
  } else if (step == 3) {
    for (int64_t i = 0; i < count; ++i) to[3 * i] = from[i];
  } else {
    for (int64_t i = 0; i < count; ++i) to[step * i] = from[i];
  }
}

}  // namespace ssad::SSAD_LEVEL
