// SPDX-License-Identifier: Apache-2.0
// Groups of threads, and reductions over a block.
#pragma once

#include "launch.h"

namespace ssad::cuda {

constexpr int kWarp = 32;
constexpr uint32_t kWholeWarp = 0xFFFFFFFFu;
constexpr int kMostWarps = 32;

// Threads that share out work and wait for one another: the block, or one of its warps. The place
// is for the emulation, which tells barriers apart by it.
struct BlockGroup {
  __device__ int rank() const { return static_cast<int>(threadIdx.x); }
  __device__ int size() const { return static_cast<int>(blockDim.x); }
#ifdef __CUDACC__
  __device__ void sync() const { __syncthreads(); }
#else
  void sync(int line = __builtin_LINE(), const char* file = __builtin_FILE()) const {
    __syncthreads(line, file);
  }
#endif
};

struct WarpGroup {
  __device__ int rank() const { return static_cast<int>(threadIdx.x) % kWarp; }
  __device__ int size() const { return kWarp; }
#ifdef __CUDACC__
  __device__ void sync() const { __syncwarp(); }
#else
  void sync(int line = __builtin_LINE(), const char* file = __builtin_FILE()) const {
    __syncwarp(kWholeWarp, line, file);
  }
#endif
};

__device__ inline int warp_index() { return static_cast<int>(threadIdx.x) / kWarp; }
__device__ inline int warp_count() { return static_cast<int>(blockDim.x) / kWarp; }
__device__ inline int lane_index() { return static_cast<int>(threadIdx.x) % kWarp; }

__device__ __forceinline__ int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }
__device__ __forceinline__ int32_t larger(int32_t a, int32_t b) { return a < b ? b : a; }

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

struct Largest {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

// Combines a value of every thread of the block, which has a power of two of warps. A tree within
// each warp, then one of the warps, which each lane climbs for itself: pairs are the same for all,
// and combine(a, b) is combine(b, a), so every thread gets the same bits, and the same ones in
// every run. The slots, one per warp, may be used again at once.
template <class T, class Combine>
__device__ T block_reduce(T value, Combine combine, Shared<T> slots) {
  const BlockGroup block;
  SSAD_UNROLL
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value = combine(value, __shfl_xor_sync(kWholeWarp, value, distance));
  }
  if (lane_index() == 0) slots[warp_index()] = value;
  block.sync();
  const int warps = warp_count();
  T all = slots[lane_index() & (warps - 1)];
  block.sync();
  for (int distance = 1; distance < warps; distance *= 2) {
    all = combine(all, __shfl_xor_sync(kWholeWarp, all, distance));
  }
  return all;
}

}  // namespace ssad::cuda
