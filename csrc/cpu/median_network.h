// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace ssad {

// A slot is what every instruction set takes at once, in one vector or in several.
constexpr int64_t kSlotBytes = 64;
constexpr int64_t kPlaceUnit = 8;  // bytes; the largest factor that an x86 address can hold

// The smaller of the vectors at a and b goes to low, the larger to high. All four are places
// relative to a base, in kPlaceUnit bytes.
struct MedianStep {
  uint16_t a, b, low, high;
};

// How to get the medians of a disk, for two neighbouring rows at a time, from rows that are made
// ready two at a time. An entry is what two rows were made into: sorted runs of pixels. The
// medians of rows y and y + 1 (y even) need 2 * reach + 1 entries, in the order of the rows, the
// middle one that of y and y + 1. Whatever comes after the last entry is room to work.
struct MedianNetwork {
  int64_t radius, reach;
  int64_t entry_slots, work_slots;
  // Base: the entry. Pixels x - radius ... x + radius of the first row and then of the second are
  // in the slots after it.
  const MedianStep* row_steps;
  int64_t row_count;
  // Base: the first of the entries.
  const MedianStep* pair_steps;
  int64_t pair_count;
  int64_t result_slot[2];  // from the same base
};

// For radius 1 ... 7. Either order gives the same medians. By depth, neighbouring steps are seldom
// about the same values; as built, few values are waiting at a time.
enum class MedianOrder { kByDepth, kAsBuilt };
const MedianNetwork& median_network(int64_t radius, MedianOrder order = MedianOrder::kByDepth);

// The largest |y| of the disk's pixels in column x, or the other way round; -1 beyond the disk.
static inline int64_t disk_reach(int64_t radius, int64_t x) {
  int64_t y = -1;
  while (x * x + (y + 1) * (y + 1) <= radius * radius) ++y;
  return y;
}

}  // namespace ssad
