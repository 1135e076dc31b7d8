// SPDX-License-Identifier: Apache-2.0
// A label in one launch: differences, the square median of what changed, and the disk median of
// what is left of them never leave shared memory. A block makes a tile; what it reads of its
// neighbours' images lies within both windows' reach.
#include "elements.h"
#include "filters.h"
#include "median_network.h"
#include "ssad/pixel.h"
#include "window_bits.h"

namespace ssad::cuda {
namespace {

// Taller than a median's: the halo is wider, and there is more to read in it.
constexpr int kTileHeight = 40;
constexpr int kLargestSquare = 7;  // the radius of the other window

// kRadius is 0 for a label without medians.
template <int kRadius>
struct Layout {
  static constexpr int kStride = kTileWidth + 2 * kRadius;
  static constexpr int kKeys = kRadius == 0 ? 0 : kStride * (kTileHeight + 2 * kRadius);
  static constexpr int kLabelRows = kTileHeight + 2 * kRadius;
  static constexpr int kLabel = kKeys * 4;
  static constexpr int kChanges = kLabel + kLabelRows * Bits::kWords * 4;
  static constexpr int kSlots =
      kChanges + (kLabelRows + 2 * kLargestSquare) * Bits::kWords * 4;  // of reductions
  static constexpr int kBytes = kSlots + kMostWarps * 4;
};

// As the other elements are in ssad/pixel.h; but of bytes sums are integers.
struct Byte {
  using Stored = uint8_t;
  static __device__ int load(uint8_t x) { return x; }
};

// What a pixel has changed by: above the threshold or not, and as a key. That of bytes is their sum
// over the channels, that of others the bits of the mean, which is not negative.
struct Change {
  bool is_above;
  int32_t key;
};

struct Pixel {
  int64_t before, after;  // its first channel
};

template <class P>
__device__ auto sum_of_differences(const LabelProblem& problem, const Pixel& pixel) {
  using Stored = typename P::Stored;
  const ImageView &before = problem.before, &after = problem.after;
  const auto size = [&](int64_t c) {
    const auto x = P::load(load_element<Stored>(before.data, pixel.before + c * before.stride_c));
    const auto y = P::load(load_element<Stored>(after.data, pixel.after + c * after.stride_c));
    return x > y ? x - y : y - x;
  };
  auto sum = size(0);
  SSAD_NO_UNROLL
  for (int64_t c = 1; c < before.c; ++c) sum += size(c);
  return sum;
}

template <class Sum>
__device__ Change change_of(const LabelProblem& problem, Sum sum) {
  constexpr double kLargest = 3e38;
  const auto threshold =
      static_cast<Sum>(problem.threshold < kLargest ? problem.threshold : kLargest);
  if (!(sum == sum)) return {false, 0};
  const auto level = static_cast<float>(sum * (Sum{255} / static_cast<Sum>(problem.before.c)));
  return {sum > threshold, static_cast<int32_t>(bits_of(level))};
}

__device__ inline Change change_of(const LabelProblem& problem, int sum) {
  constexpr double kLargest = 32767.0;
  return {sum > static_cast<int>(problem.threshold < kLargest ? problem.threshold : kLargest), sum};
}

__device__ inline Change change_at(const LabelProblem& problem, const Pixel& pixel) {
  switch (problem.before.dtype) {
    case Dtype::kUInt8: return change_of(problem, sum_of_differences<Byte>(problem, pixel));
    case Dtype::kFloat16: return change_of(problem, sum_of_differences<Float16>(problem, pixel));
    case Dtype::kBFloat16: return change_of(problem, sum_of_differences<BFloat16>(problem, pixel));
    case Dtype::kFloat32: return change_of(problem, sum_of_differences<Float32>(problem, pixel));
    default: return change_of(problem, sum_of_differences<Float64>(problem, pixel));
  }
}

// In grey levels.
__device__ inline float level_of(const LabelProblem& problem, int32_t key) {
  if (problem.before.dtype != Dtype::kUInt8) return float_of(static_cast<uint32_t>(key));
  return static_cast<float>(key) / static_cast<float>(problem.before.c);
}

struct Windows {
  Window square, disk;
};

// Of a sample; what is not given is 1.
struct Parameters {
  float steepness, midpoint, factor;

