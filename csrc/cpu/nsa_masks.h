// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "nsa_bits.h"
#include "ssad/nsa.h"
#include "ssad/rotation.h"

// The masks of one patch. For files compiled without contraction of multiply-adds: every decision
// is that of ssad_kernels/reference/nsa_masks.py.
namespace ssad::SSAD_LEVEL {

struct Size {
  int64_t h, w;
};

// Memory for the masks of a patch of at most side x side pixels.
struct PatchMasks {
  Bits shape = {}, own = {}, objects = {}, label = {};
  uint64_t* full = nullptr;  // of two rows of the source: columns where both are set, or none
  uint64_t* empty = nullptr;
  int64_t* part = nullptr;   // of a column of the patch: the weight of its second neighbour
  int64_t* start = nullptr;  // of a column of the source: the first one of the patch it is for

  static int64_t words(int64_t side, int64_t source_side) {
    return 4 * side * words_of(side) + 2 * words_of(source_side) + side + source_side + 1;
  }

  PatchMasks(uint64_t* memory, int64_t side, int64_t source_side) {
    if (memory == nullptr) return;  // for plain rectangles
    const int64_t stride = words_of(side);
    for (Bits* bits : {&shape, &own, &objects, &label}) {
      *bits = {memory, stride};
      memory += side * stride;
    }
    full = memory;
    empty = full + words_of(source_side);
    part = reinterpret_cast<int64_t*>(empty + words_of(source_side));
    start = part + side;
  }
};

static inline void fill_rectangle(const Bits& to, Size size) {
  for (int64_t y = 0; y < size.h; ++y) {
    uint64_t* row = to.row(y);
    for (int64_t k = 0; k < to.stride; ++k) {
      const int64_t left = size.w - 64 * k;
      row[k] = left > 0 ? low_bits(left) : 0;
    }
  }
}

static inline void add_ellipse(const double* ellipse, Size size, bool is_reference,
                               const Bits& to) {
  const double cy = ellipse[0], cx = ellipse[1], semi_y = ellipse[2], semi_x = ellipse[3];
  const auto angle = static_cast<float>(ellipse[4]);
  if (!(semi_y > 0.0 && semi_x > 0.0 && std::isfinite(angle))) return;
  const Rotation turn = rotation(angle);
  const double cos = static_cast<double>(turn.cos) * 0x1p-16;
  const double sin = static_cast<double>(turn.sin) * 0x1p-16;
  // Beyond the larger semi-axis, and some more for rounded cosines, there is nothing to look at.
  const double reach = semi_y > semi_x ? semi_y : semi_x;
  const bool is_bounded = !is_reference && reach < 1e8 && std::fabs(cx) < 1e8;
  for (int64_t y = 0; y < size.h; ++y) {
    const double dy = static_cast<double>(y) + 0.5 - cy;
    int64_t first = 0, last = size.w;
    if (is_bounded) {
      const double left = 1.01 * (reach * reach) - dy * dy;
      if (!(left >= 0.0)) continue;
      const double half = std::sqrt(left) + 2.0;
      const double from = cx - half, to_x = cx + half;
      if (from > 0.0)
        first = from < static_cast<double>(size.w) ? static_cast<int64_t>(from) : size.w;
      if (to_x < static_cast<double>(size.w)) last = to_x > 0.0 ? static_cast<int64_t>(to_x) : 0;
    }
    const double dy_cos = dy * cos, turned = is_reference ? dy * sin : -(dy * sin);
    uint64_t* row = to.row(y);
    for (int64_t x = first; x < last; ++x) {
      const double dx = static_cast<double>(x) + 0.5 - cx;
      const double along = (dy_cos + dx * sin) / semi_y;
      const double across = (dx * cos + turned) / semi_x;
      if (along * along + across * across <= 1.0) row[x >> 6] |= uint64_t{1} << (x & 63);
    }
  }
}

// P, the rectangle or the union of ellipses in it.
static inline void fill_shape(const double* ellipses, int64_t count, Size size, bool is_reference,
                              const Bits& to) {
  if (count == 0) return fill_rectangle(to, size);
  fill_rectangle(to, {size.h, 0});
  for (int64_t e = 0; e < count; ++e) add_ellipse(ellipses + 5 * e, size, is_reference, to);
}

// Bilinear, in integers: the neighbours of pixel `at`, of which the second has `part` of `unit`.
struct Tap {
  int64_t low, high, part, unit;
};

static inline Tap tap_of(int64_t at, int64_t length, int64_t size) {
  const int64_t unit = 2 * size, most = unit * (length - 1);
  int64_t place = (2 * at + 1) * length - size;
  place = place < 0 ? 0 : place > most ? most : place;
  const int64_t low = place / unit;
  return {low, low + 1 < length ? low + 1 : low, place - low * unit, unit};
}

// Runs of set bits, in order.
template <class Body>
static inline void for_each_run(uint64_t word, const Body& body) {
  while (word != 0) {
    const int from = __builtin_ctzll(word);
    const uint64_t rest = ~(word >> from);
    const int count = rest == 0 ? 64 : __builtin_ctzll(rest);
    body(from, from + count);
    word &= ~(low_bits(count) << from);
  }
}

// M_s: a window of the source's bits, resized, where above one half. Objects are made of runs: a
// pixel between two columns that are set in both rows, or in none, needs no arithmetic.
static inline void resize_mask(const Bits& source, int64_t top, int64_t left, Size from, Size to,
                               const PatchMasks& memory) {
  const Bits& own = memory.own;
  int64_t *part = memory.part, *start = memory.start;
  int64_t columns = 0;
  for (int64_t x = 0; x < to.w; ++x) {
    const Tap tap = tap_of(x, from.w, to.w);
    part[x] = tap.part;
    while (columns <= tap.low) start[columns++] = x;
  }
  while (columns <= from.w) start[columns++] = to.w;

  const int64_t unit_x = 2 * to.w, words = (from.w + 63) / 64;
  const int64_t last = from.w - 1;
  for (int64_t y = 0; y < to.h; ++y) {
    const Tap tap = tap_of(y, from.h, to.h);
    const uint64_t* upper = source.row(top + tap.low);
    const uint64_t* lower = source.row(top + tap.high);
    uint64_t* row = own.row(y);
    for (int64_t k = 0; k < own.stride; ++k) row[k] = 0;
    for (int64_t k = 0; k < words; ++k) {
      const uint64_t inside = low_bits(from.w - 64 * k);
      const uint64_t a = window_of(upper, left + 64 * k), b = window_of(lower, left + 64 * k);
      memory.full[k] = a & b & inside;
      memory.empty[k] = ~(a | b) & inside;
    }
    // The last column is its own neighbour.
    memory.full[words] = memory.empty[words] = 0;
    for (uint64_t* bits : {memory.full, memory.empty}) {
      bits[from.w >> 6] |= (bits[last >> 6] >> (last & 63) & 1) << (from.w & 63);
    }
    const int64_t weight = tap.part, other = tap.unit - tap.part;
    const int64_t half = tap.unit * to.w;  // of unit * unit_x
    const auto value = [&](int64_t column) {
      const int64_t x = left + (column < from.w ? column : last);
      const uint64_t a = upper[x >> 6] >> (x & 63) & 1, b = lower[x >> 6] >> (x & 63) & 1;
      return (a ? other : 0) + (b ? weight : 0);
    };
    for (int64_t k = 0; k < words; ++k) {
      const auto with_next = [&](const uint64_t* bits) {
        return bits[k] & (bits[k] >> 1 | bits[k + 1] << 63);
      };
      const uint64_t inside = low_bits(from.w - 64 * k);
      const uint64_t ones = with_next(memory.full) & inside;
      for_each_run(ones, [&](int first, int end) {
        set_bits(row, start[64 * k + first], start[64 * k + end]);
      });
      for_each_run(~(ones | with_next(memory.empty)) & inside, [&](int first, int end) {
        for (int64_t c = 64 * k + first; c < 64 * k + end; ++c) {
          const int64_t low = value(c), high = value(c + 1);
          for (int64_t x = start[c]; x < start[c + 1]; ++x) {
            const int64_t sum = low * (unit_x - part[x]) + high * part[x];
            row[x >> 6] |= uint64_t{sum > half} << (x & 63);
          }
        }
      });
    }
  }
}

// Once shape, own and objects are there: the label, and the number of pixels to blend.
static inline int64_t finish_masks(const PatchMasks& masks, Size size) {
  int64_t count = 0;
  for (int64_t y = 0; y < size.h; ++y) {
    const uint64_t* shape = masks.shape.row(y);
    const uint64_t* objects = masks.objects.row(y);
    uint64_t* label = masks.label.row(y);
    const bool is_frame = y == 0 || y == size.h - 1;
    for (int64_t k = 0; k < masks.shape.stride; ++k) {
      label[k] = shape[k] & objects[k];
      const int64_t left = size.w - 1 - 64 * k;
      uint64_t inner = is_frame || left <= 0 ? 0 : low_bits(left);
      if (k == 0) inner &= ~uint64_t{1};
      count += popcount((label[k] | ~objects[k]) & inner);
    }
  }
  return count;
}

}  // namespace ssad::SSAD_LEVEL
