// SPDX-License-Identifier: Apache-2.0
#include "runtime.h"

#include <cuda_runtime.h>

namespace ssad::cuda {

const char* build() { return "nvcc"; }

Runtime runtime() {
  Runtime found;
  found.version = CUDART_VERSION;
  for (const int architecture : {__CUDA_ARCH_LIST__}) found.compiled.add(architecture / 10);
  if (cudaDriverGetVersion(&found.driver) != cudaSuccess) found.driver = 0;
  int count = 0;
  if (found.driver == 0 || cudaGetDeviceCount(&count) != cudaSuccess) count = 0;
  for (int i = 0; i < count; ++i) {
    int major = 0, minor = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, i);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, i);
    found.gpus.add(10 * major + minor);
  }
  cudaGetLastError();  // forget a failure, which the next launch would report
  return found;
}

}  // namespace ssad::cuda
