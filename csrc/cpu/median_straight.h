// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "median_steps.h"
#include "simd.h"

namespace ssad::SSAD_LEVEL {

// Sanitizers check code that is not optimised; copies of every step would take them minutes.
#ifdef __OPTIMIZE__
#define SSAD_STEP SSAD_INLINE
#else
#define SSAD_STEP inline
#endif

// The network of one radius as straight code: only entries and results are in memory, and the
// compiler gives registers to what lies between. Tables serve the other radii, as straight code
// for each would be the largest part of the library.

constexpr int64_t kStraightRadius = steps::kRadius;

// The first slots after those with which the steps of rows and those of a pair begin and end.
constexpr int64_t kRowMemory = steps::kEntrySlots + 2 * (2 * steps::kRadius + 1);
constexpr int64_t kPairMemory = (2 * steps::kReach + 1) * steps::kEntrySlots + 2;

template <class T, int64_t kMemory>
struct StraightRoom {
  char* base;
  Vector<T> own[steps::kWorkSlots];

  SSAD_STEP Vector<T> get(int64_t place) const {
    const int64_t slot = place * kPlaceUnit / kSlotBytes;
    if (slot >= kMemory) return own[slot - kMemory];
    return load(reinterpret_cast<const T*>(base + place * kPlaceUnit));
  }

  SSAD_STEP void put(int64_t place, Vector<T> v) {
    const int64_t slot = place * kPlaceUnit / kSlotBytes;
    if (slot >= kMemory) {
      own[slot - kMemory] = v;
    } else {
      store(reinterpret_cast<T*>(base + place * kPlaceUnit), v);
    }
  }

  SSAD_STEP void take(const MedianStep& step) {
    const Vector<T> a = get(step.a), b = get(step.b);
    put(step.low, a < b ? a : b);
    put(step.high, a < b ? b : a);
  }
};

template <class T, int64_t kMemory, size_t kCount, size_t... i>
SSAD_INLINE void run_straight(const MedianStep (&all)[kCount], char* base,
                              std::index_sequence<i...>) {
  for (int64_t k = 0; k < kSlotBytes; k += kVectorBytes) {
    StraightRoom<T, kMemory> room;
    room.base = base + k;
    const int in_order[] = {(room.take(all[i]), 0)...};
    static_cast<void>(in_order);
  }
}

template <class T>
__attribute__((noinline)) void run_straight_row(char* base) {
  run_straight<T, kRowMemory>(steps::kRow, base,
                              std::make_index_sequence<sizeof steps::kRow / sizeof *steps::kRow>());
}

template <class T>
__attribute__((noinline)) void run_straight_pair(char* base) {
  run_straight<T, kPairMemory>(
      steps::kPair, base, std::make_index_sequence<sizeof steps::kPair / sizeof *steps::kPair>());
}

#undef SSAD_STEP

}  // namespace ssad::SSAD_LEVEL
