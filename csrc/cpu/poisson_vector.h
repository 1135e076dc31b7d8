// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "poisson_grid.h"
#include "ssad/poisson.h"

namespace ssad::SSAD_LEVEL {

// Vectors over the planes of a Grid. Sums are taken in T over a few thousand points, then in
// double: the order depends on the grid alone, and large planes lose no digits.

template <class T, class Body>
SSAD_INLINE void for_each_vector(int64_t count, Body body) {
  for (int64_t k = 0; k < count; k += kLanes<T>) body(k);
}

// Rows of one or two vectors are frequent, on coarse grids at the latest, and a loop costs as much
// as they do. So there the compiler gets to know the number; 0 is any other one.
template <int kVectors>
SSAD_INLINE Grid with_span(Grid g) {
  if constexpr (kVectors > 0) g.span = kVectors * kLanes<float>;
  return g;
}

template <class Body>
SSAD_INLINE void for_span(const Grid& g, Body body) {
  if (g.span == kLanes<float>) {
    body(std::integral_constant<int, 1>{});
  } else if (g.span == 2 * kLanes<float>) {
    body(std::integral_constant<int, 2>{});
  } else {
    body(std::integral_constant<int, 0>{});
  }
}

// Where a plane has row y of a colour.
template <class T>
T* row_of_colour(const Grid& g, int64_t y, int64_t colour, T* plane) {
  return plane + colour * g.colour + g.row(y);
}

// As split_row, of a row that dense(x) gives by whole vectors.
template <class T, class Dense>
SSAD_INLINE void split_vectors(const Grid& g, int64_t y, T* plane, Dense dense) {
  T* even = row_of<0>(g, y, plane);
  T* odd = row_of<1>(g, y, plane);
  for_each_vector<T>(g.span, [=](int64_t k) {
    const Vector<T> a = dense(2 * k), b = dense(2 * k + kLanes<T>);
    store(even + k, evens<T>(a, b));
    store(odd + k, odds<T>(a, b));
  });
}

// A sum over rows. To add up the lanes costs as much as a short row, so eight of these share it.
template <class T>
struct RowSum {
  Vector<T> part{};
  double total = 0.0;

  void take_part() {
    total += static_cast<double>(sum_of_lanes<T>(part));
    part = Vector<T>{};
  }
  SSAD_INLINE void end_row(const Grid& g, int64_t y) {
    if (g.span > 4 * kRowUnit || y % 8 == 7) take_part();
  }
  double result() {
    take_part();
    return total;
  }
};

template <class T>
T largest(const Grid& g, const T* a) {
  Vector<T> most{};
  for_each_vector<T>(g.size(), [&](int64_t k) { most = larger_size<T>(most, load(a + k)); });
  return largest_lane<T>(most);
}

// For the points of a colour in row y of a plane; body: (offset in the row, sum of their
// neighbours), see neighbours().
template <class T, class Body>
SSAD_INLINE void for_each_sum(const Grid& g, int64_t y, int64_t colour, const T* plane, Body body) {
  const T* here = row_of_colour(g, y, 1 - colour, plane);
  const T* beside = here + shift_of(g, y, colour);
  const T* above = here - g.stride();
  const T* below = here + g.stride();
  for_each_vector<T>(g.span, [&](int64_t k) {
    body(k, (load(here + k) + load(beside + k)) + (load(above + k) + load(below + k)));
  });
}

// Row y of A p, handed to `take` by (offset in the plane, vector).
template <class T, class Take>
SSAD_INLINE void laplacian_row(const Grid& g, int64_t y, const T* degree, const T* p, Take take) {
  for (int64_t colour = 0; colour < 2; ++colour) {
    const int64_t start = colour * g.colour + g.row(y);
    for_each_sum(g, y, colour, p, [&](int64_t k, Vector<T> around) {
      const int64_t at = start + k;
      take(at, laplacian(load(degree + at), load(p + at), around));
    });
  }
}

// q = A p in row y; adds its part of p . q.
template <class T>
SSAD_INLINE void apply_row(const Grid& g, int64_t y, const T* degree, const T* p, T* q,
                           RowSum<T>* sum) {
  laplacian_row(g, y, degree, p, [&](int64_t at, Vector<T> value) {
    store(q + at, value);
    sum->part += load(p + at) * value;
  });
  sum->end_row(g, y);
}

// q = A p; returns p . q.
template <class T>
double apply_laplacian(const Grid& g, const T* degree, const T* p, T* q) {
  RowSum<T> sum;
  for (int64_t y = 0; y < g.h; ++y) apply_row(g, y, degree, p, q, &sum);
  return sum.result();
}

template <class T>
T not_a_number() {
  T value;
  std::memset(&value, 0xFF, sizeof(value));
  return value;
}

// By the bits: the compiler may assume that there are no infinities and NaN (see CMakeLists.txt).
inline uint32_t exponent_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits & 0x7F800000u;
}

inline uint64_t exponent_bits(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits & 0x7FF0000000000000u;
}

template <class T>
bool all_finite(const T* values, int64_t count) {
  auto most = exponent_bits(T{0});
  for (int64_t i = 0; i < count; ++i) {
    const auto bits = exponent_bits(values[i]);
    most = bits > most ? bits : most;
  }
  return most < exponent_bits(not_a_number<T>());
}

}  // namespace ssad::SSAD_LEVEL
