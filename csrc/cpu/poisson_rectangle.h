// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "poisson_sine.h"
#include "poisson_vector.h"

// An image whose outermost pixels are known and all others are not, channel by channel.
namespace ssad::SSAD_LEVEL {

template <class T>
struct Image {
  int64_t h, w;
  const T* rhs;
  const T* boundary;
  T* solution;
};

inline bool has_inside(int64_t h, int64_t w) { return h > 2 && w > 2; }

inline int64_t rectangle_bytes(int64_t h, int64_t w, int64_t element_size) {
  return has_inside(h, w) ? sine_scratch_bytes(h - 2, w - 2, element_size) : kSineHeader;
}

// Runs over the edges between the inside and the boundary: body(y, x of the inside, boundary).
template <class T, class Body>
void for_each_edge(const Image<T>& image, Body body) {
  const int64_t w = image.w, last_y = image.h - 1, last_x = w - 1;
  for (int64_t x = 1; x < last_x; ++x) body(1, x, image.boundary[x]);
  for (int64_t x = 1; x < last_x; ++x) body(last_y - 1, x, image.boundary[last_y * w + x]);
  for (int64_t y = 1; y < last_y; ++y) body(y, 1, image.boundary[y * w]);
  for (int64_t y = 1; y < last_y; ++y) body(y, last_x - 1, image.boundary[y * w + last_x]);
}

// See typical_value.
template <class T>
T edge_mean(const Image<T>& image) {
  double sum = 0.0;
  for_each_edge(image, [&](int64_t, int64_t, T value) { sum += static_cast<double>(value); });
  return static_cast<T>(sum / static_cast<double>(2 * (image.h - 2 + image.w - 2)));
}

// In what follows kTurned is whether the image's columns are the solver's rows.
template <bool kTurned, class T>
T* inside(const Sine<T>& s, int64_t y, int64_t x) {
  return kTurned ? s.row(x - 1) + y - 1 : s.row(y - 1) + x - 1;
}

template <class T>
T magnitude(T value) {
  return value < T{0} ? -value : value;
}

// to[x * step] = -rhs[x]; returns the largest magnitude.
template <class T>
T negate(const T* __restrict__ rhs, int64_t count, int64_t step, T* __restrict__ to) {
  T most{0};
  for (int64_t x = 0; x < count; ++x) {
    to[x * step] = -rhs[x];
    most = magnitude(rhs[x]) > most ? magnitude(rhs[x]) : most;
  }
  return most;
}

// Fills b; returns whether the right-hand side is zero, as far as it is finite.
template <bool kTurned, class T>
bool load_rectangle(const Sine<T>& s, const Image<T>& image, T offset) {
  T most{0};
  for (int64_t y = 1; y < image.h - 1; ++y) {
    const int64_t step = kTurned ? s.stride : 1;
    const T* rhs = image.rhs + y * image.w + 1;
    const T row = negate(rhs, image.w - 2, step, inside<kTurned>(s, y, 1));
    most = row > most ? row : most;
  }
  for_each_edge(
      image, [&](int64_t y, int64_t x, T value) { *inside<kTurned>(s, y, x) += value - offset; });
  return most == T{0};
}

template <class T>
void scale_and_shift(const T* __restrict__ from, int64_t step, T scale, T offset, int64_t count,
                     T* __restrict__ to) {
  for (int64_t x = 0; x < count; ++x) to[x] = from[x * step] * scale + offset;
}

template <bool kTurned, class T>
void store_rectangle(const Sine<T>& s, const Image<T>& image, T scale, T offset) {
  for (int64_t y = 1; y < image.h - 1; ++y) {
    const int64_t step = kTurned ? s.stride : 1;
    T* solution = image.solution + y * image.w + 1;
    scale_and_shift(inside<kTurned>(s, y, 1), step, scale, offset, image.w - 2, solution);
  }
}

template <class T>
void fill_rectangle(const Image<T>& image, T value) {
  for (int64_t y = 1; y < image.h - 1; ++y) {
    T* solution = image.solution + y * image.w;
    for (int64_t x = 1; x < image.w - 1; ++x) solution[x] = value;
  }
}

template <class T>
T rectangle_residual(const Image<T>& image) {
  T most{0};
  for (int64_t y = 1; y < image.h - 1; ++y) {
    const T* u = image.solution + y * image.w;
    const T* above = u - image.w;
    const T* below = u + image.w;
    const T* rhs = image.rhs + y * image.w;
    for (int64_t x = 1; x < image.w - 1; ++x) {
      const T here = u[x];  // four times a large value could overflow
      const T row = (u[x - 1] - here) + (u[x + 1] - here);
      const T error = magnitude(row + ((above[x] - here) + (below[x] - here)) - rhs[x]);
      most = error > most ? error : most;
    }
  }
  return most;
}

// The largest |b| without its mantissa; infinite if there is a value in b that is not finite.
template <class T>
T power_of(const Sine<T>& s) {
  auto most = exponent_bits(T{0});
  for (int64_t k = 0; k < s.h * s.stride; ++k) {
    const auto bits = exponent_bits(s.rows[k]);
    most = bits > most ? bits : most;
  }
  T value;
  std::memcpy(&value, &most, sizeof(value));
  return value;
}

// Only huge and tiny values are scaled, by a power of two: their sums could overflow or get lost.
template <class T>
T scale_rectangle(const Sine<T>& s, T size) {
  int exponent = 0;
  std::frexp(static_cast<double>(size), &exponent);
  const int usual = sizeof(T) == 4 ? 60 : 500, limit = 2 * usual;
  if (exponent <= usual && exponent >= -usual) return T{1};
  exponent = exponent > limit ? limit : exponent < -limit ? -limit : exponent;
  const auto scale = static_cast<T>(std::ldexp(1.0, -exponent));
  for (int64_t k = 0; k < s.h * s.stride; ++k) s.rows[k] *= scale;
  return scale;
}

// Returns false, with nothing solved, if a value is not finite.
template <bool kTurned, class T>
bool solve_rectangle(const Sine<T>& s, const Image<T>& image) {
  const T offset = edge_mean(image);
  const bool frame_only = load_rectangle<kTurned>(s, image, offset);
  const T size = power_of(s);
  if (!all_finite(&offset, 1) || !all_finite(&size, 1)) return false;
  const T scale = scale_rectangle(s, size);
  solve_sine(s, frame_only);
  store_rectangle<kTurned>(s, image, T{1} / scale, offset);
  return true;
}

}  // namespace ssad::SSAD_LEVEL
