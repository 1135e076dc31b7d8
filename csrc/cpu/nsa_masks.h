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
  int64_t* tap =
      nullptr;  // (2, side): the first neighbour of a column, and the weight of the second
  int32_t* line = nullptr;  // (side of the source + 1): weighted sums of two rows

  static int64_t words(int64_t side, int64_t source_side) {
    return 4 * side * words_of(side) + 2 * side + (source_side + 2) / 2;
  }

  PatchMasks(uint64_t* memory, int64_t side) {
    if (memory == nullptr) return;  // for plain rectangles
    const int64_t stride = words_of(side);
    for (Bits* bits : {&shape, &own, &objects, &label}) {
      *bits = {memory, stride};
      memory += side * stride;
    }
    tap = reinterpret_cast<int64_t*>(memory);
    line = reinterpret_cast<int32_t*>(memory + 2 * side);
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

// M_s: a window of the source's bits, resized, where above one half.
static inline void resize_mask(const Bits& source, int64_t top, int64_t left, Size from, Size to,
                               const PatchMasks& memory) {
  const Bits& own = memory.own;
  int64_t* first = memory.tap;
  int64_t* part = memory.tap + to.w;
  int32_t* line = memory.line;
  for (int64_t x = 0; x < to.w; ++x) {
    const Tap tap = tap_of(x, from.w, to.w);
    first[x] = tap.low, part[x] = tap.part;
  }
  const int64_t unit_x = 2 * to.w;
  for (int64_t y = 0; y < to.h; ++y) {
    const Tap tap = tap_of(y, from.h, to.h);
    const uint64_t* upper = source.row(top + tap.low);
    const uint64_t* lower = source.row(top + tap.high);
    uint64_t* row = own.row(y);
    uint64_t any = 0, missing = 0;
    for (int64_t x = 0; x < from.w; x += 64) {
      const uint64_t inside = low_bits(from.w - x);
      const uint64_t a = window_of(upper, left + x), b = window_of(lower, left + x);
      any |= (a | b) & inside;
      missing |= ~(a & b) & inside;
    }
    if (any == 0 || missing == 0) {  // one value
      for (int64_t k = 0; k < own.stride; ++k) {
        const int64_t rest = to.w - 64 * k;
        row[k] = missing == 0 && rest > 0 ? low_bits(rest) : 0;
      }
      continue;
    }
    const auto weight = static_cast<int32_t>(tap.part);
    const auto other = static_cast<int32_t>(tap.unit - tap.part);
    for (int64_t x = 0; x < from.w; x += 64) {
      const uint64_t a = window_of(upper, left + x), b = window_of(lower, left + x);
      const int64_t count = from.w - x < 64 ? from.w - x : 64;
      for (int64_t i = 0; i < count; ++i) {
        line[x + i] = (a >> i & 1 ? other : 0) + (b >> i & 1 ? weight : 0);
      }
    }
    line[from.w] = line[from.w - 1];
    const int64_t half = tap.unit * to.w;  // of unit * unit_x
    int64_t k = 0;
    for (int64_t x = 0; x < to.w; x += 64) {
      const int64_t count = to.w - x < 64 ? to.w - x : 64;
      uint64_t word = 0;
      for (int64_t i = 0; i < count; ++i) {
        const int32_t* at = line + first[x + i];
        const int64_t sum = at[0] * (unit_x - part[x + i]) + at[1] * part[x + i];
        word |= uint64_t{sum > half} << i;
      }
      row[k++] = word;
    }
    for (; k < own.stride; ++k) row[k] = 0;
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
