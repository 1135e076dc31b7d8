// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "ssad/level.h"

// Masks as rows of bits, 64 pixels a word, the first pixel lowest.
namespace ssad::SSAD_LEVEL {

// Rows have a spare word behind them, so that a window may be read from any pixel on.
static inline int64_t words_of(int64_t width) { return (width + 63) / 64 + 1; }

struct Bits {
  uint64_t* data;
  int64_t stride;  // words of a row

  uint64_t* row(int64_t y) const { return data + y * stride; }
};

// The first `count` bits.
static inline uint64_t low_bits(int64_t count) {
  return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
}

// The bits x ... x + 63 of a row.
static inline uint64_t window_of(const uint64_t* row, int64_t x) {
  const uint64_t* at = row + (x >> 6);
  const int shift = static_cast<int>(x & 63);
  return shift == 0 ? at[0] : at[0] >> shift | at[1] << (64 - shift);
}

// Not all processors of the baseline count bits.
static inline int64_t popcount(uint64_t x) {
  x -= x >> 1 & 0x5555555555555555u;
  x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
  x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0Fu;
  return static_cast<int64_t>(x * 0x0101010101010101u >> 56);
}

// Eight bytes -> eight bits, set where a byte is not zero. Bools may be others than 0 and 1 where
// they were other numbers before. No two products of the multiplication overlap.
static inline uint64_t pack_eight(const bool* bytes) {
  uint64_t eight;
  std::memcpy(&eight, bytes, 8);
  eight |= eight >> 4 & 0x0F0F0F0F0F0F0F0Fu;
  eight |= eight >> 2 & 0x0303030303030303u;
  eight = (eight | eight >> 1) & 0x0101010101010101u;
  return eight * 0x0102040810204080u >> 56;
}

static inline uint64_t pack_up_to_64(const bool* bytes, int64_t count) {
  uint64_t word = 0;
  int64_t i = 0;
#ifdef __SSE2__
  for (; i + 16 <= count; i += 16) {
    const __m128i some = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i));
    const int zeros = _mm_movemask_epi8(_mm_cmpeq_epi8(some, _mm_setzero_si128()));
    word |= static_cast<uint64_t>(~static_cast<uint32_t>(zeros) & 0xFFFFu) << i;
  }
#endif
  for (; i + 8 <= count; i += 8) word |= pack_eight(bytes + i) << i;
  const auto* rest = reinterpret_cast<const uint8_t*>(bytes);
  for (; i < count; ++i) word |= uint64_t{rest[i] != 0} << i;
  return word;
}

// A window of h x w bytes, rows `pitch` apart, into bits from the corner on.
static inline void pack(const bool* from, int64_t pitch, int64_t h, int64_t w, const Bits& to) {
  for (int64_t y = 0; y < h; ++y) {
    const bool* bytes = from + y * pitch;
    uint64_t* row = to.row(y);
    int64_t k = 0;
    for (int64_t x = 0; x < w; x += 64)
      row[k++] = pack_up_to_64(bytes + x, w - x < 64 ? w - x : 64);
    row[k] = 0;
  }
}

// A row of w bits into bytes 0 and 1.
static inline void unpack(const uint64_t* row, int64_t w, bool* bytes) {
  for (int64_t x = 0; x < w; x += 8) {
    const uint64_t eight = row[x >> 6] >> (x & 63) & 0xFF;
    const uint64_t spread = eight * 0x0101010101010101u & 0x8040201008040201u;
    const uint64_t ones = (spread + 0x7F7F7F7F7F7F7F7Fu) >> 7 & 0x0101010101010101u;
    std::memcpy(bytes + x, &ones, static_cast<size_t>(w - x < 8 ? w - x : 8));
  }
}

// Sets the bits from ... to - 1 of a row.
static inline void set_bits(uint64_t* row, int64_t from, int64_t to) {
  for (int64_t k = from >> 6; 64 * k < to; ++k) {
    const uint64_t below = from > 64 * k ? low_bits(from - 64 * k) : 0;
    row[k] |= low_bits(to - 64 * k) & ~below;
  }
}

static inline int64_t count_window(const Bits& bits, int64_t y, int64_t x, int64_t h, int64_t w) {
  int64_t count = 0;
  for (int64_t row = y; row < y + h; ++row) {
    const uint64_t* words = bits.row(row);
    for (int64_t k = 0; k < w; k += 64) {
      count += popcount(window_of(words, x + k) & low_bits(w - k));
    }
  }
  return count;
}

}  // namespace ssad::SSAD_LEVEL
