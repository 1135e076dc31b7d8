// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstring>

#include "channel_sums.h"
#include "families.h"
#include "label_room.h"
#include "ssad/parallel.h"
#include "window_count.h"

namespace ssad::SSAD_LEVEL {
namespace {

constexpr int64_t kLevels = 256;

struct Job {
  const ObjectMaskProblem& problem;
  const LabelScratch& scratch;
};

// The nearest of 256 levels, halves upwards.
inline uint8_t level_of(int16_t sum, int64_t channels) {
  const auto c = static_cast<int>(channels);
  return static_cast<uint8_t>((2 * sum + c) / (2 * c));
}

template <class S>
uint8_t level_of(S sum, int64_t channels) {
  if (is_nan(sum)) return 0;
  const S level = sum * (S{255} / static_cast<S>(channels)) + S{0.5};
  return static_cast<uint8_t>(level < S{0} ? S{0} : (level > S{255} ? S{255} : level));
}

template <class P>
void find_objects(const ObjectMaskProblem& problem, int64_t i, const LabelRoom& room,
                  const Plane<uint8_t>& plane) {
  using Sum = typename P::Sum;
  const ImageView& images = problem.images;
  const auto low = static_cast<Sum>(problem.low), high = static_cast<Sum>(problem.high);
  auto* sums = reinterpret_cast<Sum*>(room.line);
  for (int64_t y = 0; y < plane.h; ++y) {
    sum_channels<P>(images, i, y, 0, plane.w, sums);
    uint8_t* to = plane.row(y);
    for (int64_t x = 0; x < plane.w; ++x) {
      to[x] = ((sums[x] < low) | (sums[x] > high)) & !is_nan(sums[x]);
    }
    plane.repeat_ends(y);
  }
}

// Otsu: the level up to which pixels are dark; -1 for an image of one level.
int64_t best_level(const int64_t* histogram) {
  int64_t pixels = 0, sum = 0;
  for (int64_t level = 0; level < kLevels; ++level) {
    pixels += histogram[level], sum += level * histogram[level];
  }
  int64_t best = -1, below = 0, sum_below = 0;
  double most = 0.0;
  for (int64_t level = 0; level < kLevels; ++level) {
    below += histogram[level], sum_below += level * histogram[level];
    const int64_t above = pixels - below;
    if (below == 0 || above == 0) continue;
    const double difference = static_cast<double>(sum_below) / static_cast<double>(below) -
                              static_cast<double>(sum - sum_below) / static_cast<double>(above);
    const double spread =
        static_cast<double>(below) * static_cast<double>(above) * (difference * difference);
    if (spread > most) most = spread, best = level;
  }
  return best;
}

template <class P>
void find_by_otsu(const ObjectMaskProblem& problem, int64_t i, const LabelRoom& room,
                  const Plane<uint8_t>& plane) {
  using Sum = typename P::Sum;
  const ImageView& images = problem.images;
  auto* sums = reinterpret_cast<Sum*>(room.line);
  int64_t histogram[4][kLevels] = {};  // neighbours are often equal: they would wait for each other
  for (int64_t y = 0; y < plane.h; ++y) {
    sum_channels<P>(images, i, y, 0, plane.w, sums);
    uint8_t* to = plane.row(y);
    for (int64_t x = 0; x < plane.w; ++x) to[x] = level_of(sums[x], images.c);
    for (int64_t x = 0; x < plane.w; ++x) ++histogram[x % 4][to[x]];
  }
  for (int64_t level = 0; level < kLevels; ++level) {
    for (int part = 1; part < 4; ++part) histogram[0][level] += histogram[part][level];
  }
  const int64_t best = best_level(histogram[0]);
  int64_t frame = 0, bright = 0;
  for (int64_t y = 0; y < plane.h; ++y) {
    const bool is_whole = y == 0 || y == plane.h - 1 || plane.w == 1;
    const int64_t step = is_whole ? 1 : plane.w - 1;
    for (int64_t x = 0; x < plane.w; x += step) ++frame, bright += plane.row(y)[x] > best;
  }
  const bool is_bright_behind = 2 * bright > frame;
  for (int64_t y = 0; y < plane.h; ++y) {
    uint8_t* to = plane.row(y);
    if (best < 0) {
      std::memset(to, 0, static_cast<size_t>(plane.w));
    } else {
      const auto bound = static_cast<uint8_t>(best), flip = static_cast<uint8_t>(is_bright_behind);
      for (int64_t x = 0; x < plane.w; ++x) to[x] = static_cast<uint8_t>(to[x] > bound) ^ flip;
    }
    plane.repeat_ends(y);
  }
}

template <class P>
void mask_image(void* context, int64_t worker, int64_t i) {
  const Job& job = *static_cast<const Job*>(context);
  const ObjectMaskProblem& problem = job.problem;
  const int64_t h = problem.images.h, w = problem.images.w;
  Arena arena = {job.scratch.memory + worker * job.scratch.bytes};
  const LabelRoom room = label_room(&arena, h, w, 0, nullptr);
  const Plane<uint8_t> plane = {room.bytes[0], h, w};
  problem.is_otsu ? find_by_otsu<P>(problem, i, room, plane)
                  : find_objects<P>(problem, i, room, plane);
  const Window window = window_of(problem.size / 2, true);
  for (int64_t y = 0; y < h; ++y) {
    count_row(window, plane, y, 0, w, window.pixels / 2, room.columns, room.flags);
    std::memcpy(problem.out + (i * h + y) * w, room.flags, static_cast<size_t>(w));
  }
}

}  // namespace

void object_mask(const ObjectMaskProblem& problem, const LabelScratch& scratch, int64_t threads) {
  Job job = {problem, scratch};
  const auto run = [&](void (*body)(void*, int64_t, int64_t)) {
    parallel_for(problem.images.n, threads, body, &job);
  };
  switch (problem.images.dtype) {
    case Dtype::kUInt8: return run(mask_image<ByteSums>);
    case Dtype::kFloat16: return run(mask_image<FloatSums<Float16, float>>);
    case Dtype::kBFloat16: return run(mask_image<FloatSums<BFloat16, float>>);
    case Dtype::kFloat32: return run(mask_image<FloatSums<Float32, float>>);
    case Dtype::kFloat64: return run(mask_image<FloatSums<Float64, double>>);
  }
}

}  // namespace ssad::SSAD_LEVEL
