// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "ssad/level.h"

namespace ssad::SSAD_LEVEL {

// For what runs once per row: a call would cost as much as the row.
#define SSAD_INLINE inline __attribute__((always_inline))
#define SSAD_INLINE_LAMBDA __attribute__((always_inline))

// Whole vectors of the level's width. Arithmetic and comparisons are the operators of GCC and clang
// for vectors; what follows is what these lack.
#if defined(__AVX512F__)
constexpr int64_t kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int64_t kVectorBytes = 32;
#else
constexpr int64_t kVectorBytes = 16;
#endif

template <class T>
constexpr int64_t kLanes = kVectorBytes / static_cast<int64_t>(sizeof(T));

template <class T, int64_t kBytes>
struct VectorType {
  typedef T type __attribute__((vector_size(kBytes)));
};

template <class T>
using Vector = typename VectorType<T, kVectorBytes>::type;

template <class T>
Vector<T> load(const T* from) {
  Vector<T> v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

template <class T>
void store(T* to, Vector<T> v) {
  std::memcpy(to, &v, sizeof(v));
}

template <class T>
Vector<T> broadcast(T value) {
  return Vector<T>{} + value;
}

template <class T>
using Lanes = std::make_integer_sequence<int, static_cast<int>(kLanes<T>)>;

// kFirst, kFirst + kStep, ... of the lanes of a and b.
template <int kFirst, int kStep, class V, int... kLane>
V picked(V a, V b, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(a, b, (kFirst + kStep * kLane)...);
}

// a0 b0 a1 b1 ..., from lane kFirst of both on.
template <int kFirst, class V, int... kLane>
V zipped(V a, V b, std::integer_sequence<int, kLane...>) {
  constexpr int kCount = sizeof...(kLane);
  return __builtin_shufflevector(a, b, (kFirst + kLane / 2 + (kLane & 1) * kCount)...);
}

template <class T>
Vector<T> evens(Vector<T> a, Vector<T> b) {
  return picked<0, 2>(a, b, Lanes<T>{});
}

template <class T>
Vector<T> odds(Vector<T> a, Vector<T> b) {
  return picked<1, 2>(a, b, Lanes<T>{});
}

template <class T>
Vector<T> zip_low(Vector<T> a, Vector<T> b) {
  return zipped<0>(a, b, Lanes<T>{});
}

template <class T>
Vector<T> zip_high(Vector<T> a, Vector<T> b) {
  return zipped<static_cast<int>(kLanes<T>) / 2>(a, b, Lanes<T>{});
}

template <class T>
Vector<T> larger_size(Vector<T> most, Vector<T> v) {
  const Vector<T> size = v < Vector<T>{} ? -v : v;
  return size > most ? size : most;
}

// All lanes, pairwise: the halves of the vector, then the halves of what they give, and so on.
template <class T, int64_t kBytes, class Pair, int... kLane>
T folded(typename VectorType<T, kBytes>::type v, Pair pair, std::integer_sequence<int, kLane...>) {
  constexpr int kHalf = sizeof...(kLane);
  if constexpr (kHalf == 1) {
    return pair(v[0], v[1]);
  } else {
    const auto half = pair(__builtin_shufflevector(v, v, kLane...),
                           __builtin_shufflevector(v, v, (kHalf + kLane)...));
    return folded<T, kBytes / 2>(half, pair, std::make_integer_sequence<int, kHalf / 2>{});
  }
}

template <class T>
T sum_of_lanes(Vector<T> v) {
  return folded<T, kVectorBytes>(
      v, [](auto a, auto b) { return a + b; },
      std::make_integer_sequence<int, static_cast<int>(kLanes<T>) / 2>{});
}

template <class T>
T largest_lane(Vector<T> v) {
  return folded<T, kVectorBytes>(
      v, [](auto a, auto b) { return a > b ? a : b; },
      std::make_integer_sequence<int, static_cast<int>(kLanes<T>) / 2>{});
}

}  // namespace ssad::SSAD_LEVEL
