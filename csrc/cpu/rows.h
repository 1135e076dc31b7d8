// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#include "ssad/level.h"

namespace ssad::SSAD_LEVEL {

template <int64_t kGroup, class Body>
bool for_groups(int64_t count, Body body) {
  if (count < kGroup) return false;
  for (int64_t x = 0; x < count; x += kGroup) {
    const int64_t start = x < count - kGroup ? x : count - kGroup;
    for (int64_t i = 0; i < kGroup; ++i) body(start + i);
  }
  return true;
}

// Body: x -> nothing, for a row with bytes in it, and such that it may be run twice for a pixel. A
// vector of bytes is most of a short row, and the pixels after the last one would take longer than
// all others; so the last groups overlap.
template <class Body>
void for_bytes(int64_t count, Body body) {
  if (for_groups<64>(count, body) || for_groups<32>(count, body)) return;
  for (int64_t x = 0; x < count; ++x) body(x);
}

// Zeros where is_set is 0.
template <class T>
void keep_where(const uint8_t* __restrict__ is_set, int64_t count, T* __restrict__ line) {
  for_bytes(count, [=](int64_t x) { line[x] = is_set[x] != 0 ? line[x] : T{0}; });
}

// One row out of and back into an image of any layout. The steps of planes, either way, and of
// packed RGB are known to the compiler.

template <class T>
void gather_row(const T* __restrict__ from, int64_t step, T* __restrict__ to, int64_t count) {
  if (step == 1) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(T));
  } else if (step == 3) {
    for (int64_t i = 0; i < count; ++i) to[i] = from[3 * i];
  } else if (step == -1) {
    for (int64_t i = 0; i < count; ++i) to[i] = from[-i];
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

// A row of pixels from anywhere.
template <class T>
void look_up_row(const T* __restrict__ from, const int32_t* __restrict__ offsets,
                 T* __restrict__ to, int64_t step, int64_t count) {
  if (step == 1) {
    for (int64_t i = 0; i < count; ++i) to[i] = from[offsets[i]];
  } else {
    for (int64_t i = 0; i < count; ++i) to[step * i] = from[offsets[i]];
  }
}

}  // namespace ssad::SSAD_LEVEL
