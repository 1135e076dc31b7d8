// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#include "poisson_grid.h"
#include "ssad/poisson.h"

namespace ssad::SSAD_LEVEL {

// Vectors over the planes of a Grid. Sums are taken row by row in T, then in double: the order
// depends on the grid alone, and large planes lose no digits. SSAD_SUM lets the compiler keep one
// partial sum per vector lane.
#define SSAD_SUM _Pragma("omp simd reduction(+ : sum)")

template <class T, class Term>
double sum_rows(const Grid& g, Term term) {
  double total = 0.0;
  for (int64_t start = 0; start < g.size(); start += g.stride) {
    T sum{0};
    SSAD_SUM
    for (int64_t k = start; k < start + g.span; ++k) sum += term(k);
    total += static_cast<double>(sum);
  }
  return total;
}

template <class T>
double dot(const Grid& g, const T* a, const T* b) {
  return sum_rows<T>(g, [=](int64_t k) { return a[k] * b[k]; });
}

template <class T>
T largest(const Grid& g, const T* a) {
  T most{0};
  for (int64_t k = 0; k < g.size(); ++k) {
    const T size = a[k] < T{0} ? -a[k] : a[k];
    most = size > most ? size : most;
  }
  return most;
}

// p = z + beta p
template <class T>
void turn_direction(const Grid& g, const T* __restrict__ z, T beta, T* __restrict__ p) {
  for (int64_t k = 0; k < g.size(); ++k) p[k] = z[k] + beta * p[k];
}

// x += alpha p, r -= alpha q
template <class T>
void step(const Grid& g, T alpha, const T* __restrict__ p, const T* __restrict__ q,
          T* __restrict__ x, T* __restrict__ r) {
  for (int64_t k = 0; k < g.size(); ++k) {
    x[k] += alpha * p[k];
    r[k] -= alpha * q[k];
  }
}

// q = A p; returns p . A p.
template <class T>
double apply_laplacian(const Grid& g, const T* __restrict__ degree, const T* __restrict__ p,
                       T* __restrict__ q) {
  double total = 0.0;
  for (int64_t colour = 0; colour < 2; ++colour) {
    const T* __restrict__ other = p + (1 - colour) * g.colour;
    const int64_t own = colour * g.colour;
    for (int64_t y = 0; y < g.h; ++y) {
      const int64_t row = g.row(y), shift = shift_of(g, y, colour);
      T sum{0};
      SSAD_SUM
      for (int64_t k = row; k < row + g.span; ++k) {
        const T around = neighbours(other, other - g.stride, other + g.stride, k, shift);
        const T value = laplacian(degree[own + k], p[own + k], around);
        q[own + k] = value;
        sum += p[own + k] * value;
      }
      total += static_cast<double>(sum);
    }
  }
  return total;
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
