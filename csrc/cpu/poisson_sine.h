// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstring>

#include "arena.h"
#include "sine_product.h"

// A e = b on a rectangle of unknowns with zeros around it, A = 4 e - the sum of the neighbours,
// without iterations. A sine transform along the rows leaves a tridiagonal system per mode.
//
// The transform is a product with a matrix. Sines are even or odd about the middle of a row, so a
// row is folded into two halves, and each needs a matrix of half the size only: h w² operations
// for a plane and direction.
namespace ssad::SSAD_LEVEL {

constexpr double kPi = 3.14159265358979323846;

template <class T>
struct Sine {
  int64_t h = 0, w = 0;
  int64_t stride;  // of a row in and out; it ends with zeros
  int64_t half;    // columns of a half, padded: first the odd modes (1, 3, ...), then the even ones
  T* rows;
  T* modes;         // (h, 2 half), b and then e by mode
  T* block;         // folded rows
  T* odd_forward;   // from points to modes
  T* odd_back;      // from modes to points
  T* even;          // both; it is symmetric
  T* sines;         // sin(pi m / (w + 1)) for m < 2 (w + 1), times a factor
  T* first;         // a row that is one at its first point, transformed
  double* pivots;   // (h, 2 half); float ones would spoil the lowest modes
  double* carries;  // (2 half)

