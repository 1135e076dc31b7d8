// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#include "arena.h"
#include "median_network.h"
#include "median_straight.h"
#include "simd.h"

namespace ssad::SSAD_LEVEL {

// Pixels before and after each row of a plane, so that windows and whole slots can be read there.
constexpr int64_t kBefore = 8;
constexpr int64_t kAfter = 8 + kSlotBytes;

inline int64_t plane_stride(int64_t w) { return kBefore + w + kAfter; }

// Rows of numbers (or of bytes that are 0 or 1) with their outermost pixels repeated on both
// sides. Rows beyond the plane are its first or last one.
template <class T>
struct Plane {
  T* data;
  int64_t h, w;

  T* row(int64_t y) const {
    const int64_t inside = y < 0 ? 0 : (y < h ? y : h - 1);
    return data + inside * plane_stride(w) + kBefore;
  }
  void repeat_ends(int64_t y) const {
    T* pixels = row(y);
    for (int64_t i = 1; i <= kBefore; ++i) pixels[-i] = pixels[0];
    for (int64_t i = 0; i < kAfter; ++i) pixels[w + i] = pixels[w - 1];
  }
};

constexpr int64_t kSpareEntries = 3;

inline int64_t march_bytes(const MedianNetwork& network) {
  const int64_t entries = 2 * network.reach + 1 + kSpareEntries;
  return (entries * network.entry_slots + network.work_slots) * kSlotBytes;
}

// Not inline: it is long enough, and has many callers.
template <class T>
__attribute__((noinline)) void run_steps(const MedianStep* steps, int64_t count, char* base) {
  for (int64_t i = 0; i < count; ++i) {
    const MedianStep& step = steps[i];
    for (int64_t k = 0; k < kSlotBytes; k += kVectorBytes) {
      const auto at = [&](uint16_t place) {
        return reinterpret_cast<T*>(base + k + place * kPlaceUnit);
      };
      const Vector<T> a = load(at(step.a)), b = load(at(step.b));
      store<T>(at(step.low), a < b ? a : b);
      store<T>(at(step.high), a < b ? b : a);
    }
  }
}

// Medians of a disk for a strip of a plane, one slot wide, two rows after two rows downwards.
template <class T>
class March {
 public:
  static constexpr int64_t kWidth = kSlotBytes / static_cast<int64_t>(sizeof(T));

  March(const MedianNetwork& network, const Plane<T>& plane, char* memory)
      : network_(network), plane_(plane), memory_(memory) {}

  void start(int64_t x) { x_ = x, first_ = made_ = kNone; }

  // The medians of rows 2 * pair and 2 * pair + 1, kWidth pixels each. Pairs are asked for from
  // the top of the strip to the bottom; any may be left out.
  __attribute__((noinline)) void step(int64_t pair, const T** upper, const T** lower) {
    const int64_t oldest = pair - network_.reach, newest = pair + network_.reach;
    if (made_ <= oldest) first_ = made_ = oldest;
    for (; made_ <= newest; ++made_) {
      if (made_ - first_ == 2 * network_.reach + 1 + kSpareEntries) {
        std::memmove(memory_, entry(oldest), static_cast<size_t>(entry(made_) - entry(oldest)));
        first_ = oldest;
      }
      make_entry();
    }
    char* base = entry(oldest);
    if (network_.radius == kStraightRadius) {
      run_straight_pair<T>(base);
    } else {
      run_steps<T>(network_.pair_steps, network_.pair_count, base);
    }
    *upper = reinterpret_cast<const T*>(base + network_.result_slot[0] * kSlotBytes);
    *lower = reinterpret_cast<const T*>(base + network_.result_slot[1] * kSlotBytes);
  }

 private:
  static constexpr int64_t kNone = INT64_MIN;

  char* entry(int64_t pair) const {
    return memory_ + (pair - first_) * network_.entry_slots * kSlotBytes;
  }

  void make_entry() {
    char* base = entry(made_);
    char* slot = base + network_.entry_slots * kSlotBytes;
    for (int64_t row = 0; row < 2; ++row) {
      const T* pixels = plane_.row(2 * made_ + row) + x_;
      for (int64_t x = -network_.radius; x <= network_.radius; ++x, slot += kSlotBytes) {
        std::memcpy(slot, pixels + x, kSlotBytes);
      }
    }
    if (network_.radius == kStraightRadius) {
      run_straight_row<T>(base);
    } else {
      run_steps<T>(network_.row_steps, network_.row_count, base);
    }
  }

  const MedianNetwork& network_;
  const Plane<T>& plane_;
  char* memory_;
  int64_t x_ = 0;
  int64_t first_ = kNone, made_ = kNone;  // the pair whose entry is at memory_; the next to make
};

}  // namespace ssad::SSAD_LEVEL
