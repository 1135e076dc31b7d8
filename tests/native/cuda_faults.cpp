// SPDX-License-Identifier: Apache-2.0
// Small kernels with a fault each, which the emulation has to name.
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "cuda/launch.h"
#include "cuda_test.h"

namespace {

using ssad::cuda::shared_array;
using ssad::emulation::Fault;
using ssad::emulation::Order;

constexpr int kThreads = 64;
constexpr uint32_t kAll = 0xFFFFFFFFu;

enum Plant { kNone, kMissingBarrier, kOutOfBounds, kDivergentBarrier, kEarlyReturn, kUnwritten };

// Reverses 64 numbers by way of shared memory.
template <int kPlant>
__global__ void reverse(float* values) {
  SSAD_DYNAMIC_SHARED(bytes);
  const auto row = shared_array<float>(bytes, 0, kThreads);
  const auto next = shared_array<float>(bytes, kThreads * sizeof(float), kThreads);
  const int i = static_cast<int>(threadIdx.x);
  if (kPlant == kEarlyReturn && i == 5) return;
  if (kPlant == kUnwritten && i == 5) {
    next[i] = values[i];
  } else {
    row[i + (kPlant == kOutOfBounds)] = values[i];
  }
  if (kPlant == kDivergentBarrier && i < 32) {
    __syncthreads();
  } else if (kPlant != kMissingBarrier) {
    __syncthreads();
  }
  values[i] = row[kThreads - 1 - i];
}

// A sum over each warp in two ways, ordered by __syncwarp alone.
enum WarpPlant { kSound, kAbsentLane, kDivergentShuffle, kForeignMask, kNoOrder, kDeadlock };

template <int kPlant>
__global__ void warp_sum(int* sums) {
  SSAD_DYNAMIC_SHARED(bytes);
  const auto values = shared_array<int>(bytes, 0, kThreads);
  const int i = static_cast<int>(threadIdx.x), lane = i % 32;
  if (kPlant == kDeadlock && i >= 32 && lane == 7) {
    __syncthreads();
    return;
  }
  int sum = i;
  for (int distance = 16; distance > 0; distance /= 2) {
    if (kPlant == kDivergentShuffle && lane < 16) {
      sum += __shfl_xor_sync(kAll, sum, distance);
    } else {
      sum += __shfl_xor_sync(kAll, sum, distance);
    }
  }
  values[i] = i;
  if (kPlant != kNoOrder) __syncwarp();
  int again = 0;
  for (int other = i - lane; other < i - lane + 32; ++other) again += values[other];
  if (kPlant == kForeignMask && lane == 3) __ballot_sync(1, true);
  if (lane < 16) sum = __shfl_sync(0xFFFFu, sum, kPlant == kAbsentLane ? 20 : 15);
  const bool agrees = __ballot_sync(kAll, sum == again) == kAll && !__any_sync(kAll, sum != again);
  sums[i] = agrees ? sum : -1;
}

// Prefix sums, by the other shuffles: of the warp, and of groups of eight lanes.
__global__ void prefix_sums(int* values, int* of_eight, double* from_the_right) {
  const int i = static_cast<int>(threadIdx.x), lane = i % 32;
  int sum = values[i];
  for (int distance = 1; distance < 32; distance *= 2) {
    const int other = __shfl_up_sync(kAll, sum, distance);
    if (lane >= distance) sum += other;
  }
  int eight = values[i];
  for (int distance = 1; distance < 8; distance *= 2) {
    const int other = __shfl_up_sync(kAll, eight, distance, 8);
    if (lane % 8 >= distance) eight += other;
  }
  from_the_right[i] = __shfl_down_sync(kAll, 0.5 * values[i], 3);
  values[i] = sum;
  of_eight[i] = __shfl_sync(kAll, eight, 7, 8);
}

template <class... Arguments>
void run(void (*kernel)(Arguments...), Arguments... arguments) {
  ssad::cuda::launch(kernel, 2, kThreads, 2 * kThreads * sizeof(float), nullptr, arguments...);
}

void expect_fault(const char* words, const std::function<void()>& act) {
  for (const Order order : {Order::kForward, Order::kReverse, Order::kRandom}) {
    ssad::emulation::options = {};
    ssad::emulation::options.order = order;
    std::string message = "no fault";
    try {
      act();
    } catch (const Fault& fault) {
      message = fault.what();
    }
    CHECK(message.find(words) != std::string::npos, "expected \"%s\", got: %s", words,
          message.c_str());
    CHECK(message.find("line ") != std::string::npos || message.find("block") != std::string::npos,
          "no place in: %s", message.c_str());
  }
  ssad::emulation::options = {};
}

void check_sound_kernels() {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    ssad::emulation::options = {};
    ssad::emulation::options.order = Order::kRandom;
    ssad::emulation::options.seed = seed;
    std::vector<float> values(kThreads);
    for (int i = 0; i < kThreads; ++i) values[i] = static_cast<float>(i);
    run(reverse<kNone>, values.data());  // two blocks: twice reversed
    std::vector<int> sums(kThreads), prefix(kThreads, 1), eight(kThreads);
    std::vector<double> right(kThreads);
    run(warp_sum<kSound>, sums.data());
    ssad::cuda::launch(prefix_sums, 1, kThreads, 0, nullptr, prefix.data(), eight.data(),
                       right.data());
    for (int i = 0; i < kThreads; ++i) {
      CHECK(values[i] == static_cast<float>(i), "reverse: %g at %d", values[i], i);
      CHECK(sums[i] == 496 + i / 32 * 1024, "sum %d at %d", sums[i], i);
      CHECK(prefix[i] == i % 32 + 1 && eight[i] == 8 && right[i] == 0.5, "prefix sum at %d", i);
    }
  }
  ssad::emulation::options = {};
}

}  // namespace

void check_planted_faults() {
  check_sound_kernels();
  float values[kThreads] = {};
  int sums[kThreads] = {};
  expect_fault("shared word", [&] { run(reverse<kMissingBarrier>, values); });
  expect_fault("outside of a shared array", [&] { run(reverse<kOutOfBounds>, values); });
  expect_fault("__syncthreads here, and in line", [&] { run(reverse<kDivergentBarrier>, values); });
  expect_fault("has returned", [&] { run(reverse<kEarlyReturn>, values); });
  expect_fault("which nobody wrote", [&] { run(reverse<kUnwritten>, values); });
  expect_fault("takes no part", [&] { run(warp_sum<kAbsentLane>, sums); });
  expect_fault("warp collective here, and in line",
               [&] { run(warp_sum<kDivergentShuffle>, sums); });
  expect_fault("outside its mask", [&] { run(warp_sum<kForeignMask>, sums); });
  expect_fault("shared word", [&] { run(warp_sum<kNoOrder>, sums); });
  expect_fault("deadlock", [&] { run(warp_sum<kDeadlock>, sums); });
}