  __device__ Parameters(const LabelProblem& problem, int sample) {
    const auto own = [&](const float* row) { return row == nullptr ? 1.0f : row[sample]; };
    steepness = own(problem.steepness), midpoint = own(problem.midpoint);
    factor = own(problem.factor);
  }
  __device__ bool are_finite() const {
    return is_finite(steepness) && is_finite(midpoint) && is_finite(factor);
  }
};

template <int kRadius>
struct Memory {
  Shared<int32_t> keys, slots;
  Bits label, changes;

  __device__ Memory(unsigned char* memory, const Tile& tile, int halo)
      : keys(shared_array<int32_t>(memory, 0, Layout<kRadius>::kKeys)),
        slots(shared_array<int32_t>(memory, Layout<kRadius>::kSlots, kMostWarps)),
        label(memory, Layout<kRadius>::kLabel, tile.rows + 2 * kRadius, kRadius),
        changes(memory, Layout<kRadius>::kChanges, tile.rows + 2 * halo, halo) {}

  __device__ Shared<int32_t> key(const Tile& tile, int y, int x) const {
    return keys + ((y - tile.top + kRadius) * Layout<kRadius>::kStride + x - tile.left + kRadius);
  }
};

// Keys of the pixels within the disk's reach, changes of those within both windows'; whether the
// thread saw a change.
template <int kRadius>
__device__ bool load(const LabelProblem& problem, const Tile& tile, const Memory<kRadius>& m) {
  const ImageView &before = problem.before, &after = problem.after, &region = problem.region;
  const int64_t n = tile.plane;
  const Global<const uint8_t> inside =
      static_cast<const uint8_t*>(region.data) + n * region.stride_n;
  bool found = false;
  each_pixel(tile, m.changes.halo, [&](int y, int x, bool is_inside) {
    Change change = {false, 0};
    if (is_inside && inside[y * region.stride_y + x * region.stride_x] != 0) {
      const auto at = [&](const ImageView& view) {
        return n * view.stride_n + y * view.stride_y + x * view.stride_x;
      };
      change = change_at(problem, {at(before), at(after)});
    }
    if (kRadius > 0 && is_inside && y >= tile.top - kRadius && y < tile.top + tile.rows + kRadius &&
        x >= tile.left - kRadius && x < tile.left + tile.columns + kRadius) {
      m.key(tile, y, x)[0] = change.key;
    }
    found |= change.is_above;
    m.changes.set_word(tile, y, x - lane_index(), __ballot_sync(kWholeWarp, change.is_above));
  });
  return found;
}

// Zeros where there is no label, and repeats the keys beyond the image.
template <int kRadius>
__device__ void keep_labelled(const Tile& tile, const Memory<kRadius>& m) {
  const int rows = (tile.rows + 1) / 2 * 2 + 2 * kRadius, columns = tile.columns + 2 * kRadius;
  each_pixel(tile, kRadius, [&](int y, int x, bool is_inside) {
    if (!is_inside) return;
    const int32_t own = m.key(tile, y, x)[0];
    const int32_t key = m.label.is_set(tile, y, x) ? own : 0;
    const Places ys = places_of(y, tile.h, tile.top - kRadius, rows);
    const Places xs = places_of(x, tile.w, tile.left - kRadius, columns);
    for (int row = ys.first; row <= ys.last; ++row) {
      for (int column = xs.first; column <= xs.last; ++column) {
        m.keys[row * Layout<kRadius>::kStride + column] = key;
      }
    }
  });
}

// Medians of the keys, and what is made of them. All keys but those of the label are zero and none
// is negative: where the label is not most of a disk, the median is zero without looking for it.
template <int kRadius>
__device__ void store_levels(const LabelProblem& problem, const Windows& windows,
                             const Parameters& parameters, const Tile& tile,
                             const Memory<kRadius>& m) {
  const Global<float> out = problem.out + int64_t{tile.plane} * tile.h * tile.w;
  const bool is_logistic = problem.kind == LabelKind::kLogistic;
  const int words = (tile.columns + kWarp - 1) / kWarp;
  for (int i = warp_index(); i < (tile.rows + 1) / 2 * words; i += warp_count()) {
    const int y = tile.top + i / words * 2, x = tile.left + i % words * kWarp + lane_index();
    if (x >= tile.left + tile.columns) continue;
    bool is_set[2], is_level[2];
    SSAD_UNROLL
    for (int row = 0; row < 2; ++row) {
      const bool is_there = y + row < tile.h;
      is_set[row] = is_there && m.label.is_set(tile, y + row, x);
      is_level[row] = (is_set[row] || (is_there && !is_logistic)) &&
                      m.label.is_mostly_set(tile, windows.disk, y + row, x);
    }
    int32_t medians[2] = {0, 0};
    if (is_level[0] || is_level[1]) {
      medians_of_pair<kRadius, Layout<kRadius>::kStride>(m.key(tile, y, x), &medians[0],
                                                         &medians[1]);
    }
    SSAD_UNROLL
    for (int row = 0; row < 2; ++row) {
      if (y + row >= tile.h) continue;
      float label = is_level[row] ? level_of(problem, medians[row]) : 0.0f;
      if (is_logistic) {
        const float exponent = parameters.steepness * (label - parameters.midpoint);
        label = is_set[row] ? 1.0f / (1.0f + expf(-exponent)) : 0.0f;
      }
      out[int64_t{y + row} * tile.w + x] = label;
    }
  }
}

template <int kRadius>
__global__ void __launch_bounds__(kTileThreads, 2)
    label_tiles(LabelProblem problem, Windows windows) {
  const BlockGroup block;
  SSAD_DYNAMIC_SHARED(memory);
  const Tile tile = tile_of_block(problem.before.h, problem.before.w, kTileHeight);
  const Memory<kRadius> m(memory, tile, kRadius + windows.square.radius);
  const Parameters parameters(problem, tile.plane);
  bool is_labelled = parameters.are_finite();  // the same for all threads
  if (is_labelled) {
    const int32_t found = load<kRadius>(problem, tile, m) ? 1 : 0;
    is_labelled = block_reduce(found, Largest(), m.slots) != 0;
  }
  const Global<float> out = problem.out + int64_t{tile.plane} * tile.h * tile.w;
  const auto store_marks = [&](auto is_set) {
    each_pixel(tile, 0, [&](int y, int x, bool is_inside) {
      if (is_inside) out[int64_t{y} * tile.w + x] = is_set(y, x) ? parameters.factor : 0.0f;
    });
  };
  if (!is_labelled) {
    store_marks([](int, int) { return false; });
  } else if constexpr (kRadius == 0) {
    store_marks([&](int y, int x) { return m.changes.is_mostly_set(tile, windows.square, y, x); });
  } else {
    each_pixel(tile, kRadius, [&](int y, int x, bool is_inside) {
      const bool is_set = is_inside && m.changes.is_mostly_set(tile, windows.square, y, x);
      m.label.set_word(tile, y, x - lane_index(), __ballot_sync(kWholeWarp, is_set));
    });
    block.sync();
    keep_labelled<kRadius>(tile, m);
    block.sync();
    store_levels<kRadius>(problem, windows, parameters, tile, m);
  }
}

template <int kRadius>
const char* launch_tiles(const LabelProblem& problem, int64_t blocks, void* stream) {
  const Windows windows = {window_of(problem.size / 2, true), window_of(problem.radius, false)};
  return launch(label_tiles<kRadius>, blocks, kTileThreads, Layout<kRadius>::kBytes, stream,
                problem, windows);
}

}  // namespace

const char* difference_label(const LabelProblem& problem, void* stream) {
  const ImageView& images = problem.before;
  const int64_t blocks = images.n * tiles_of_plane(images.h, images.w, kTileHeight);
  if (blocks > INT32_MAX) return "too many tiles for one launch";
  if (blocks == 0) return nullptr;
  if (problem.kind == LabelKind::kBinary || problem.kind == LabelKind::kFactor) {
    return launch_tiles<0>(problem, blocks, stream);
  }
  if (problem.radius != kLabelRadius) return "there is no kernel for a disk of that radius";
  return launch_tiles<kLabelRadius>(problem, blocks, stream);
}

}  // namespace ssad::cuda
