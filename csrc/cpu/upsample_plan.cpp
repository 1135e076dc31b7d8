// SPDX-License-Identifier: Apache-2.0
// Tables of weights, in double; then the kernel.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <new>

#include "kernels.h"
#include "ssad/parallel.h"
#include "ssad/upsample.h"
#include "upsample_tables.h"

namespace ssad {
namespace {

// The kernel's taps: the one in the middle of an odd kernel, or the two of an even one, are at
// distance 0.
void fill_taps(const UpsampleAxis& axis, double* taps) {
  for (int64_t t = 0; t <= (axis.kernel - 1) / 2; ++t) {
    const auto distance = static_cast<double>((axis.kernel - 1) / 2 - t);
    const double value = std::exp(-distance * distance / (2.0 * axis.sigma * axis.sigma));
    taps[t] = taps[axis.kernel - 1 - t] = axis.kernel % 2 == 0 ? 0.5 * value : value;
  }
}

int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

struct Range {
  int64_t first, count;
};

// The features whose kernels reach a pixel.
Range features_at(const UpsampleAxis& axis, int64_t pixel, int64_t features) {
  const int64_t at = pixel - axis.start;
  const int64_t first = std::max<int64_t>(0, floor_div(at - axis.kernel, axis.stride) + 1);
  const int64_t last = std::min(features - 1, floor_div(at, axis.stride));
  return {last < first ? 0 : first, std::max<int64_t>(0, last - first + 1)};
}

// The pixels that a feature's kernel reaches.
Range pixels_of(const UpsampleAxis& axis, int64_t feature, int64_t pixels) {
  const int64_t at = axis.start + axis.stride * feature;
  const int64_t first = std::max<int64_t>(0, at), last = std::min(pixels, at + axis.kernel);
  return {last <= first ? 0 : first, std::max<int64_t>(0, last - first)};
}

// One over the sum of weights at a pixel; 0 where there are none, or where it is subnormal: one
// over that may be infinite.
double scale_at(const UpsampleAxis& axis, const double* taps, int64_t pixel, int64_t features) {
  const Range range = features_at(axis, pixel, features);
  double sum = 0.0;
  for (int64_t k = 0; k < range.count; ++k) {
    sum += taps[pixel - axis.start - axis.stride * (range.first + k)];
  }
  return sum < std::numeric_limits<double>::min() ? 0.0 : 1.0 / sum;
}

int64_t taps_of(const UpsampleAxis& axis, bool is_adjoint) {
  return is_adjoint ? axis.kernel : (axis.kernel + axis.stride - 1) / axis.stride;
}

template <class T>
UpsampleBand<T> lay_out_band(SSAD_LEVEL::Arena* arena, const UpsampleAxis& axis, int64_t inputs,
                             int64_t outputs, bool is_adjoint) {
  UpsampleBand<T> band = {outputs, std::min(inputs, taps_of(axis, is_adjoint)), nullptr, nullptr,
                          nullptr};
  band.first = arena->take<int64_t>(outputs);
  band.count = arena->take<int64_t>(outputs);
  band.weight = arena->take<T>(outputs * band.taps);
  return band;
}

template <class T>
void fill_band(const UpsampleBand<T>& band, const UpsampleAxis& axis, int64_t inputs,
               bool is_adjoint, const double* taps, const double* scale) {
  for (int64_t i = 0; i < band.outputs; ++i) {
    const Range range = is_adjoint ? pixels_of(axis, i, inputs) : features_at(axis, i, inputs);
    band.first[i] = range.first, band.count[i] = range.count;
    T* weight = band.weight + i * band.taps;
    for (int64_t k = 0; k < range.count; ++k) {
      const int64_t other = range.first + k, pixel = is_adjoint ? other : i;
      const double value = taps[pixel - axis.start - axis.stride * (is_adjoint ? i : other)];
      weight[k] = static_cast<T>(scale == nullptr ? value : value * scale[pixel]);
    }
  }
}

template <class T>
UpsampleBlock<T> range_of_block(const UpsampleBand<T>& band, int64_t b) {
  constexpr int64_t kBlock = kUpsampleBlock<T>;
  const int64_t start = std::max<int64_t>(0, std::min(b * kBlock, band.outputs - kBlock));
  const int64_t end = std::min(start + kBlock, band.outputs);
  int64_t first = INT64_MAX, last = 0;
  for (int64_t i = start; i < end; ++i) {
    if (band.count[i] == 0) continue;
    first = std::min(first, band.first[i]), last = std::max(last, band.first[i] + band.count[i]);
  }
  return {start, last == 0 ? 0 : first, last == 0 ? 0 : last - first, nullptr};
}

template <class T>
void fill_block(const UpsampleBand<T>& band, const UpsampleBlock<T>& block) {
  constexpr int64_t kBlock = kUpsampleBlock<T>;
  std::fill_n(block.weight, block.count * kBlock, T{0});
  for (int64_t l = 0; l < kBlock && block.start + l < band.outputs; ++l) {
    const int64_t i = block.start + l;
    for (int64_t k = 0; k < band.count[i]; ++k) {
      const int64_t at = band.first[i] + k - block.first;
      block.weight[at * kBlock + l] = band.weight[i * band.taps + k];
    }
  }
}

// Memory that is big enough, on a cache line; null when there is none.
std::unique_ptr<char[]> allocate(int64_t bytes) {
  return std::unique_ptr<char[]>(new (std::nothrow) char[bytes + kCacheLine]);
}

template <class T>
bool run(const UpsampleProblem& problem, int64_t threads) {
  const ImageView& in = problem.in;
  const bool is_adjoint = problem.is_adjoint;
  const auto lay_out = [&](SSAD_LEVEL::Arena* arena) -> UpsampleTables<T> {
    UpsampleTables<T> tables = {};
    tables.y = lay_out_band<T>(arena, problem.y, in.h, problem.h, is_adjoint);
    tables.x = lay_out_band<T>(arena, problem.x, in.w, problem.w, is_adjoint);
    tables.block_count = (problem.w + kUpsampleBlock<T> - 1) / kUpsampleBlock<T>;
    tables.blocks = arena->take<UpsampleBlock<T>>(tables.block_count);
    return tables;
  };
  const int64_t pixels_h = is_adjoint ? in.h : problem.h, pixels_w = is_adjoint ? in.w : problem.w;
  const int64_t most_pixels = std::max(pixels_h, pixels_w);
  const int64_t most_taps = std::max(problem.y.kernel, problem.x.kernel);
  SSAD_LEVEL::Arena needed = {nullptr};
  lay_out(&needed);
  needed.take<double>(most_pixels), needed.take<double>(most_taps);
  const auto memory = allocate(needed.used);
  if (!memory) return false;
  SSAD_LEVEL::Arena arena = {SSAD_LEVEL::align(memory.get())};
  UpsampleTables<T> tables = lay_out(&arena);
  double* scale = arena.take<double>(most_pixels);
  double* taps = arena.take<double>(most_taps);

  const auto fill = [&](const UpsampleBand<T>& band, const UpsampleAxis& axis, int64_t inputs) {
    const int64_t features = is_adjoint ? band.outputs : inputs;
    const int64_t pixels = is_adjoint ? inputs : band.outputs;
    fill_taps(axis, taps);
    for (int64_t i = 0; problem.normalise && i < pixels; ++i) {
      scale[i] = scale_at(axis, taps, i, features);
    }
    fill_band(band, axis, inputs, is_adjoint, taps, problem.normalise ? scale : nullptr);
  };
  fill(tables.y, problem.y, in.h);
  fill(tables.x, problem.x, in.w);
  int64_t weights = 0;
  for (int64_t b = 0; b < tables.block_count; ++b) {
    tables.blocks[b] = range_of_block(tables.x, b);
    weights += tables.blocks[b].count * kUpsampleBlock<T>;
  }
  const auto packed = allocate(weights * static_cast<int64_t>(sizeof(T)));
  if (!packed) return false;
  T* next = reinterpret_cast<T*>(SSAD_LEVEL::align(packed.get()));
  for (int64_t b = 0; b < tables.block_count; ++b) {
    tables.blocks[b].weight = next;
    fill_block(tables.x, tables.blocks[b]);
    next += tables.blocks[b].count * kUpsampleBlock<T>;
  }

  constexpr double kNanosecondsPerTap = 0.03;
  const int64_t planes = in.n * in.c;
  const double work = static_cast<double>(planes * pixels_h * pixels_w) *
                      static_cast<double>(8 + taps_of(problem.y, false)) * kNanosecondsPerTap;
  const int64_t used = useful_threads(threads < planes ? threads : planes, work);
  SSAD_LEVEL::Arena room = {nullptr};
  SSAD_LEVEL::upsample_room<T>(&room, problem);
  const auto scratch_memory = allocate(std::max<int64_t>(1, used) * room.used);
  if (!scratch_memory) return false;
  UpsampleScratch scratch = {SSAD_LEVEL::align(scratch_memory.get()), room.used, nullptr, nullptr};
  if constexpr (sizeof(T) == sizeof(float)) {
    scratch.singles = &tables;
  } else {
    scratch.doubles = &tables;
  }
  kernels().upsample(problem, scratch, used);
  return true;
}

}  // namespace

bool upsample(const UpsampleProblem& problem, int64_t threads) {
  const bool is_double = problem.in.dtype == Dtype::kFloat64;
  return is_double ? run<double>(problem, threads) : run<float>(problem, threads);
}

}  // namespace ssad
