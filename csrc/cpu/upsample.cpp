// SPDX-License-Identifier: Apache-2.0
// The kernel is separable: out = Y in Xᵀ with a banded matrix for each axis. A thread takes a
// plane. Features become pixels along x first, and pixels features along y first, so that the plane
// between has few rows.
#include <cstdint>

#include "families.h"
#include "poisson_vector.h"
#include "rows.h"
#include "simd.h"
#include "ssad/parallel.h"
#include "ssad/pixel.h"
#include "upsample_tables.h"

namespace ssad::SSAD_LEVEL {
namespace {

template <class T>
struct Rows {
  T* data;
  int64_t stride;

  T* operator[](int64_t y) const { return data + y * stride; }
};

// out[i] = sum of band.weight in[...] for rows i, ... of one range, over kVectors vectors from x
// on.
template <int kRows, int kVectors, class T>
SSAD_INLINE void combine(const UpsampleBand<T>& band, int64_t i, int64_t x, const Rows<const T>& in,
                         const Rows<T>& out) {
  Vector<T> sum[kRows][kVectors] = {};
  const T* weight = band.weight + i * band.taps;
  const T* from = in[band.first[i]] + x;
  for (int64_t k = 0; k < band.count[i]; ++k, from += in.stride) {
    for (int v = 0; v < kVectors; ++v) {
      const Vector<T> value = load(from + v * kLanes<T>);
      for (int r = 0; r < kRows; ++r) sum[r][v] += weight[r * band.taps + k] * value;
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) store(out[r] + x + v * kLanes<T>, sum[r][v]);
  }
}

template <int kRows, class T>
void combine_rows(const UpsampleBand<T>& band, int64_t i, const Rows<const T>& in,
                  const Rows<T>& out, int64_t width) {
  constexpr int kVectors = 8 / kRows;  // eight sums hide the latency of a multiply-add
  int64_t x = 0;
  for (; x + kVectors * kLanes<T> <= width; x += kVectors * kLanes<T>) {
    combine<kRows, kVectors>(band, i, x, in, out);
  }
  for (; x + kLanes<T> <= width; x += kLanes<T>) combine<kRows, 1>(band, i, x, in, out);
  if (x < width) combine<kRows, 1>(band, i, width - kLanes<T>, in, out);
}

// How many rows from i on are sums of the same rows: 4, 2 or 1.
template <class T>
int64_t rows_alike(const UpsampleBand<T>& band, int64_t i) {
  int64_t alike = 1;
  while (alike < kUpsampleRows && i + alike < band.outputs &&
         band.first[i + alike] == band.first[i] && band.count[i + alike] == band.count[i]) {
    ++alike;
  }
  return alike == 3 ? 2 : alike;
}

// Calls finish(i, rows) for each group of rows that is made, where `out` has room for one.
template <class T, class Place, class Finish>
void make_rows(const UpsampleBand<T>& band, const Rows<const T>& in, int64_t width, Place place,
               Finish finish) {
  for (int64_t i = 0, rows = 0; i < band.outputs; i += rows) {
    rows = rows_alike(band, i);
    const Rows<T> out = place(i);
    switch (rows) {
      case 4: combine_rows<4>(band, i, in, out, width); break;
      case 2: combine_rows<2>(band, i, in, out, width); break;
      default: combine_rows<1>(band, i, in, out, width); break;
    }
    finish(i, rows);
  }
}

template <int kRows, class T>
SSAD_INLINE void make_block(const UpsampleBlock<T>& block, const Rows<const T>& in,
                            const Rows<T>& out) {
  constexpr int kVectors = static_cast<int>(kUpsampleBlock<T> / kLanes<T>);
  Vector<T> sum[kRows][kVectors] = {};
  const T* weight = block.weight;
  for (int64_t k = 0; k < block.count; ++k, weight += kUpsampleBlock<T>) {
    for (int v = 0; v < kVectors; ++v) {
      const Vector<T> values = load(weight + v * kLanes<T>);
      for (int r = 0; r < kRows; ++r) sum[r][v] += in[r][block.first + k] * values;
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) store(out[r] + block.start + v * kLanes<T>, sum[r][v]);
  }
}

// A weight of 0 would make a pixel NaN that no kernel reaches.
template <class T>
void make_columns_exactly(const UpsampleBand<T>& band, const T* in, T* out) {
  for (int64_t x = 0; x < band.outputs; ++x) {
    T sum = T{0};
    const T* weight = band.weight + x * band.taps;
    for (int64_t k = 0; k < band.count[x]; ++k) sum += weight[k] * in[band.first[x] + k];
    out[x] = sum;
  }
}

// `rows` rows, kUpsampleRows at most.
template <class T>
void make_columns(const UpsampleTables<T>& tables, const Rows<const T>& in, const Rows<T>& out,
                  int64_t rows, bool is_finite) {
  if (!is_finite) {
    for (int64_t r = 0; r < rows; ++r) make_columns_exactly(tables.x, in[r], out[r]);
  } else if (rows == kUpsampleRows) {
    for (int64_t b = 0; b < tables.block_count; ++b) {
      make_block<kUpsampleRows>(tables.blocks[b], in, out);
    }
  } else {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t b = 0; b < tables.block_count; ++b) {
        make_block<1, T>(tables.blocks[b], {in[r], 0}, {out[r], 0});
      }
    }
  }
}

template <class T>
bool rows_finite(const Rows<const T>& in, int64_t rows, int64_t width) {
  bool is_finite = true;
  for (int64_t y = 0; y < rows; ++y) is_finite &= all_finite(in[y], width);
  return is_finite;
}

template <class P>
struct Plane {
  using T = typename P::Compute;
  using Stored = typename P::Stored;

