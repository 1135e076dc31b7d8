// SPDX-License-Identifier: Apache-2.0
// Compiled once: masks of cells, and cells that are uncovered. See
// ssad_kernels/reference/masking.py for the same in torch.
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "kernels.h"
#include "ssad/masking.h"
#include "ssad/parallel.h"

namespace ssad {
namespace {

struct Grid {
  int64_t side, rows, columns;
  int64_t cells() const { return rows * columns; }
};

Grid grid_of(int64_t cell, int64_t least, int64_t h, int64_t w) {
  const int64_t side = std::min(std::max(cell, least), std::max(h, w));
  return {side, (h + side - 1) / side, (w + side - 1) / side};
}

int64_t blocks_of(const Grid& grid) { return (grid.cells() + 3) / 4; }

// Repeats each byte, sizeof(U) of them at a time.
template <class U>
void widen_by(const uint8_t* bytes, int64_t count, int64_t times, uint8_t* to) {
  constexpr U kOnes = static_cast<U>(0x0101010101010101u);
  for (int64_t i = 0; i < count; ++i) {
    const U word = static_cast<U>(bytes[i] * kOnes);
    for (int64_t k = 0; k < times; ++k, to += sizeof(U)) std::memcpy(to, &word, sizeof(U));
  }
}

// A byte for each cell of a row to one for each pixel.
void widen(const uint8_t* bytes, const Grid& grid, int64_t w, uint8_t* to) {
  const int64_t side = grid.side, whole = w / side;
  if (side % 8 == 0) {
    widen_by<uint64_t>(bytes, whole, side / 8, to);
  } else if (side == 4) {
    widen_by<uint32_t>(bytes, whole, 1, to);
  } else if (side == 2) {
    widen_by<uint16_t>(bytes, whole, 1, to);
  } else {
    widen_by<uint8_t>(bytes, whole, side, to);
  }
  if (whole < grid.columns) std::memset(to + whole * side, bytes[whole], w - whole * side);
}

struct MaskJob {
  const CellMaskProblem& problem;
  uint32_t* words;  // of all workers
  uint64_t* keys;   // likewise
  int64_t most;     // of both, for a worker
};

// Deals the cells in the order of their numbers, at a tie of the cells: one bit for each part that
// hides a cell takes the place of its number. Only where a set ends among the cells that share the
// highest bits must they be sorted.
void deal(const Grid& grid, int64_t parts, uint32_t* words, uint64_t* keys) {
  const int64_t cells = grid.cells(), size = (cells + parts - 1) / parts;
  int64_t count[256] = {};
  for (int64_t i = 0; i < cells; ++i) ++count[words[i] >> 24];
  uint32_t bit[256];
  int64_t first[256];  // rank of a bucket
  bool is_open[256];
  for (int64_t bucket = 0, rank = 0; bucket < 256; rank += count[bucket++]) {
    if (count[bucket] == 0) continue;  // behind the last cell there is no set
    first[bucket] = rank;
    bit[bucket] = uint32_t{1} << rank / size;
    is_open[bucket] = (rank + count[bucket] - 1) / size > rank / size;
  }
  int64_t found = 0;
  for (int64_t i = 0; i < cells; ++i) {
    const uint32_t word = words[i];
    keys[found] = static_cast<uint64_t>(word) << 24 | static_cast<uint64_t>(i);
    found += is_open[word >> 24];
    words[i] = bit[word >> 24];
  }
  std::sort(keys, keys + found);
  int64_t rank = 0;
  for (int64_t k = 0, last = -1; k < found; ++k, ++rank) {
    const auto bucket = static_cast<int64_t>(keys[k] >> 48);
    if (bucket != last) rank = first[bucket];
    last = bucket;
    words[keys[k] & 0xFFFFFFu] = uint32_t{1} << rank / size;
  }
}

// Whether a part shows each cell of a row of the grid.
void find_visible(const CellMaskProblem& problem, const Grid& grid, const uint32_t* words,
                  int64_t part, int64_t row, uint8_t* is_visible) {
  const int64_t first = row * grid.columns;
  switch (problem.kind) {
    case CellMaskKind::kSplit:
      for (int64_t i = 0; i < grid.columns; ++i) {
        is_visible[i] = (words[first + i] >> part & 1u) == 0;
      }
      return;
    case CellMaskKind::kBernoulli:
      words += 4 * part * blocks_of(grid) + first;
      for (int64_t i = 0; i < grid.columns; ++i) is_visible[i] = words[i] >= problem.below;
      return;
    case CellMaskKind::kCheckerboard:
      for (int64_t i = 0; i < grid.columns; ++i) is_visible[i] = ((row + i) & 1) != part;
  }
}

void fill_masks(void* context, int64_t worker, int64_t i) {
  const MaskJob& job = *static_cast<const MaskJob*>(context);
  const CellMaskProblem& problem = job.problem;
  const int64_t h = problem.h, w = problem.w;
  const Grid grid = grid_of(problem.cell[i], problem.least, h, w);
  uint32_t* words = job.words + worker * job.most;
  uint64_t* keys = job.keys + worker * job.most;
  if (problem.kind != CellMaskKind::kCheckerboard) {
    const int64_t draws = problem.kind == CellMaskKind::kBernoulli ? problem.parts : 1;
    kernels().random_words(problem.keys + 3 * i, problem.stream, draws * blocks_of(grid), words);
    if (problem.kind == CellMaskKind::kSplit) deal(grid, problem.parts, words, keys);
  }
  auto* is_visible = reinterpret_cast<uint8_t*>(keys);  // which have been used
  auto* out = reinterpret_cast<uint8_t*>(problem.out) + i * problem.parts * h * w;
  for (int64_t part = 0; part < problem.parts; ++part) {
    for (int64_t row = 0; row < grid.rows; ++row) {
      find_visible(problem, grid, words, part, row, is_visible);
      widen(is_visible, grid, w, out);
      const int64_t lines = std::min(grid.side, h - row * grid.side);
      for (int64_t y = 1; y < lines; ++y) std::memcpy(out + y * w, out, w);
      out += lines * w;
    }
  }
}

struct RefineJob {
  const RefineProblem& problem;
  double* sums;    // a row of pixels, for each worker
  uint8_t* bytes;  // three of them
};

// Of each column of pixels in a row of cells the sum of its scores, or how many are below the
// threshold.
template <class T>
void add_columns(const RefineProblem& problem, int64_t i, int64_t first, int64_t last,
                 double* __restrict__ sums) {
  const int64_t w = problem.w;
  const bool is_mean = problem.share < 0.0;
  const double threshold = problem.threshold[i];
  const T* scores = static_cast<const T*>(problem.scores) + (i * problem.h + first) * w;
  std::fill(sums, sums + w, 0.0);
  for (int64_t y = first; y < last; ++y, scores += w) {
    if (is_mean) {
      for (int64_t x = 0; x < w; ++x) sums[x] += static_cast<double>(scores[x]);
    } else {
      for (int64_t x = 0; x < w; ++x) {
        sums[x] += static_cast<double>(scores[x]) < threshold ? 1.0 : 0.0;
      }
    }
  }
}

void refine_image(void* context, int64_t worker, int64_t i) {
  const RefineJob& job = *static_cast<const RefineJob*>(context);
  const RefineProblem& problem = job.problem;
  const int64_t h = problem.h, w = problem.w;
  const Grid grid = grid_of(problem.cell[i], 1, h, w);
  double* sums = job.sums + worker * w;
  uint8_t* is_normal = job.bytes + 3 * worker * w;  // of cells
  uint8_t* uncovers = is_normal + w;                // of pixels
  uint8_t* is_whole = uncovers + w;
  int64_t hidden = 0;
  for (int64_t row = 0; row < grid.rows; ++row) {
    const int64_t first = row * grid.side, last = std::min(first + grid.side, h);
    if (problem.dtype == Dtype::kFloat64) {
      add_columns<double>(problem, i, first, last, sums);
    } else {
      add_columns<float>(problem, i, first, last, sums);
    }
    for (int64_t column = 0, x = 0; column < grid.columns; ++column) {
      const int64_t begin = x, end = std::min(x + grid.side, w);
      double sum = 0.0;
      for (; x < end; ++x) sum += sums[x];
      const auto area = static_cast<double>((last - first) * (end - begin));
      is_normal[column] =
          problem.share < 0.0 ? sum < problem.threshold[i] * area : sum > problem.share * area;
    }
    widen(is_normal, grid, w, uncovers);
    std::fill(is_whole, is_whole + w, uint8_t{1});
    for (int64_t part = 0; part < problem.parts; ++part) {
      for (int64_t y = first; y < last; ++y) {
        const int64_t at = ((i * problem.parts + part) * h + y) * w;
        const uint8_t* __restrict__ mask = problem.masks + at;
        auto* __restrict__ refined = reinterpret_cast<uint8_t*>(problem.refined) + at;
        for (int64_t x = 0; x < w; ++x) {
          const auto is_visible = static_cast<uint8_t>(uncovers[x] | (mask[x] != 0));
          refined[x] = is_visible;
          is_whole[x] &= is_visible;
        }
      }
    }
    for (int64_t x = 0; x < w;) {
      const int64_t end = std::min(x + grid.side, w);
      uint8_t all = 1;
      for (; x < end; ++x) all &= is_whole[x];
      hidden += all == 0;
    }
  }
  problem.hidden[i] = hidden;
}

}  // namespace

bool cell_masks(const CellMaskProblem& problem, int64_t threads) {
  int64_t most = 0;
  double work = 0.0;
  for (int64_t i = 0; i < problem.n; ++i) {
    const int64_t blocks = blocks_of(grid_of(problem.cell[i], problem.least, problem.h, problem.w));
    const int64_t numbers =
        4 * blocks * (problem.kind == CellMaskKind::kBernoulli ? problem.parts : 1);
    most = std::max(most, numbers);
    work += 4.0 * static_cast<double>(numbers) +
            0.1 * static_cast<double>(problem.parts * problem.h * problem.w);
  }
  const int64_t used = useful_threads(std::max<int64_t>(1, std::min(threads, problem.n)), work);
  const std::unique_ptr<uint32_t[]> words(new (std::nothrow) uint32_t[used * most]);
  const std::unique_ptr<uint64_t[]> keys(new (std::nothrow) uint64_t[used * most]);
  if (!words || !keys) return false;
  MaskJob job = {problem, words.get(), keys.get(), most};
  parallel_for(problem.n, used, fill_masks, &job);
  return true;
}

bool refine_cells(const RefineProblem& problem, int64_t threads) {
  const double work = static_cast<double>(problem.n * problem.h * problem.w) *
                      (1.0 + 0.5 * static_cast<double>(problem.parts));
  const int64_t used = useful_threads(std::max<int64_t>(1, std::min(threads, problem.n)), work);
  const std::unique_ptr<double[]> sums(new (std::nothrow) double[used * problem.w]);
  const std::unique_ptr<uint8_t[]> bytes(new (std::nothrow) uint8_t[used * 3 * problem.w]);
  if (!sums || !bytes) return false;
  RefineJob job = {problem, sums.get(), bytes.get()};
  parallel_for(problem.n, used, refine_image, &job);
  return true;
}

void mask_images(const MaskImagesProblem& problem, int64_t threads) {
  const int64_t elements = problem.n * problem.parts * problem.c * problem.pixels;
  const double work = 0.1 * static_cast<double>(elements * problem.bytes);
  kernels().mask_images(problem, useful_threads(threads, work));
}

void composite(const CompositeProblem& problem, int64_t threads) {
  const int64_t elements = problem.n * problem.parts * problem.c * problem.pixels;
  kernels().composite(problem, useful_threads(threads, 0.5 * static_cast<double>(elements)));
}

}  // namespace ssad
