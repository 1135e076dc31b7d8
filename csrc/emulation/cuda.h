// SPDX-License-Identifier: Apache-2.0
// The names of CUDA C++ that the kernels of csrc/cuda use, for a C++ compiler.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "block.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

#define threadIdx (ssad::emulation::Block::running().thread())
#define blockIdx (ssad::emulation::Block::running().index)
#define blockDim (ssad::emulation::Block::running().size)
#define gridDim (ssad::emulation::Block::running().grid)

using dim3 = ssad::emulation::Extent;

inline void __syncthreads(int line = __builtin_LINE(), const char* file = __builtin_FILE()) {
  ssad::emulation::Block::running().barrier(line, file);
}

inline void __syncwarp(uint32_t mask = 0xFFFFFFFFu, int line = __builtin_LINE(),
                       const char* file = __builtin_FILE()) {
  ssad::emulation::Block::running().warp_barrier(mask, line, file);
}

namespace ssad::emulation {

// What lane `source` holds; a source outside of the group of `width` lanes gives the own value.
template <class T>
T shuffle(uint32_t mask, T value, int source, int line) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  Block& block = Block::running();
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  uint32_t present = 0;
  const uint64_t* values = block.exchange({mask, line, bits}, false, &present);
  if ((present >> source & 1) == 0) {
    block.fault("shuffle from lane " + std::to_string(source) + ", which takes no part", line);
  }
  std::memcpy(&value, &values[source], sizeof(T));
  return value;
}

inline int own_lane() { return Block::running().lane(); }

}  // namespace ssad::emulation

template <class T>
T __shfl_sync(uint32_t mask, T value, int source, int width = 32, int line = __builtin_LINE()) {
  const int lane = ssad::emulation::own_lane();
  return ssad::emulation::shuffle(mask, value, (lane & -width) | (source & (width - 1)), line);
}

template <class T>
T __shfl_up_sync(uint32_t mask, T value, int by, int width = 32, int line = __builtin_LINE()) {
  const int lane = ssad::emulation::own_lane();
  const bool is_inside = (lane & (width - 1)) - by >= 0;
  return ssad::emulation::shuffle(mask, value, is_inside ? lane - by : lane, line);
}

template <class T>
T __shfl_down_sync(uint32_t mask, T value, int by, int width = 32, int line = __builtin_LINE()) {
  const int lane = ssad::emulation::own_lane();
  const bool is_inside = (lane & (width - 1)) + by < width;
  return ssad::emulation::shuffle(mask, value, is_inside ? lane + by : lane, line);
}

template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int bits, int width = 32, int line = __builtin_LINE()) {
  const int lane = ssad::emulation::own_lane();
  const int source = lane ^ bits;
  // Lanes of an earlier group can be read, those of a later one cannot.
  const bool is_inside = source / width <= lane / width && source < 32;
  return ssad::emulation::shuffle(mask, value, is_inside ? source : lane, line);
}

inline uint32_t __ballot_sync(uint32_t mask, bool vote, int line = __builtin_LINE()) {
  uint32_t present = 0, votes = 0;
  const uint64_t* values =
      ssad::emulation::Block::running().exchange({mask, line, vote}, false, &present);
  for (int lane = 0; lane < 32; ++lane) {
    if (present >> lane & 1 && values[lane] != 0) votes |= uint32_t{1} << lane;
  }
  return votes;
}

inline bool __any_sync(uint32_t mask, bool vote, int line = __builtin_LINE()) {
  return __ballot_sync(mask, vote, line) != 0;
}

// Rounded towards minus infinity.
inline float __double2float_rd(double value) {
  const auto nearest = static_cast<float>(value);
  return nearest > value ? std::nextafterf(nearest, -INFINITY) : nearest;
}

inline int __popc(uint32_t bits) { return __builtin_popcount(bits); }
inline int __popcll(uint64_t bits) { return __builtin_popcountll(bits); }
inline int __ffsll(uint64_t bits) { return __builtin_ffsll(static_cast<long long>(bits)); }
inline int __clzll(uint64_t bits) { return bits == 0 ? 64 : __builtin_clzll(bits); }
