// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "simd.h"

// The product of a few rows with a small constant matrix. The matrix is stored the way that it is
// read, so there is nothing to pack; rows and columns are padded, so there are no remainders.
namespace ssad::SSAD_LEVEL {

// A tile's sums stay in registers; enough of them to hide the latency of multiply-adds.
constexpr int64_t kTileRows = kVectorBytes == 64 ? 8 : kVectorBytes == 32 ? 6 : 4;
constexpr int64_t kTileVectors = 2;

// What memory is padded to must suit every instruction set, since its size is computed once.
constexpr int64_t kPadBytes = 64;
constexpr int64_t kPadRows = 8;     // the most that a tile has
constexpr int64_t kBlockRows = 48;  // whole tiles of 4, 6 or 8

// Without it GCC takes the sums through memory when it stores them.
#ifdef __clang__
#define SSAD_UNROLL _Pragma("unroll")
#else
#define SSAD_UNROLL _Pragma("GCC unroll 8")
#endif

// c = a b for a tile of kTileRows rows and kVectors vectors; b's rows follow one another. Rows of b
// and c start on whole vectors.
template <int64_t kVectors, class T>
void multiply_tile(const T* __restrict__ a, int64_t a_stride, const T* __restrict__ b,
                   int64_t depth, T* __restrict__ c, int64_t c_stride) {
  Vector<T> sums[kTileRows][kVectors] = {};
  for (int64_t k = 0; k < depth; ++k, b += kVectors * kLanes<T>) {
    for (int64_t y = 0; y < kTileRows; ++y) {
      for (int64_t v = 0; v < kVectors; ++v) {
        sums[y][v] += a[y * a_stride + k] * load(b + v * kLanes<T>);
      }
    }
  }
  SSAD_UNROLL
  for (int64_t y = 0; y < kTileRows; ++y) {
    for (int64_t v = 0; v < kVectors; ++v) store(c + y * c_stride + v * kLanes<T>, sums[y][v]);
  }
}

// c = a b for `rows` rows, rounded up to whole tiles. b has `depth` rows and `width` columns, a
// multiple of kPadBytes, as fill_panels stores them.
template <class T>
void multiply(const T* a, int64_t a_stride, const T* b, int64_t depth, int64_t width, T* c,
              int64_t c_stride, int64_t rows) {
  constexpr int64_t kTile = kTileVectors * kLanes<T>;
  for (int64_t x = 0; x < width; x += kTile) {
    const bool is_whole = x + kTile <= width;
    const auto tile = is_whole ? multiply_tile<kTileVectors, T> : multiply_tile<1, T>;
    for (int64_t y = 0; y < rows; y += kTileRows) {
      tile(a + y * a_stride, a_stride, b + x * depth, depth, c + y * c_stride + x, c_stride);
    }
  }
}

// Fills a matrix for multiply: its element in row k and column n < columns is
// table[(first(n) + k step(n)) modulo period], where first and step are less than the period.
// Further columns are zero.
template <class T, class First, class Step>
void fill_panels(const T* table, int32_t period, int64_t depth, int64_t columns, int64_t width,
                 First first, Step step, T* b) {
  constexpr int64_t kTile = kTileVectors * kLanes<T>;
  for (int64_t x = 0; x < width; x += kTile) {
    const int64_t lanes = x + kTile <= width ? kTile : kTile / kTileVectors;
    int32_t index[kTile], steps[kTile];
    T keep[kTile];
    for (int64_t n = 0; n < lanes; ++n) {
      const bool is_inside = x + n < columns;
      index[n] = is_inside ? static_cast<int32_t>(first(x + n)) : 0;
      steps[n] = is_inside ? static_cast<int32_t>(step(x + n)) : 0;
      keep[n] = is_inside ? T{1} : T{0};
    }
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t n = 0; n < lanes; ++n) {
        *b++ = keep[n] * table[index[n]];
        index[n] += steps[n];
        index[n] -= index[n] >= period ? period : 0;
      }
    }
  }
}

}  // namespace ssad::SSAD_LEVEL
