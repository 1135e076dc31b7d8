// SPDX-License-Identifier: Apache-2.0
#include "ssad/parallel.h"

#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

namespace ssad {

void parallel_for(int64_t n, int64_t threads, void (*body)(void*, int64_t, int64_t),
                  void* context) {
  std::atomic<int64_t> next{0};
  const auto work = [&](int64_t worker) {
    for (int64_t i = next++; i < n; i = next++) body(context, worker, i);
  };
  std::vector<std::thread> helpers;
  const int64_t wanted = threads < n ? threads : n;
  helpers.reserve(static_cast<size_t>(wanted > 0 ? wanted : 0));
  for (int64_t worker = 1; worker < wanted; ++worker) {
    try {
      helpers.emplace_back(work, worker);
    } catch (const std::system_error&) {
      break;  // no more threads to be had: those that run share the work
    }
  }
  work(0);
  for (auto& helper : helpers) helper.join();
}

}  // namespace ssad