  T* row(int64_t y) const { return rows + y * stride; }
};

// Points and odd modes of a folded row; of even ones there may be one less.
inline int64_t half_of(int64_t w) { return (w + 1) / 2; }

template <class T>
int64_t padded_count(int64_t count) {
  return round_up(count, kPadBytes / static_cast<int64_t>(sizeof(T)));
}

template <class T>
void lay_out(Sine<T>* s, int64_t h, int64_t w, Arena* arena) {
  s->h = h, s->w = w;
  s->stride = padded_count<T>(w);
  s->half = padded_count<T>(half_of(w));
  s->rows = arena->take<T>(h * s->stride);
  s->modes = arena->take<T>((h + kPadRows) * 2 * s->half);
  s->block = arena->take<T>(kBlockRows * 2 * s->half);
  for (T** matrix : {&s->odd_forward, &s->odd_back, &s->even}) {
    *matrix = arena->take<T>(half_of(w) * s->half);
  }
  s->sines = arena->take<T>(2 * (w + 1));
  s->first = arena->take<T>(2 * s->half);
  s->pivots = arena->take<double>(h * 2 * s->half);
  s->carries = arena->take<double>(2 * s->half);
}

// Scratch for any rectangle that fits into h x w or w x h and is not wider than high. The memory
// must start on a cache line.
inline int64_t sine_workspace_bytes(int64_t h, int64_t w, int64_t element_size) {
  const int64_t high = h > w ? h : w, wide = h > w ? w : h;
  Arena arena = {nullptr};
  Sine<float> single;
  Sine<double> twice;
  element_size == sizeof(float) ? lay_out(&single, high, wide, &arena)
                                : lay_out(&twice, high, wide, &arena);
  return arena.used;
}

// A worker's solver lies in front of the memory that it works in, and stays there, with its tables,
// for the worker's next sample.
constexpr int64_t kSineHeader = round_up(sizeof(Sine<double>), kCacheLine);
static_assert(sizeof(Sine<float>) == sizeof(Sine<double>));

inline int64_t sine_scratch_bytes(int64_t h, int64_t w, int64_t element_size) {
  return kSineHeader + sine_workspace_bytes(h, w, element_size);
}

template <class T>
Sine<T>* sine_of(char* scratch) {
  return reinterpret_cast<Sine<T>*>(scratch);
}

// For each worker's scratch memory, of `bytes` each: no tables yet.
template <class T>
void forget_tables(char* scratch, int64_t bytes, int64_t workers) {
  for (int64_t worker = 0; worker < workers; ++worker) {
    *sine_of<T>(scratch + worker * bytes) = Sine<T>();
  }
}

// Of the modes of one half, mode(n) = first + 2 n. The further ones settle after a few rows.
template <class T>
void fill_pivots(const Sine<T>& s, int64_t first, int64_t modes, int64_t column) {
  double* diagonal = s.carries;
  for (int64_t n = 0; n < s.half; ++n) {
    const double angle = kPi * static_cast<double>(first + 2 * n) / static_cast<double>(s.w + 1);
    diagonal[n] = n < modes ? 4.0 - 2.0 * std::cos(angle) : 1e300;  // modes that are none stay zero
  }
  int64_t open = s.half;
  double* row = s.pivots + column;
  for (int64_t n = 0; n < open; ++n) row[n] = 1.0 / diagonal[n];
  for (int64_t y = 1; y < s.h; ++y) {
    const double* above = row;
    row += 2 * s.half;
    for (int64_t n = 0; n < open; ++n) row[n] = 1.0 / (diagonal[n] - above[n]);
    for (int64_t n = open; n < s.half; ++n) row[n] = above[n];
    while (open > 0 && row[open - 1] == above[open - 1]) --open;
  }
}

// Lays `s` out in `memory` and fills its tables, unless they are those of (h, w) already.
template <class T>
void prepare_sine(Sine<T>* s, int64_t h, int64_t w, char* memory) {
  if (s->h == h && s->w == w) return;
  Arena arena = {memory};
  lay_out(s, h, w, &arena);
  // What pads rows and columns is computed with, so it should be cheap.
  std::memset(s->modes, 0, static_cast<size_t>((h + kPadRows) * 2 * s->half) * sizeof(T));
  std::memset(s->rows, 0, static_cast<size_t>(h * s->stride) * sizeof(T));
  std::memset(s->block, 0, static_cast<size_t>(kBlockRows * 2 * s->half) * sizeof(T));
  const int64_t period = 2 * (w + 1), odd = half_of(w), even = w / 2;
  // With this factor the transform is its own inverse.
  const double scale = std::sqrt(2.0 / static_cast<double>(w + 1));
  for (int64_t m = 0; m <= (w + 1) / 2; ++m) {
    const double angle = kPi * static_cast<double>(m) / static_cast<double>(w + 1);
    const auto value = static_cast<T>(scale * std::sin(angle));
    s->sines[m] = s->sines[w + 1 - m] = value;
    s->sines[w + 1 + m] = s->sines[(period - m) % period] = -value;
  }
  s->sines[0] = T{0};
  // Row k of `forward` is point k + 1, its columns are modes; of `back` it is the other way round.
  const auto odd_mode = [](int64_t n) { return 2 * n + 1; };
  const auto even_mode = [](int64_t n) { return 2 * n + 2; };
  const auto point = [](int64_t n) { return n + 1; };
  const auto fill = [&](T* b, int64_t depth, auto start, auto step) {
    fill_panels(s->sines, static_cast<int32_t>(period), depth, depth, s->half, start, step, b);
  };
  fill(s->odd_forward, odd, odd_mode, odd_mode);
  fill(s->odd_back, odd, point, even_mode);
  fill(s->even, even, even_mode, even_mode);
  for (int64_t n = 0; n < s->half; ++n) {
    s->first[n] = n < odd ? s->sines[odd_mode(n)] : T{0};
    s->first[s->half + n] = n < even ? s->sines[even_mode(n)] : T{0};
  }
  fill_pivots(*s, 1, odd, 0);
  fill_pivots(*s, 2, even, s->half);
}

template <class T>
void fold(const T* __restrict__ row, int64_t w, T* __restrict__ sums, T* __restrict__ differences) {
  for (int64_t x = 0; x < w / 2; ++x) {
    sums[x] = row[x] + row[w - 1 - x];
    differences[x] = row[x] - row[w - 1 - x];
  }
  if (w & 1) sums[w / 2] = row[w / 2];
}

template <class T>
void unfold(const T* __restrict__ sums, const T* __restrict__ differences, int64_t w,
            T* __restrict__ row) {
  for (int64_t x = 0; x < w / 2; ++x) row[x] = sums[x] + differences[x];
  for (int64_t x = 0; x < w / 2; ++x) row[w - 1 - x] = sums[x] - differences[x];
  if (w & 1) row[w / 2] = sums[w / 2];
}

// Both halves of `rows` rows, from one buffer of rows of two halves to another.
template <class T>
void transform(const Sine<T>& s, const T* from, const T* odd, int64_t rows, T* to) {
  const int64_t stride = 2 * s.half;
  multiply(from, stride, odd, half_of(s.w), s.half, to, stride, rows);
  if (s.w == 1) return;  // there are no even modes
  multiply(from + s.half, stride, s.even, s.w / 2, s.half, to + s.half, stride, rows);
}

// One row of Gaussian elimination for all modes, downwards or upwards.
template <class T>
void eliminate(const double* __restrict__ pivots, int64_t count, double* __restrict__ carries,
               T* __restrict__ values) {
  for (int64_t n = 0; n < count; ++n) {
    carries[n] = pivots[n] * (carries[n] + static_cast<double>(values[n]));
    values[n] = static_cast<T>(carries[n]);
  }
}

template <class T>
void substitute(const double* __restrict__ pivots, int64_t count, double* __restrict__ carries,
                T* __restrict__ values) {
  for (int64_t n = 0; n < count; ++n) {
    carries[n] = pivots[n] * carries[n] + static_cast<double>(values[n]);
    values[n] = static_cast<T>(carries[n]);
  }
}

// The same for a row of b that is zero but for its ends. For either half of the modes its transform
// is a multiple of that of an end: of their sum or difference.
template <class T>
void eliminate_ends(const Sine<T>& s, int64_t y) {
  const T* row = s.row(y);
  const T ends[2] = {row[0] + row[s.w - 1], row[0] - row[s.w - 1]};
  for (int64_t side = 0; side < 2; ++side) {
    const T* __restrict__ first = s.first + side * s.half;
    const double* __restrict__ pivots = s.pivots + (2 * y + side) * s.half;
    double* __restrict__ carries = s.carries + side * s.half;
    T* __restrict__ values = s.modes + (2 * y + side) * s.half;
    for (int64_t n = 0; n < s.half; ++n) {
      carries[n] = pivots[n] * (carries[n] + static_cast<double>(ends[side] * first[n]));
      values[n] = static_cast<T>(carries[n]);
    }
  }
}

template <class T>
void forward(const Sine<T>& s) {
  const int64_t stride = 2 * s.half;
  for (int64_t start = 0; start < s.h; start += kBlockRows) {
    const int64_t rows = s.h - start < kBlockRows ? s.h - start : kBlockRows;
    for (int64_t y = 0; y < rows; ++y) {
      fold(s.row(start + y), s.w, s.block + y * stride, s.block + y * stride + s.half);
    }
    transform(s, s.block, s.odd_forward, rows, s.modes + start * stride);
    for (int64_t y = start; y < start + rows; ++y) {
      eliminate(s.pivots + y * stride, stride, s.carries, s.modes + y * stride);
    }
  }
}

// The same if only the outermost pixels of b are not zero.
template <class T>
void forward_frame(const Sine<T>& s) {
  const int64_t stride = 2 * s.half, last = s.h - 1;
  fold(s.row(0), s.w, s.block, s.block + s.half);
  fold(s.row(last), s.w, s.block + stride, s.block + stride + s.half);
  transform(s, s.block, s.odd_forward, 2, s.modes);
  if (last > 0) {
    const size_t bytes = static_cast<size_t>(stride) * sizeof(T);
    std::memmove(s.modes + last * stride, s.modes + stride, bytes);
  }
  for (int64_t y = 0; y < s.h; ++y) {
    if (y > 0 && y < last) {
      eliminate_ends(s, y);
    } else {
      eliminate(s.pivots + y * stride, stride, s.carries, s.modes + y * stride);
    }
  }
}

template <class T>
void back(const Sine<T>& s) {
  const int64_t stride = 2 * s.half;
  for (int64_t start = (s.h - 1) / kBlockRows * kBlockRows; start >= 0; start -= kBlockRows) {
    const int64_t rows = s.h - start < kBlockRows ? s.h - start : kBlockRows;
    for (int64_t y = start + rows - 1; y >= start; --y) {
      substitute(s.pivots + y * stride, stride, s.carries, s.modes + y * stride);
    }
    transform(s, s.modes + start * stride, s.odd_back, rows, s.block);
    for (int64_t y = 0; y < rows; ++y) {
      unfold(s.block + y * stride, s.block + y * stride + s.half, s.w, s.row(start + y));
    }
  }
}

// Turns the rows of b into those of e. frame_only: b is zero but for its outermost pixels, as it is
// where the right-hand side of Poisson's equation is zero; that saves most of the transform.
template <class T>
void solve_sine(const Sine<T>& s, bool frame_only) {
  const size_t bytes = static_cast<size_t>(2 * s.half) * sizeof(double);
  std::memset(s.carries, 0, bytes);
  if (frame_only && s.w > 1) {
    forward_frame(s);
  } else {
    forward(s);
  }
  std::memset(s.carries, 0, bytes);
  back(s);
}

}  // namespace ssad::SSAD_LEVEL
