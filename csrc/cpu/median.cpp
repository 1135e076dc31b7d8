// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstring>

#include "families.h"
#include "label_room.h"
#include "lanes.h"
#include "median_march.h"
#include "rows.h"
#include "ssad/parallel.h"
#include "window_count.h"

namespace ssad::SSAD_LEVEL {
namespace {

struct Job {
  const MedianProblem& problem;
  const LabelScratch& scratch;
};

struct Span {
  int64_t begin, end;
};

// [start, start + size) within [0, limit); no sum overflows.
Span clipped(int64_t start, int64_t size, int64_t limit) {
  if (size <= 0 || start >= limit) return {0, 0};
  if (start < 0) {
    const int64_t end = start + size;
    return {0, end < 0 ? 0 : (end < limit ? end : limit)};
  }
  return {start, size < limit - start ? start + size : limit};
}

template <class S>
struct Source {
  const S* data;
  int64_t stride_y, stride_x;

  const S* row(int64_t y) const { return data + y * stride_y; }
};

template <class E>
bool to_lanes(const typename E::Stored* from, int64_t step, typename E::Lane* to, int64_t w) {
  int any = 0;
  if (step == 1) {
    for (int64_t x = 0; x < w; ++x) to[x] = E::lane(from[x]), any |= E::is_nan(from[x]);
  } else {
    for (int64_t x = 0; x < w; ++x) {
      to[x] = E::lane(from[step * x]), any |= E::is_nan(from[step * x]);
    }
  }
  return any != 0;
}

// NaN wherever a window has one.
template <class E>
void spread_nan(const Source<typename E::Stored>& from, int64_t radius, int64_t h, int64_t w,
                Span ys, Span xs, const LabelRoom& room, typename E::Stored* out) {
  const Plane<uint8_t> plane = {room.bytes[0], h, w};
  const Window window = window_of(radius, false);
  for (int64_t y = 0; y < h; ++y) {
    for (int64_t x = 0; x < w; ++x) plane.row(y)[x] = E::is_nan(from.row(y)[x * from.stride_x]);
    plane.repeat_ends(y);
  }
  for (int64_t y = ys.begin; y < ys.end; ++y) {
    count_row(window, plane, y, xs.begin, xs.end, 0, room.columns, room.flags);
    for (int64_t x = xs.begin; x < xs.end; ++x) {
      if (room.flags[x] != 0) out[y * w + x] = E::nan();
    }
  }
}

template <class E>
void filter(const Job& job, const Source<typename E::Stored>& from, Span ys, Span xs,
            const LabelRoom& room, typename E::Stored* out) {
  using Lane = typename E::Lane;
  const int64_t radius = job.problem.radius, h = job.problem.images.h, w = job.problem.images.w;
  const Plane<Lane> plane = {reinterpret_cast<Lane*>(room.lanes), h, w};
  // Two rows of medians, on an even row, may need one more.
  const int64_t top = ys.begin - radius - 1 > 0 ? ys.begin - radius - 1 : 0;
  const int64_t bottom = ys.end + radius + 3 < h ? ys.end + radius + 3 : h;
  bool any_nan = false;
  for (int64_t y = top; y < bottom; ++y) {
    any_nan |= to_lanes<E>(from.row(y), from.stride_x, plane.row(y), w);
    plane.repeat_ends(y);
  }
  March<Lane> march(median_network(radius), plane, room.march);
  for (int64_t x = xs.begin; x < xs.end; x += March<Lane>::kWidth) {
    const int64_t count = xs.end - x < March<Lane>::kWidth ? xs.end - x : March<Lane>::kWidth;
    const auto write = [&](int64_t y, const Lane* medians) {
      if (y < ys.begin || y >= ys.end) return;
      for (int64_t i = 0; i < count; ++i) out[y * w + x + i] = E::stored(medians[i]);
    };
    march.start(x);
    for (int64_t pair = ys.begin / 2; 2 * pair < ys.end; ++pair) {
      const Lane *upper, *lower;
      march.step(pair, &upper, &lower);
      write(2 * pair, upper);
      write(2 * pair + 1, lower);
    }
  }
  if (any_nan) spread_nan<E>(from, radius, h, w, ys, xs, room, out);
}

struct BoolElement {
  using Stored = uint8_t;
};

template <>
void filter<BoolElement>(const Job& job, const Source<uint8_t>& from, Span ys, Span xs,
                         const LabelRoom& room, uint8_t* out) {
  const int64_t h = job.problem.images.h, w = job.problem.images.w;
  const Plane<uint8_t> plane = {room.bytes[0], h, w};
  const Window window = window_of(job.problem.radius, job.problem.is_square);
  for (int64_t y = 0; y < h; ++y) {
    gather_row(from.row(y), from.stride_x, plane.row(y), w);
    for (int64_t x = 0; x < w; ++x) plane.row(y)[x] = plane.row(y)[x] != 0;
    plane.repeat_ends(y);
  }
  for (int64_t y = ys.begin; y < ys.end; ++y) {
    count_row(window, plane, y, xs.begin, xs.end, window.pixels / 2, room.columns, room.flags);
    std::memcpy(out + y * w + xs.begin, room.flags + xs.begin,
                static_cast<size_t>(xs.end - xs.begin));
  }
}

template <class E>
void filter_plane(void* context, int64_t worker, int64_t i) {
  using Stored = typename E::Stored;
  const Job& job = *static_cast<const Job*>(context);
  const ImageView& images = job.problem.images;
  const int64_t h = images.h, w = images.w, sample = i / images.c;
  Arena arena = {job.scratch.memory + worker * job.scratch.bytes};
  const bool is_bool = job.problem.element == Element::kBool;
  const int64_t lane = sizeof(Stored) < 2 ? (is_bool ? 0 : 2) : sizeof(Stored);
  const MedianNetwork* network = is_bool ? nullptr : &median_network(job.problem.radius);
  const LabelRoom room = label_room(&arena, h, w, lane, network);
  const Source<Stored> from = {static_cast<const Stored*>(images.data) + sample * images.stride_n +
                                   i % images.c * images.stride_c,
                               images.stride_y, images.stride_x};
  Stored* out = static_cast<Stored*>(job.problem.out) + i * h * w;
  Span ys = {0, h}, xs = {0, w};
  if (job.problem.boxes != nullptr) {
    const int64_t* box = job.problem.boxes + 4 * sample;
    ys = clipped(box[0], box[2], h), xs = clipped(box[1], box[3], w);
    for (int64_t y = 0; y < h; ++y) gather_row(from.row(y), images.stride_x, out + y * w, w);
  }
  if (ys.begin < ys.end && xs.begin < xs.end) filter<E>(job, from, ys, xs, room, out);
}

}  // namespace

void median_filter(const MedianProblem& problem, const LabelScratch& scratch, int64_t threads) {
  Job job = {problem, scratch};
  const int64_t planes = problem.images.n * problem.images.c;
  const auto run = [&](void (*body)(void*, int64_t, int64_t)) {
    parallel_for(planes, threads, body, &job);
  };
  switch (problem.element) {
    case Element::kBool: return run(filter_plane<BoolElement>);
    case Element::kUInt8: return run(filter_plane<UInt8Lane>);
    case Element::kInt16: return run(filter_plane<Int16Lane>);
    case Element::kInt32: return run(filter_plane<Int32Lane>);
    case Element::kFloat16: return run(filter_plane<Float16Lane>);
    case Element::kBFloat16: return run(filter_plane<BFloat16Lane>);
    case Element::kFloat32: return run(filter_plane<Float32Lane>);
    case Element::kFloat64: return run(filter_plane<Float64Lane>);
  }
}

}  // namespace ssad::SSAD_LEVEL
