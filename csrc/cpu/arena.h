// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ssad/level.h"

namespace ssad {

constexpr int64_t kCacheLine = 64;

}  // namespace ssad

namespace ssad::SSAD_LEVEL {

constexpr int64_t round_up(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

// The first cache line of memory that has one to spare.
inline char* align(char* memory) {
  return memory + kCacheLine - reinterpret_cast<uintptr_t>(memory) % kCacheLine;
}

// Hands out scratch memory piece by piece, each on a cache line; without any it counts what is
// needed.
struct Arena {
  char* memory;
  int64_t used = 0;

  template <class T>
  T* take(int64_t count) {
    char* piece = memory == nullptr ? nullptr : memory + used;
    used += round_up(count * static_cast<int64_t>(sizeof(T)), kCacheLine);
    return reinterpret_cast<T*>(piece);
  }
};

}  // namespace ssad::SSAD_LEVEL
