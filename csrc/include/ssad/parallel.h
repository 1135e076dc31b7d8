// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace ssad {

// Calls body(context, worker, i) once for each i in [0, n), on at most `threads` threads, the
// caller among them; worker counts the threads from 0. Threads are started and joined here: a pool
// would not survive the fork of a data-loader worker.
void parallel_for(int64_t n, int64_t threads,
                  void (*body)(void* context, int64_t worker, int64_t i), void* context);

// Threads worth starting: one per millisecond of work at least.
static inline int64_t useful_threads(int64_t threads, double nanoseconds) {
  const auto most = 1 + static_cast<int64_t>(nanoseconds * 1e-6);
  return threads < most ? threads : most;
}

}  // namespace ssad
