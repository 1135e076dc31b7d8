// SPDX-License-Identifier: Apache-2.0
// All that the kernels of this folder need to be told of the difference between nvcc, which
// compiles them, and csrc/emulation, which runs them on a CPU in the tests: how a kernel is
// launched, and how it gets at global and shared memory. A kernel has one array of dynamic shared
// memory, and carves its arrays from it.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__

#include <cuda_runtime.h>

#define SSAD_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define SSAD_UNROLL _Pragma("unroll")
#define SSAD_NO_UNROLL _Pragma("unroll 1")
#define SSAD_TURN(number)

namespace ssad::cuda {

// Points into shared memory. The emulation checks and counts each access through it.
template <class T>
using Shared = T*;

// Points into global memory. The emulation counts each access through it.
template <class T>
using Global = T*;

template <class T>
__device__ Shared<T> shared_array(unsigned char* memory, int offset, int) {
  return reinterpret_cast<T*>(memory + offset);
}

// Queues the kernel in the stream. Returns null, or what is wrong with the launch.
template <class... Parameters, class... Arguments>
const char* launch(void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared_bytes,
                   void* stream, const Arguments&... arguments) {
  constexpr size_t kWithoutAsking = 48 * 1024;
  cudaError_t error = cudaSuccess;
  if (shared_bytes > kWithoutAsking) {
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared_bytes));
  }
  if (error != cudaSuccess) {
    cudaGetLastError();  // takes it back, lest the next launch reports it
  } else {
    kernel<<<static_cast<unsigned>(blocks), threads, shared_bytes,
             static_cast<cudaStream_t>(stream)>>>(arguments...);
    error = cudaGetLastError();
  }
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace ssad::cuda

#else

#include "../emulation/cuda.h"

#define SSAD_DYNAMIC_SHARED(name) \
  unsigned char* const name = ssad::emulation::Block::running().shared.begin()
#define SSAD_UNROLL
#define SSAD_NO_UNROLL
// First thing in the body of a loop of which lanes may skip some turns: see LaunchTraffic.
#define SSAD_TURN(number) const ssad::emulation::Turn ssad_turn(number)

namespace ssad::cuda {

template <class T>
using Shared = emulation::SharedPointer<T>;

template <class T>
using Global = emulation::GlobalPointer<T>;

template <class T>
Shared<T> shared_array(unsigned char* memory, int offset, int count) {
  return Shared<T>(reinterpret_cast<T*>(memory + offset), count);
}

template <class... Parameters, class... Arguments>
const char* launch(void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared_bytes,
                   void*, const Arguments&... arguments) {
  emulation::run_blocks(static_cast<unsigned>(blocks), static_cast<unsigned>(threads), shared_bytes,
                        [&] { kernel(arguments...); });
  return nullptr;
}

}  // namespace ssad::cuda

#endif
