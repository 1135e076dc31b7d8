// SPDX-License-Identifier: Apache-2.0
// Small kernels whose sectors and wavefronts are known, which the emulation has to count.
#include <vector>

#include "cuda/launch.h"
#include "cuda_test.h"

namespace {

using ssad::cuda::Global;
using ssad::cuda::shared_array;
using ssad::emulation::Order;
using ssad::emulation::Traffic;

constexpr int kThreads = 64, kBlocks = 2, kWords = 32 * 33;

// Both warps of a block read and write `stride` elements apart.
template <class T>
__global__ void copy(const T* from, T* to, int stride) {
  const Global<const T> read = from;
  const Global<T> written = to;
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x) * stride;
  written[i] = read[i];
}

// A lane fills shared memory; then all of its warp read `stride` elements apart.
template <class T>
__global__ void walk(int stride, double* sums) {
  SSAD_DYNAMIC_SHARED(bytes);
  const auto values = shared_array<T>(bytes, 0, kWords);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = 0; lane == 0 && i < kWords; ++i) values[i] = T{};
  __syncwarp();
  sums[lane] = static_cast<double>(T(values[lane * stride]));
}

struct Three {
  float x, y, z;
  explicit operator double() const { return x; }
};

// Lanes come to a line in some turns of a loop alone: those of even lanes in even turns, the others
// in odd ones.
template <bool kSays>
__global__ void skip(double* sums) {
  SSAD_DYNAMIC_SHARED(bytes);
  const auto values = shared_array<float>(bytes, 0, kWords);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < kWords; i += 32) values[i] = 0.0f;
  __syncwarp();
  for (int i = 0; i < 8; ++i) {
    const ssad::emulation::Turn turn(kSays ? i : 0);
    if (lane % 2 == i % 2) sums[lane] = static_cast<double>(values[33 * i + lane]);
  }
}

template <class... Parameters, class... Arguments>
Traffic counted(void (*kernel)(Parameters...), int blocks, int threads, Arguments... arguments) {
  ssad::emulation::options = {};
  ssad::emulation::options.counts_traffic = true;
  ssad::emulation::traffic = {};
  const size_t bytes = kWords * sizeof(Three) * 2;
  ssad::cuda::launch(kernel, blocks, threads, bytes, nullptr, arguments...);
  ssad::emulation::options = {};
  return ssad::emulation::traffic;
}

template <class T>
void check_sectors(int stride, int64_t of_a_warp, int64_t distinct) {
  alignas(32) static T from[kBlocks * kThreads * 32], to[kBlocks * kThreads * 32];
  const Traffic found =
      counted(copy<T>, kBlocks, kThreads, static_cast<const T*>(from), static_cast<T*>(to), stride);
  const int64_t sectors = kBlocks * kThreads / 32 * of_a_warp;
  CHECK(found.sectors_read == sectors && found.sectors_written == sectors,
        "%d sectors read, %d written, stride %d", static_cast<int>(found.sectors_read),
        static_cast<int>(found.sectors_written), stride);
  CHECK(static_cast<int64_t>(found.read.size()) == distinct &&
            found.read.size() == found.written.size(),
        "%d distinct sectors", static_cast<int>(found.read.size()));
  CHECK(found.launches == 1 && found.shared.empty(), "a launch without shared memory");
  const int64_t of_blocks = stride == 0 ? 2 * kBlocks : 2 * distinct;
  CHECK(found.block_sectors == of_blocks, "%d sectors of blocks",
        static_cast<int>(found.block_sectors));
}

// The place of the last line that a kernel reads shared memory in.
Traffic::Cost last_cost(const Traffic& found) { return found.shared.rbegin()->second; }

template <class T>
void check_walk(int stride, int64_t words, int64_t wavefronts, int ways) {
  double sums[32];
  const Traffic found = counted(walk<T>, 1, 32, stride, static_cast<double*>(sums));
  CHECK(found.shared.size() == 2, "%d lines", static_cast<int>(found.shared.size()));
  const Traffic::Cost cost = last_cost(found);
  CHECK(cost.words == words && cost.wavefronts == wavefronts && cost.ways == ways,
        "stride %d: %d words, %d wavefronts, %d ways", stride, static_cast<int>(cost.words),
        static_cast<int>(cost.wavefronts), cost.ways);
}

void check_skipped_turns() {
  double sums[32];
  for (const Order order : {Order::kForward, Order::kReverse, Order::kRandom}) {
    ssad::emulation::options.order = order;
    const Traffic::Cost apart = last_cost(counted(skip<true>, 1, 32, static_cast<double*>(sums)));
    CHECK(apart.words == 128 && apart.wavefronts == 8 && apart.ways == 1, "%d wavefronts",
          static_cast<int>(apart.wavefronts));
    // The limit: 16 words of one row and 16 of the next, which lie a bank further.
    const Traffic::Cost together =
        last_cost(counted(skip<false>, 1, 32, static_cast<double*>(sums)));
    CHECK(together.words == 128 && together.wavefronts == 8 && together.ways == 2,
          "%d wavefronts, %d ways", static_cast<int>(together.wavefronts), together.ways);
  }
}

}  // namespace

void check_planted_traffic() {
  check_sectors<float>(1, 4, 16);
  check_sectors<float>(2, 8, 32);
  check_sectors<float>(8, 32, 128);
  check_sectors<float>(0, 1, 1);
  check_sectors<double>(1, 8, 32);
  check_sectors<uint8_t>(1, 1, 4);
  check_walk<float>(1, 32, 1, 1);
  check_walk<float>(0, 32, 1, 1);  // one word for all
  check_walk<float>(2, 32, 2, 2);
  check_walk<float>(33, 32, 1, 1);
  check_walk<float>(32, 32, 32, 32);
  check_walk<uint8_t>(1, 32, 1, 1);  // four lanes a word
  check_walk<uint8_t>(4, 32, 1, 1);
  check_walk<double>(1, 64, 2, 1);  // a half-warp at a time
  check_walk<double>(2, 64, 4, 2);
  check_walk<double>(0, 64, 2, 1);
  check_walk<Three>(1, 96, 3, 1);  // a word at a time
  check_walk<Three>(0, 96, 3, 1);
  check_skipped_turns();
}
