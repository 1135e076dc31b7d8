// SPDX-License-Identifier: Apache-2.0
#pragma once

// The kernels of csrc/cpu are compiled once per instruction set, each time into a namespace of its
// own. Everything inline that they use must live in that namespace too: otherwise the linker keeps
// one copy of an inline function, and may keep the AVX-512 one for a machine without it.
#ifndef SSAD_LEVEL
#define SSAD_LEVEL baseline
#endif

#ifdef __CUDACC__
#define SSAD_HD __host__ __device__ inline
#else
#define SSAD_HD inline
#endif
