// SPDX-License-Identifier: Apache-2.0
#include "families.h"
#include "ssad/parallel.h"
#include "ssad/philox.h"

namespace ssad::SSAD_LEVEL {
namespace {

struct Fill {
  const int64_t* keys;
  int64_t stream, count;
  int64_t* out;
};

constexpr int kBlocks = 16;  // side by side

// The numbers of kBlocks blocks from `first` on.
void make_blocks(const int64_t* key, int64_t stream, int64_t first, uint32_t* out) {
  uint32_t v[4][kBlocks];
  for (int k = 0; k < kBlocks; ++k) {
    const Philox counter = philox_counter(key, stream, first + k);
    for (int j = 0; j < 4; ++j) v[j][k] = counter.v[j];
  }
  const auto seed = static_cast<uint64_t>(key[0]);
  auto key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    for (int k = 0; k < kBlocks; ++k) {
      const Philox next = philox_round({{v[0][k], v[1][k], v[2][k], v[3][k]}}, key0, key1);
      v[0][k] = next.v[0], v[1][k] = next.v[1], v[2][k] = next.v[2], v[3][k] = next.v[3];
    }
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  for (int k = 0; k < kBlocks; ++k) {
    for (int j = 0; j < 4; ++j) out[4 * k + j] = v[j][k];
  }
}

void make_words(const int64_t* key, int64_t stream, int64_t first, int64_t blocks, uint32_t* out) {
  int64_t block = 0;
  for (; block + kBlocks <= blocks; block += kBlocks) {
    make_blocks(key, stream, first + block, out + 4 * block);
  }
  for (; block < blocks; ++block) {
    const Philox four = keyed_philox(key, stream, first + block);
    for (int j = 0; j < 4; ++j) out[4 * block + j] = four.v[j];
  }
}

void fill_row(void* context, int64_t /*worker*/, int64_t i) {
  const auto& fill = *static_cast<const Fill*>(context);
  int64_t* out = fill.out + i * fill.count;
  constexpr int64_t kMost = 1024;  // so many that the first are in the cache when they are read
  uint32_t words[kMost];
  for (int64_t k = 0; k < fill.count; k += kMost) {
    const int64_t left = fill.count - k, count = left < kMost ? left : kMost;
    make_words(fill.keys + 3 * i, fill.stream, k / 4, (count + 3) / 4, words);
    for (int64_t j = 0; j < count; ++j) out[k + j] = words[j];
  }
}

}  // namespace

void philox_fill(const int64_t* keys, int64_t n, int64_t stream, int64_t count, int64_t* out,
                 int64_t threads) {
  Fill fill = {keys, stream, count, out};
  const double nanoseconds = 1.0 * static_cast<double>(n) * static_cast<double>(count);
  parallel_for(n, useful_threads(threads, nanoseconds), fill_row, &fill);
}

void random_words(const int64_t* key, int64_t stream, int64_t blocks, uint32_t* out) {
  make_words(key, stream, 0, blocks, out);
}

}  // namespace ssad::SSAD_LEVEL
