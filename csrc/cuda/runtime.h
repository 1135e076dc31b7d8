// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace ssad::cuda {

// How the kernels of this build came about: "nvcc"; "emulated", which run on the CPU, for tests; or
// "none", and calling them is an error.
const char* build();

// Compute capabilities, 10 * major + minor.
struct Capabilities {
  static constexpr int kMost = 64;
  int count = 0;
  int of[kMost] = {};

  void add(int capability) {
    if (count < kMost) of[count++] = capability;
  }
};

// What the kernels of nvcc need, and what this machine has of it.
struct Runtime {
  int version = 0;        // of CUDA, 1000 * major + 10 * minor; 0 without nvcc
  int driver = 0;         // the newest version that the driver serves; 0 without driver
  Capabilities compiled;  // in ascending order; there is PTX of the last one
  Capabilities gpus;      // none where the driver does not serve
};

// Starts the driver, but nothing on a GPU.
Runtime runtime();

}  // namespace ssad::cuda
