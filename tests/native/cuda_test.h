// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <cstdlib>

// Leaves with 1 on a failure, saying what.
#define CHECK(condition, ...)                                    \
  do {                                                           \
    if (!(condition)) {                                          \
      std::fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);       \
      std::fprintf(stderr, __VA_ARGS__);                         \
      std::fprintf(stderr, " (%s does not hold)\n", #condition); \
      std::exit(1);                                              \
    }                                                            \
  } while (false)

// That the emulation finds what is planted in small kernels, and nothing in sound ones.
void check_planted_faults();

// That it counts what small kernels move.
void check_planted_traffic();