  const UpsampleProblem& problem;
  const UpsampleTables<T>& tables;
  const UpsampleRoom<T>& room;
  const Stored* from;
  Stored* to;
};

template <class P>
Rows<const typename P::Compute> input_of(const Plane<P>& plane) {
  using T = typename P::Compute;
  const ImageView& in = plane.problem.in;
  if constexpr (std::is_same_v<T, typename P::Stored>) {
    if (is_readable<T>(in)) return {plane.from, in.stride_y};
  }
  for (int64_t y = 0; y < in.h; ++y) {
    T* row = plane.room.in + y * plane.room.in_stride;
    const auto* from = plane.from + y * in.stride_y;
    for (int64_t x = 0; x < in.w; ++x) row[x] = P::load(from[x * in.stride_x]);
    for (int64_t x = in.w; x < plane.room.in_stride; ++x) row[x] = T{0};
  }
  return {plane.room.in, plane.room.in_stride};
}

template <class P>
void write_rows(const Plane<P>& plane, int64_t i, int64_t rows) {
  const int64_t w = plane.problem.w;
  for (int64_t r = 0; r < rows; ++r) {
    const auto* __restrict__ from = plane.room.out + r * plane.room.out_stride;
    auto* __restrict__ to = plane.to + (i + r) * w;
    for (int64_t x = 0; x < w; ++x) to[x] = P::store(from[x]);
  }
}

template <class P>
void upsample_plane(const Plane<P>& plane) {
  using T = typename P::Compute;
  const UpsampleRoom<T>& room = plane.room;
  const UpsampleProblem& problem = plane.problem;
  const Rows<const T> in = input_of(plane);
  const bool is_finite = rows_finite(in, problem.in.h, problem.in.w);
  const Rows<T> middle = {room.middle, room.middle_stride};
  for (int64_t y = 0; y < problem.in.h; y += kUpsampleRows) {
    const int64_t left = problem.in.h - y, rows = left < kUpsampleRows ? left : kUpsampleRows;
    make_columns<T>(plane.tables, {in[y], in.stride}, {middle[y], middle.stride}, rows, is_finite);
  }
  const Rows<const T> made = {middle.data, middle.stride};
  if constexpr (std::is_same_v<T, typename P::Stored>) {
    if (problem.w >= kUpsampleBlock<T>) {
      const auto place = [&](int64_t i) -> Rows<T> {
        return {plane.to + i * problem.w, problem.w};
      };
      make_rows(plane.tables.y, made, problem.w, place, [](int64_t, int64_t) {});
      return;
    }
  }
  const auto place = [&](int64_t) -> Rows<T> { return {room.out, room.out_stride}; };
  const int64_t width = problem.w < kUpsampleBlock<T> ? kUpsampleBlock<T> : problem.w;
  make_rows(plane.tables.y, made, width, place,
            [&](int64_t i, int64_t rows) { write_rows(plane, i, rows); });
}

template <class P>
void gather_plane(const Plane<P>& plane) {
  using T = typename P::Compute;
  const UpsampleRoom<T>& room = plane.room;
  const UpsampleProblem& problem = plane.problem;
  const Rows<T> middle = {room.middle, room.middle_stride};
  const Rows<const T> in = input_of(plane), made = {middle.data, middle.stride};
  const int64_t width = is_readable<T>(problem.in) ? problem.in.w : room.in_stride;
  const auto place = [&](int64_t i) -> Rows<T> { return {middle[i], middle.stride}; };
  make_rows(plane.tables.y, in, width, place, [](int64_t, int64_t) {});
  const bool is_finite = rows_finite(made, problem.h, problem.in.w);
  for (int64_t y = 0; y < problem.h; y += kUpsampleRows) {
    const int64_t left = problem.h - y, rows = left < kUpsampleRows ? left : kUpsampleRows;
    make_columns<T>(plane.tables, {made[y], made.stride}, {room.out, room.out_stride}, rows,
                    is_finite);
    write_rows(plane, y, rows);
  }
}

struct Job {
  const UpsampleProblem& problem;
  const UpsampleScratch& scratch;
};

template <class P>
const UpsampleTables<typename P::Compute>& tables_of(const UpsampleScratch& scratch) {
  if constexpr (sizeof(typename P::Compute) == sizeof(float)) {
    return *scratch.singles;
  } else {
    return *scratch.doubles;
  }
}

template <class P>
void run_plane(void* context, int64_t worker, int64_t i) {
  using Stored = typename P::Stored;
  const Job& job = *static_cast<const Job*>(context);
  const UpsampleProblem& problem = job.problem;
  const ImageView& in = problem.in;
  Arena arena = {job.scratch.memory + worker * job.scratch.bytes};
  const auto room = upsample_room<typename P::Compute>(&arena, problem);
  const int64_t offset = i / in.c * in.stride_n + i % in.c * in.stride_c;
  const Plane<P> plane = {problem, tables_of<P>(job.scratch), room,
                          static_cast<const Stored*>(in.data) + offset,
                          static_cast<Stored*>(problem.out) + i * problem.h * problem.w};
  problem.is_adjoint ? gather_plane(plane) : upsample_plane(plane);
}

}  // namespace

void upsample(const UpsampleProblem& problem, const UpsampleScratch& scratch, int64_t threads) {
  Job job = {problem, scratch};
  const int64_t planes = problem.in.n * problem.in.c;
  switch (problem.in.dtype) {
    case Dtype::kFloat16: return parallel_for(planes, threads, run_plane<Float16>, &job);
    case Dtype::kBFloat16: return parallel_for(planes, threads, run_plane<BFloat16>, &job);
    case Dtype::kFloat32: return parallel_for(planes, threads, run_plane<Float32>, &job);
    default: return parallel_for(planes, threads, run_plane<Float64>, &job);
  }
}

}  // namespace ssad::SSAD_LEVEL
