// SPDX-License-Identifier: Apache-2.0
// A thread takes a band of an image: greys of all scales first, then their maps row after row, of
// which the medians of the last three are kept.
#include <cstdint>
#include <cstring>

#include "families.h"
#include "gms_room.h"
#include "gms_scale.h"
#include "simd.h"
#include "ssad/parallel.h"
#include "ssad/pixel.h"

namespace ssad::SSAD_LEVEL {
namespace {

template <class T>
void widen(const GmsTables<T>& tables, int64_t scale, const T* row, T* to) {
  constexpr int kVectors = static_cast<int>(kGmsBlock<T> / kLanes<T>);
  for (int64_t b = 0; b < tables.block_count; ++b) {
    const GmsBlock<T>& block = tables.blocks[scale][b];
    Vector<T> sum[kVectors] = {};
    for (int64_t k = 0; k < block.count; ++k) {
      for (int v = 0; v < kVectors; ++v) {
        sum[v] += row[block.first + k] * load(block.weight + k * kGmsBlock<T> + v * kLanes<T>);
      }
    }
    for (int v = 0; v < kVectors; ++v) store(to + block.start + v * kLanes<T>, sum[v]);
  }
}

// Zeros among the weights would spread what is not finite.
template <class T>
void widen_exactly(int64_t in, int64_t out, const T* row, T* to) {
  for (int64_t x = 0; x < out; ++x) {
    const ResizePoint at = resize_point(x, in, out);
    const T weight = static_cast<T>(at.weight);
    to[x] = (T{1} - weight) * row[at.low] + weight * row[at.high];
  }
}

template <class T>
struct Band {
  const GmsProblem& problem;
  const GmsTables<T>& tables;
  const GmsRoom<T>& room;
  GmsLevel levels[kMostScales];
  int64_t n, begin, end;  // rows of the image
  bool is_finite[2];

