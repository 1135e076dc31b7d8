// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ssad/level.h"

namespace ssad::SSAD_LEVEL {

// Philox 4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
struct Philox {
  uint32_t v[4];
};

// The key goes up by these from round to round.
constexpr int kPhiloxRounds = 10;
constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9u, kPhiloxWeyl1 = 0xBB67AE85u;

SSAD_HD Philox philox_round(const Philox& counter, uint32_t key0, uint32_t key1) {
  const uint64_t product0 = uint64_t{0xD2511F53u} * counter.v[0];
  const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter.v[2];
  return {{static_cast<uint32_t>(product1 >> 32) ^ counter.v[1] ^ key0,
           static_cast<uint32_t>(product1),
           static_cast<uint32_t>(product0 >> 32) ^ counter.v[3] ^ key1,
           static_cast<uint32_t>(product0)}};
}

SSAD_HD Philox philox(Philox counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    counter = philox_round(counter, key0, key1);
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  return counter;
}

// Block `block` of the numbers of one sample: row = (seed, epoch, sample id). The stream separates
// the operations that draw for the same sample; at most 65,536 blocks belong to a stream.
SSAD_HD Philox philox_counter(const int64_t* row, int64_t stream, int64_t block) {
  const auto sample = static_cast<uint64_t>(row[2]);
  return {{static_cast<uint32_t>(block) | static_cast<uint32_t>(stream) << 16,
           static_cast<uint32_t>(row[1]), static_cast<uint32_t>(sample),
           static_cast<uint32_t>(sample >> 32)}};
}

SSAD_HD Philox keyed_philox(const int64_t* row, int64_t stream, int64_t block) {
  const auto seed = static_cast<uint64_t>(row[0]);
  return philox(philox_counter(row, stream, block), static_cast<uint32_t>(seed),
                static_cast<uint32_t>(seed >> 32));
}

}  // namespace ssad::SSAD_LEVEL
