// SPDX-License-Identifier: Apache-2.0
// What a label costs follows from its region: rows without any are skipped, and the median of a
// disk is taken only in slots of two rows that hold a part of the label. Beyond the box around a
// label it is zero, because less than half of a window lies on one side of its centre; but between
// parts of a label it need not be, so "intensity" takes it in slots beside these, too.
#include <cstdint>
#include <cstring>

#include "channel_sums.h"
#include "families.h"
#include "label_room.h"
#include "rows.h"
#include "sigmoid.h"
#include "ssad/parallel.h"
#include "window_count.h"

namespace ssad::SSAD_LEVEL {
namespace {

struct Job {
  const LabelProblem& problem;
  const LabelScratch& scratch;
};

// Rows [top, bottom) and columns [left, right).
struct Box {
  int64_t top, bottom, left, right;
};

int64_t at_least(int64_t x, int64_t low) { return x < low ? low : x; }
int64_t at_most(int64_t x, int64_t high) { return x < high ? x : high; }

Box grown(const Box& box, int64_t by, int64_t h, int64_t w) {
  return {at_least(box.top - by, 0), at_most(box.bottom + by, h), at_least(box.left - by, 0),
          at_most(box.right + by, w)};
}

// Where the first and the last byte of a row are set, which are 0 or not; false if none is.
bool find_ends(const uint8_t* row, int64_t w, int64_t* first, int64_t* end) {
  const auto word = [row](int64_t x) {
    uint64_t bytes;
    std::memcpy(&bytes, row + x, sizeof(bytes));
    return bytes;
  };
  int64_t x0 = 0, x1 = w;
  while (x0 + 8 <= w && word(x0) == 0) x0 += 8;
  while (x0 < w && row[x0] == 0) ++x0;
  if (x0 == w) return false;
  while (x1 >= 8 && word(x1 - 8) == 0) x1 -= 8;
  while (row[x1 - 1] == 0) --x1;
  *first = x0;
  *end = x1;
  return true;
}

// Compares with the threshold, and leaves the numbers of which the median is taken.
inline void compare(int16_t sum, uint8_t is_inside, int16_t threshold, int64_t, uint8_t* changed,
                    int16_t* value) {
  *changed = static_cast<uint8_t>((sum > threshold) & (is_inside != 0));
  *value = is_inside != 0 ? sum : int16_t{0};
}

template <class S>
SSAD_INLINE void compare(S sum, uint8_t is_inside, S threshold, int64_t channels, uint8_t* changed,
                         float* value) {
  const bool counts = (is_inside != 0) & !is_nan(sum);
  *changed = static_cast<uint8_t>(sum > threshold) & static_cast<uint8_t>(counts);
  const auto level = static_cast<float>(sum * (S{255} / static_cast<S>(channels)));
  *value = counts ? level : 0.0f;
}

// A row of the region, as bytes side by side.
const uint8_t* region_row(const LabelProblem& problem, int64_t i, int64_t y, uint8_t* room) {
  const auto* region = static_cast<const uint8_t*>(problem.region.data) +
                       i * problem.region.stride_n + y * problem.region.stride_y;
  if (problem.region.stride_x == 1) return region;
  gather_row(region, problem.region.stride_x, room, problem.region.w);
  return room;
}

// The rows of the region between which a byte is set; false if none is.
bool find_rows(const LabelProblem& problem, int64_t i, uint8_t* room, int64_t* top,
               int64_t* bottom) {
  const int64_t h = problem.region.h, w = problem.region.w;
  int64_t x0, x1;
  const auto is_empty = [&](int64_t y) {
    return !find_ends(region_row(problem, i, y, room), w, &x0, &x1);
  };
  *top = 0, *bottom = h;
  while (*top < h && is_empty(*top)) ++*top;
  if (*top == h) return false;
  while (is_empty(*bottom - 1)) --*bottom;
  return true;
}

// Fills the planes of changes and of differences in some rows; false where nothing changed.
template <class P>
bool find_changes(const LabelProblem& problem, int64_t i, const LabelRoom& room, int64_t top,
                  int64_t bottom, const Plane<uint8_t>& changed,
                  const Plane<typename P::Lane>& values, Box* box) {
  using Sum = typename P::Sum;
  const int64_t h = values.h, w = values.w, channels = problem.before.c;
  constexpr double kLargest = sizeof(Sum) == 2 ? 32767.0 : 3e38;
  const auto threshold =
      static_cast<Sum>(problem.threshold < kLargest ? problem.threshold : kLargest);
  auto* __restrict__ sums = reinterpret_cast<Sum*>(room.line);
  *box = {h, 0, w, 0};
  for (int64_t y = top; y < bottom; ++y) {
    const uint8_t* region = region_row(problem, i, y, room.flags);
    uint8_t* __restrict__ marks = changed.row(y);
    typename P::Lane* __restrict__ to = values.row(y);
    int64_t x0, x1;
    if (!find_ends(region, w, &x0, &x1)) continue;
    sum_differences<P>(problem.before, problem.after, i, y, x0, x1, sums);
    for (int64_t x = x0; x < x1; ++x) {
      compare(sums[x], region[x], threshold, channels, marks + x, to + x);
    }
    int64_t first, end;
    if (!find_ends(marks, w, &first, &end)) continue;
    if (box->top == h) box->top = y;
    box->bottom = y + 1;
    box->left = at_most(box->left, first);
    box->right = at_least(box->right, end);
    changed.repeat_ends(y);
  }
  return box->top < box->bottom;
}

struct Sample {
  const LabelProblem& problem;
  int64_t number;
  float* out;
};

// Whether a slot of two rows, or one from which its windows see any pixel, holds a part of a label.
bool is_near_label(const uint8_t* active, int64_t pairs, int64_t slots, int64_t pair, int64_t slot,
                   int64_t reach) {
  const int64_t left = at_least(slot - 1, 0), right = at_most(slot + 1, slots - 1);
  for (int64_t p = at_least(pair - reach, 0); p <= at_most(pair + reach, pairs - 1); ++p) {
    for (int64_t k = left; k <= right; ++k) {
      if (active[p * slots + k] != 0) return true;
    }
  }
  return false;
}

// Medians of the numbers that the label keeps, and what is made of them.
template <class T>
void take_medians(const Sample& sample, const LabelRoom& room, const Plane<uint8_t>& label,
                  const Plane<T>& values, const Box& box) {
  const LabelProblem& problem = sample.problem;
  const int64_t w = values.w, slots = slots_of_row(w);
  constexpr int64_t kWidth = March<T>::kWidth;
  const bool is_logistic = problem.kind == LabelKind::kLogistic;
  const float steepness = is_logistic ? problem.steepness[sample.number] : 0.0f;
  const float midpoint = is_logistic ? problem.midpoint[sample.number] : 0.0f;
  const float unit = sizeof(T) == 2 ? static_cast<float>(problem.before.c) : 1.0f;
  const MedianNetwork& network = median_network(problem.radius);
  March<T> march(network, values, room.march);
  const auto is_wanted = [&](int64_t pair, int64_t slot) {
    if (is_logistic) return room.active[pair * slots + slot] != 0;
    return is_near_label(room.active, values.h / 2 + 1, slots, pair, slot, network.reach);
  };
  const auto write = [&](int64_t y, int64_t x, const T* medians) {
    if (y >= values.h) return;
    const int64_t count = at_most(w - x, kWidth);
    const uint8_t* is_set = label.row(y) + x;
    float levels[kWidth];
    for (int64_t k = 0; k < kWidth; ++k) levels[k] = static_cast<float>(medians[k]) / unit;
    if (is_logistic) {
      // Two loops: in one, compilers branch on the label instead of taking vectors.
      for (int64_t k = 0; k < kWidth; ++k) levels[k] = sigmoid(steepness * (levels[k] - midpoint));
      for (int64_t k = 0; k < kWidth; ++k) levels[k] = is_set[k] != 0 ? levels[k] : 0.0f;
    }
    std::memcpy(sample.out + y * w + x, levels, static_cast<size_t>(count) * sizeof(float));
  };
  for (int64_t slot = box.left / kWidth; slot * kWidth < box.right; ++slot) {
    march.start(slot * kWidth);
    for (int64_t pair = box.top / 2; 2 * pair < box.bottom; ++pair) {
      if (!is_wanted(pair, slot)) continue;
      const T *upper, *lower;
      march.step(pair, &upper, &lower);
      write(2 * pair, slot * kWidth, upper);
      write(2 * pair + 1, slot * kWidth, lower);
    }
  }
}

// By its bits: the compiler takes all numbers for finite.
bool is_finite(const float* row, int64_t i) {
  uint32_t bits;
  if (row == nullptr) return true;
  std::memcpy(&bits, row + i, sizeof(bits));
  return (bits & 0x7F800000u) != 0x7F800000u;
}

template <class P>
void label_image(void* context, int64_t worker, int64_t i) {
  using T = typename P::Lane;
  const Job& job = *static_cast<const Job*>(context);
  const LabelProblem& problem = job.problem;
  const int64_t h = problem.before.h, w = problem.before.w, stride = plane_stride(w);
  Arena arena = {job.scratch.memory + worker * job.scratch.bytes};
  const LabelRoom room = label_room(&arena, h, w, sizeof(T), &median_network(problem.radius));
  const Plane<uint8_t> changed = {room.bytes[0], h, w}, label = {room.bytes[1], h, w};
  const Plane<T> values = {reinterpret_cast<T*>(room.lanes), h, w};
  const Sample sample = {problem, i, problem.out + i * h * w};
  std::memset(sample.out, 0, static_cast<size_t>(h * w) * sizeof(float));
  if (!is_finite(problem.steepness, i) || !is_finite(problem.midpoint, i) ||
      !is_finite(problem.factor, i)) {
    return;
  }
  Box rows = {0, 0, 0, w};
  if (!find_rows(problem, i, room.flags, &rows.top, &rows.bottom)) return;
  // What is looked at: windows of windows, and whole pairs of rows.
  const MedianNetwork& network = median_network(problem.radius);
  const Box used = grown(rows, 2 * (problem.size / 2) + 2 * network.reach + 2, h, w);
  const auto clear = [&](void* plane, int64_t bytes) {
    std::memset(static_cast<char*>(plane) + used.top * stride * bytes, 0,
                static_cast<size_t>((used.bottom - used.top) * stride * bytes));
  };
  clear(room.bytes[0], 1);
  clear(room.bytes[1], 1);
  clear(room.lanes, sizeof(T));
  Box box;
  if (!find_changes<P>(problem, i, room, rows.top, rows.bottom, changed, values, &box)) return;

  const bool has_medians =
      problem.kind == LabelKind::kIntensity || problem.kind == LabelKind::kLogistic;
  const float constant = problem.kind == LabelKind::kFactor ? problem.factor[i] : 1.0f;
  const Window window = window_of(problem.size / 2, true);
  constexpr int64_t kWidth = March<T>::kWidth;
  const int64_t slots = slots_of_row(w);
  std::memset(room.active, 0, static_cast<size_t>((h / 2 + 1) * slots));
  const Box seen = grown(box, problem.size / 2, h, w);
  for (int64_t y = used.top; y < used.bottom; ++y) {
    if (y < seen.top || y >= seen.bottom) {  // what is not in the label does not count
      std::memset(values.row(y), 0, static_cast<size_t>(w) * sizeof(T));
      continue;
    }
    uint8_t* is_set = label.row(y);
    count_row(window, changed, y, seen.left, seen.right, window.pixels / 2, room.columns, is_set);
    std::memset(is_set + seen.right, 0, static_cast<size_t>(w - seen.right));
    if (!has_medians) {
      for (int64_t x = seen.left; x < seen.right; ++x) {
        sample.out[y * w + x] = is_set[x] != 0 ? constant : 0.0f;
      }
      continue;
    }
    T* __restrict__ kept = values.row(y);
    for (int64_t x = 0; x < w; ++x) kept[x] = is_set[x] != 0 ? kept[x] : T{0};
    values.repeat_ends(y);
    for (int64_t slot = seen.left / kWidth; slot * kWidth < seen.right; ++slot) {
      const int64_t left = slot * kWidth;
      uint8_t any = 0;
      for (int64_t x = left; x < at_most(left + kWidth, w); ++x) any |= is_set[x];
      room.active[y / 2 * slots + slot] |= any;
    }
  }
  if (has_medians) take_medians<T>(sample, room, label, values, seen);
}

}  // namespace

void difference_label(const LabelProblem& problem, const LabelScratch& scratch, int64_t threads) {
  Job job = {problem, scratch};
  const auto run = [&](void (*body)(void*, int64_t, int64_t)) {
    parallel_for(problem.before.n, threads, body, &job);
  };
  switch (problem.before.dtype) {
    case Dtype::kUInt8: return run(label_image<ByteSums>);
    case Dtype::kFloat16: return run(label_image<FloatSums<Float16, float>>);
    case Dtype::kBFloat16: return run(label_image<FloatSums<BFloat16, float>>);
    case Dtype::kFloat32: return run(label_image<FloatSums<Float32, float>>);
    case Dtype::kFloat64: return run(label_image<FloatSums<Float64, double>>);
  }
}

}  // namespace ssad::SSAD_LEVEL
