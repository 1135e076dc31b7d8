// SPDX-License-Identifier: Apache-2.0
// With s = a + b and d = a - b, means over a window and variances, the similarity of structure is
//   (1 - mean(d)² / B1) (1 - var(d) / B2),
//   B1 = (mean(s)² + mean(d)²) / 2 + C1, B2 = (var(s) + var(d)) / 2 + C2:
// four windowed means instead of five, and exactly 1 where the images are equal. A thread takes a
// band of a plane.
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "families.h"
#include "simd.h"
#include "ssad/parallel.h"
#include "ssad/pixel.h"
#include "ssim_room.h"

namespace ssad::SSAD_LEVEL {
namespace {

template <class T>
constexpr T kC1 = static_cast<T>(0.01 * 0.01);
template <class T>
constexpr T kC2 = static_cast<T>(0.03 * 0.03);

// s, d, and their squares.
template <class P>
void load_row(const typename P::Stored* a, int64_t step_a, const typename P::Stored* b,
              int64_t step_b, int64_t w, const SsimPlane<typename P::Compute>* planes, int64_t y) {
  using T = typename P::Compute;
  const T factor = std::is_same_v<P, UInt8Wide> ? T{1} / T{255} : T{1};
  T* __restrict__ s = planes[0].row(y), * __restrict__ d = planes[1].row(y);
  T* __restrict__ ss = planes[2].row(y), * __restrict__ dd = planes[3].row(y);
  const auto one = [&](int64_t x, T left, T right) SSAD_INLINE_LAMBDA {
    s[x] = (left + right) * factor, d[x] = (left - right) * factor;
    ss[x] = s[x] * s[x], dd[x] = d[x] * d[x];
  };
  if (step_a == 1 && step_b == 1) {
    for (int64_t x = 0; x < w; ++x) one(x, P::load(a[x]), P::load(b[x]));
  } else {
    for (int64_t x = 0; x < w; ++x) one(x, P::load(a[x * step_a]), P::load(b[x * step_b]));
  }
}

template <class T>
struct Window {
  const T* taps;
  int64_t size;
};

// Sums of taps[k] from[k step + x], over kVectors vectors from x on.
template <int kVectors, class T>
SSAD_INLINE void slide(const Window<T>& window, const T* from, int64_t step, T* to) {
  Vector<T> sum[kVectors] = {};
  for (int64_t k = 0; k < window.size; ++k, from += step) {
    for (int v = 0; v < kVectors; ++v) sum[v] += window.taps[k] * load(from + v * kLanes<T>);
  }
  for (int v = 0; v < kVectors; ++v) store(to + v * kLanes<T>, sum[v]);
}

template <class T>
void slide_row(const Window<T>& window, const T* from, int64_t step, int64_t w, T* to) {
  constexpr int kVectors = 8;  // as many sums hide the latency of a multiply-add
  int64_t x = 0;
  for (; x + kVectors * kLanes<T> <= w; x += kVectors * kLanes<T>) {
    slide<kVectors>(window, from + x, step, to + x);
  }
  for (; x < w; x += kLanes<T>) slide<1>(window, from + x, step, to + x);
}

// Means over the windows of row y, of which the first row is that of the plane.
template <class T>
void make_means(const Window<T>& window, const SsimPlane<T>& plane, int64_t y, int64_t w,
                T* columns, T* to) {
  slide_row(window, plane.row(y), plane.stride, w, columns);
  std::memset(columns + w, 0, kSsimPad * sizeof(T));  // whole vectors were written
  slide_row(window, columns - window.size / 2, 1, w, to);
}

template <class T>
struct Parts {
  T mean_s, mean_d, b1, b2, luminance, structure;
};

template <class T>
SSAD_INLINE Parts<T> parts_at(T* const* means, int64_t x) {
  const T s = means[0][x], d = means[1][x];
  const T var_s = means[2][x] - s * s, var_d = means[3][x] - d * d;
  const T b1 = (s * s + d * d) / 2 + kC1<T>, b2 = (var_s + var_d) / 2 + kC2<T>;
  return {s, d, b1, b2, 1 - d * d / b1, 1 - var_d / b2};
}

template <class T>
void make_map_row(T* const* means, int64_t w, T* __restrict__ to) {
  for (int64_t x = 0; x < w; ++x) {
    const Parts<T> parts = parts_at(means, x);
    to[x] = parts.luminance * parts.structure;
  }
}

// The gradient with respect to the four means.
template <class T>
void make_mean_gradients(T* const* means, const T* gradient, int64_t w, const SsimPlane<T>* planes,
                         int64_t y) {
  T* __restrict__ s = planes[0].row(y), * __restrict__ d = planes[1].row(y);
  T* __restrict__ ss = planes[2].row(y), * __restrict__ dd = planes[3].row(y);
  for (int64_t x = 0; x < w; ++x) {
    const Parts<T> p = parts_at(means, x);
    const T by_structure = gradient[x] * p.luminance / (2 * p.b2);
    const T by_luminance = gradient[x] * p.structure / p.b1;
    ss[x] = by_structure * (1 - p.structure);
    dd[x] = -by_structure * (1 + p.structure);
    s[x] = p.mean_s * (by_luminance * (1 - p.luminance) - 2 * ss[x]);
    d[x] = -p.mean_d * (by_luminance * (1 + p.luminance) + 2 * dd[x]);
  }
}

// With respect to a: s and d both grow with it. Windows are symmetric, and so their own adjoints.
template <class T>
void make_gradient_row(T* const* means, const T* s, const T* d, int64_t w, T* __restrict__ to) {
  for (int64_t x = 0; x < w; ++x) {
    to[x] = means[0][x] + means[1][x] + 2 * (s[x] * means[2][x] + d[x] * means[3][x]);
  }
}

struct Job {
  const SsimProblem& problem;
  const SsimScratch& scratch;
};

template <class P>
void load_rows(const SsimProblem& problem, int64_t plane, int64_t begin, int64_t rows,
               const SsimPlane<typename P::Compute>* planes) {
  using T = typename P::Compute;
  using Stored = typename P::Stored;
  const ImageView &a = problem.images, &b = problem.references;
  const auto start = [&](const ImageView& view) {
    const int64_t n = plane / a.c, c = plane % a.c;
    return static_cast<const Stored*>(view.data) + n * view.stride_n + c * view.stride_c;
  };
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t y = begin + i;
    for (int64_t p = 0; p < kSsimPlanes; ++p) {
      std::memset(planes[p].row(i) - kSsimPad, 0, planes[p].stride * sizeof(T));
    }
    if (y < 0 || y >= a.h) continue;
    load_row<P>(start(a) + y * a.stride_y, a.stride_x, start(b) + y * b.stride_y, b.stride_x, a.w,
                planes, i);
  }
}

template <class P>
void run_band(void* context, int64_t worker, int64_t i) {
  using T = typename P::Compute;
  const Job& job = *static_cast<const Job*>(context);
  const SsimProblem& problem = job.problem;
  Arena arena = {job.scratch.memory + worker * job.scratch.bytes};
  const auto room = ssim_room<T>(&arena, problem);
  const int64_t h = problem.images.h, w = problem.images.w, reach = problem.window / 2;
  const int64_t plane = i / ssim_bands(h), begin = i % ssim_bands(h) * kSsimBand;
  const int64_t rows = h - begin < kSsimBand ? h - begin : kSsimBand;
  T* out = static_cast<T*>(problem.out) + (plane * h + begin) * w;
  const Window<T> window = {room.taps, problem.window};
  for (int64_t k = 0; k < window.size; ++k) room.taps[k] = static_cast<T>(problem.taps[k]);
  std::memset(room.column_means - kSsimPad, 0, kSsimPad * sizeof(T));
  const auto find_means = [&](const SsimPlane<T>* planes, int64_t y) {
    for (int64_t p = 0; p < kSsimPlanes; ++p) {
      make_means(window, planes[p], y, w, room.column_means, room.means[p]);
    }
  };
  if (problem.gradient == nullptr) {
    load_rows<P>(problem, plane, begin - reach, rows + 2 * reach, room.planes);
    for (int64_t y = 0; y < rows; ++y) {
      find_means(room.planes, y);
      make_map_row(room.means, w, out + y * w);
    }
    return;
  }
  const T* gradient = static_cast<const T*>(problem.gradient) + plane * h * w;
  load_rows<P>(problem, plane, begin - 2 * reach, rows + 4 * reach, room.planes);
  for (int64_t k = 0; k < rows + 2 * reach; ++k) {
    const int64_t y = begin - reach + k;
    for (const SsimPlane<T>& one : room.gradients) {
      std::memset(one.row(k) - kSsimPad, 0, one.stride * sizeof(T));
    }
    if (y < 0 || y >= h) continue;
    find_means(room.planes, k);
    make_mean_gradients(room.means, gradient + y * w, w, room.gradients, k);
  }
  for (int64_t y = 0; y < rows; ++y) {
    find_means(room.gradients, y);
    make_gradient_row(room.means, room.planes[0].row(y + 2 * reach),
                      room.planes[1].row(y + 2 * reach), w, out + y * w);
  }
}

}  // namespace

void ssim(const SsimProblem& problem, const SsimScratch& scratch, int64_t threads) {
  Job job = {problem, scratch};
  const int64_t jobs = problem.images.n * problem.images.c * ssim_bands(problem.images.h);
  switch (problem.images.dtype) {
    case Dtype::kUInt8: return parallel_for(jobs, threads, run_band<UInt8Wide>, &job);
    case Dtype::kFloat16: return parallel_for(jobs, threads, run_band<Float16>, &job);
    case Dtype::kBFloat16: return parallel_for(jobs, threads, run_band<BFloat16>, &job);
    case Dtype::kFloat32: return parallel_for(jobs, threads, run_band<Float32>, &job);
    default: return parallel_for(jobs, threads, run_band<Float64>, &job);
  }
}

}  // namespace ssad::SSAD_LEVEL