  Scale<T> scale(int64_t s, int64_t first_row) const {
    return {{room.images[s], levels[s], room.zeros, is_finite[0]},
            {room.references[s], levels[s], room.zeros, is_finite[1]},
            room.medians[s],
            room.sorted,
            static_cast<T>(problem.c),
            first_row};
  }
  // What a pixel of a scale counts in the loss.
  double share(int64_t s) const {
    return 1.0 / static_cast<double>(problem.scales * (levels[s].h - 2) * (levels[s].w - 2));
  }
};

template <class T>
void subtract_between(const T* low, const T* high, T low_weight, T high_weight, int64_t w,
                      T* __restrict__ to) {
  for (int64_t x = 0; x < w; ++x) to[x] -= low_weight * low[x] + high_weight * high[x];
}

template <class T>
void make_map(const Band<T>& band) {
  const int64_t h = band.problem.images.h, w = band.problem.images.w;
  T* out = static_cast<T*>(band.problem.out) + band.n * h * w;
  Scale<T> scales[kMostScales];
  int64_t next[kMostScales];
  for (int64_t s = 0; s < band.problem.scales; ++s) {
    next[s] = band.levels[s].from;
    scales[s] = band.scale(s, next[s]);
  }
  const T share = T{1} / static_cast<T>(band.problem.scales);
  for (int64_t y = band.begin; y < band.end; ++y) {
    for (int64_t x = 0; x < w; ++x) out[y * w + x] = T{1};
    for (int64_t s = 0; s < band.problem.scales; ++s) {
      const GmsLevel& level = band.levels[s];
      const ResizePoint at = resize_point(y, level.h - 2, h);
      for (; next[s] <= at.high; ++next[s]) {
        T* line = band.room.lines[s][next[s] % 2];
        scales[s].make_row(next[s], band.room.row);
        if (band.is_finite[0] && band.is_finite[1]) {
          widen(band.tables, s, band.room.row, line);
        } else {
          widen_exactly(level.w - 2, w, band.room.row, line);
        }
      }
      const T weight = static_cast<T>(at.weight) * share;
      subtract_between(band.room.lines[s][at.low % 2], band.room.lines[s][at.high % 2],
                       share - weight, weight, w, out + y * w);
    }
  }
}

template <class T>
double row_sum(const T* row, int64_t w) {
  T sum = T{0};
#pragma omp simd reduction(+ : sum)
  for (int64_t x = 0; x < w; ++x) sum += row[x];
  return static_cast<double>(sum);
}

template <class T>
double make_loss(const Band<T>& band) {
  double total = 0.0;
  for (int64_t s = 0; s < band.problem.scales; ++s) {
    const GmsLevel& level = band.levels[s];
    Scale<T> scale = band.scale(s, level.from);
    double sum = 0.0;
    for (int64_t y = level.from; y < level.to; ++y) {
      scale.make_row(y, band.room.row);
      sum += row_sum(band.room.row, level.w - 2);
    }
    total += sum * band.share(s);
  }
  return total;
}

// The gradient of row y of the medians, from those of the slopes.
template <class T>
void make_median_gradient(const Band<T>& band, const GmsLevel& level, int64_t y,
                          T* __restrict__ to) {
  constexpr T kThird = T{1} / T{3};
  const T* dx[3];
  const T* dy[3];
  for (int64_t k = 0; k < 3; ++k) {
    const int64_t from = y - 2 + k;
    const bool is_there = from >= 0 && from < level.h - 2;
    dx[k] = is_there ? band.room.slopes[from % 3][0] : band.room.zeros;
    dy[k] = is_there ? band.room.slopes[from % 3][1] : band.room.zeros;
  }
  const T *x0 = dx[0], *x1 = dx[1], *x2 = dx[2], *above = dy[0], *below = dy[2];
  for (int64_t x = 0; x < level.w; ++x) {
    const T right = x0[x - 2] + x1[x - 2] + x2[x - 2], left = x0[x] + x1[x] + x2[x];
    const T bottom = above[x] + above[x - 1] + above[x - 2];
    const T top = below[x] + below[x - 1] + below[x - 2];
    to[x] = (right - left + (bottom - top)) * kThird;
  }
}

// Moves what is left of a row of gradients to where the neighbour is the median.
template <class T>
void move_to(const T* neighbour, const T* median, int64_t w, T* __restrict__ left,
             T* __restrict__ to) {
  for (int64_t x = 0; x < w; ++x) {
    const bool is_median = neighbour[x] == median[x];
    to[x] += is_median ? left[x] : T{0};
    left[x] = is_median ? T{0} : left[x];
  }
}

template <class T>
void make_gradient_of(const Band<T>& band, int64_t s) {
  const GmsLevel& level = band.levels[s];
  const GmsRoom<T>& room = band.room;
  const GmsPlane<T>& plane = room.gradients[s];
  const auto row_of = [&](int64_t y) { return plane.data + (y - level.from) * plane.stride; };
  for (int64_t y = level.from; y < level.to; ++y) {
    T* row = row_of(y);
    std::memset(row - 1, 0, static_cast<size_t>(level.w + 2) * sizeof(T));
    if (s + 1 == band.problem.scales || y / 2 >= band.levels[s + 1].h) continue;
    const GmsLevel& half = band.levels[s + 1];
    const T* coarse =
        room.gradients[s + 1].data + (y / 2 - half.from) * room.gradients[s + 1].stride;
    for (int64_t x = 0; x < half.w; ++x) row[2 * x] = row[2 * x + 1] = T{0.25} * coarse[x];
  }
  int64_t next = level.from < 3 ? 0 : level.from - 3;
  const int64_t begin = level.from < 1 ? 0 : level.from - 1;
  const int64_t end = level.to < level.h ? level.to + 1 : level.h;
  Scale<T> scale = band.scale(s, next);
  for (int64_t y = begin; y < end; ++y) {
    for (; next <= y && next < level.h - 2; ++next) {
      T* const* to = room.slopes[next % 3];
      scale.make_slope_gradients(next, static_cast<T>(2.0 * band.share(s)), to[0], to[1]);
    }
    make_median_gradient(band, level, y, room.row);
    for (int64_t dy = -1; dy <= 1; ++dy) {
      const bool is_own = y + dy >= level.from && y + dy < level.to;
      T* to = is_own ? row_of(y + dy) : room.sorted[0];
      const T* grey = scale.images.row(y + dy);
      for (int64_t dx = -1; dx <= 1; ++dx) {
        move_to(grey + dx, scale.median(0, y), level.w, room.row, to + dx);
      }
    }
  }
}

template <class T>
void make_gradient(const Band<T>& band) {
  for (int64_t s = band.problem.scales - 1; s >= 0; --s) make_gradient_of(band, s);
  const int64_t h = band.problem.images.h, w = band.problem.images.w;
  const T factor =
      static_cast<const T*>(band.problem.gradient)[band.n] / static_cast<T>(band.problem.images.c);
  T* out = static_cast<T*>(band.problem.out) + band.n * h * w;
  for (int64_t y = band.begin; y < band.end; ++y) {
    const T* row = band.room.gradients[0].data + (y - band.begin) * band.room.gradients[0].stride;
    for (int64_t x = 0; x < w; ++x) out[y * w + x] = factor * row[x];
  }
}

struct Job {
  const GmsProblem& problem;
  const GmsScratch& scratch;
};

template <class P>
void run_band(void* context, int64_t worker, int64_t i) {
  using T = typename P::Compute;
  const Job& job = *static_cast<const Job*>(context);
  const GmsProblem& problem = job.problem;
  const int64_t bands = gms_bands(problem.images.h), b = i % bands, n = i / bands;
  Arena arena = {job.scratch.memory + worker * job.scratch.bytes};
  const auto room = gms_room<T>(&arena, problem);
  const int64_t begin = b * kGmsBand;
  Band<T> band = {problem, *static_cast<const GmsTables<T>*>(job.scratch.tables), room, {}, n,
                  begin,   b + 1 == bands ? problem.images.h : begin + kGmsBand,  {}};
  find_gms_levels(problem, b, band.levels);
  std::memset(room.zeros - kGmsPad, 0, gms_stride(problem.images.w) * sizeof(T));
  band.is_finite[0] = make_greys<P>(problem.images, n, band.levels, problem.scales, room.images);
  band.is_finite[1] =
      make_greys<P>(problem.references, n, band.levels, problem.scales, room.references);
  switch (problem.kind) {
    case GmsKind::kMap: return make_map(band);
    case GmsKind::kLoss: job.scratch.sums[i] = make_loss(band); return;
    default: return make_gradient(band);
  }
}

}  // namespace

void gms(const GmsProblem& problem, const GmsScratch& scratch, int64_t threads) {
  Job job = {problem, scratch};
  const int64_t jobs = problem.images.n * gms_bands(problem.images.h);
  switch (problem.images.dtype) {
    case Dtype::kUInt8: return parallel_for(jobs, threads, run_band<UInt8Wide>, &job);
    case Dtype::kFloat16: return parallel_for(jobs, threads, run_band<Float16>, &job);
    case Dtype::kBFloat16: return parallel_for(jobs, threads, run_band<BFloat16>, &job);
    case Dtype::kFloat32: return parallel_for(jobs, threads, run_band<Float32>, &job);
    default: return parallel_for(jobs, threads, run_band<Float64>, &job);
  }
}

}  // namespace ssad::SSAD_LEVEL
