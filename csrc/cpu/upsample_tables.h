// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "arena.h"
#include "kernels.h"

namespace ssad {

// An axis as a banded matrix: out[i] = sum of weight[i * taps + k] in[first[i] + k], k < count[i].
template <class T>
struct UpsampleBand {
  int64_t outputs, taps;
  int64_t *first, *count;
  T* weight;
};

// The same for a block of neighbouring outputs at once: of lane l, from `start` on, it is the sum
// of weight[k * kUpsampleBlock + l] in[first + k], k < count. Where a lane has no tap its weight is
// 0.
template <class T>
struct UpsampleBlock {
  int64_t start, first, count;
  T* weight;
};

// Outputs in a block; the last one overlaps the one before if it has to.
template <class T>
constexpr int64_t kUpsampleBlock = 64 / static_cast<int64_t>(sizeof(T));

template <class T>
struct UpsampleTables {
  UpsampleBand<T> y, x;
  UpsampleBlock<T>* blocks;  // of x
  int64_t block_count;
};

}  // namespace ssad

namespace ssad::SSAD_LEVEL {

constexpr int64_t kUpsampleRows = 4;  // that are made at a time

// What a thread works in. Rows are `stride` numbers long, a block at least.
template <class T>
struct UpsampleRoom {
  T *in, *middle, *out;  // `in` only if the input cannot be read where it is
  int64_t in_stride, middle_stride, out_stride;
};

template <class T>
bool is_readable(const ImageView& in) {
  const bool is_same = in.dtype == (sizeof(T) == sizeof(float) ? Dtype::kFloat32 : Dtype::kFloat64);
  return is_same && in.stride_x == 1 && in.w >= kUpsampleBlock<T>;
}

template <class T>
UpsampleRoom<T> upsample_room(Arena* arena, const UpsampleProblem& problem) {
  const auto stride_of = [](int64_t w) { return round_up(w, kUpsampleBlock<T>); };
  UpsampleRoom<T> room = {};
  room.in_stride = stride_of(problem.in.w);
  room.out_stride = stride_of(problem.w);
  room.middle_stride = problem.is_adjoint ? room.in_stride : room.out_stride;
  const int64_t rows = problem.is_adjoint ? problem.h : problem.in.h;
  room.in = arena->take<T>(is_readable<T>(problem.in) ? 0 : problem.in.h * room.in_stride);
  room.middle = arena->take<T>(rows * room.middle_stride);
  room.out = arena->take<T>(kUpsampleRows * room.out_stride);
  return room;
}

}  // namespace ssad::SSAD_LEVEL
