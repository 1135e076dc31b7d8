// SPDX-License-Identifier: Apache-2.0
// Medians over disks, by networks on keys, and over any window of a mask, by counting bits.
#include "filters.h"
#include "keys.h"
#include "median_network.h"
#include "window_bits.h"

namespace ssad::cuda {
namespace {

constexpr int kTileHeight = 32;

template <int kRadius>
struct Layout {
  static constexpr int kStride = kTileWidth + 2 * kRadius;
  static constexpr int kKeys = kStride * (kTileHeight + 2 * kRadius);
  static constexpr int kSlots = kKeys * 4;  // of reductions
  static constexpr int kBytes = kSlots + kMostWarps * 4;
};

// A plane of the images: where its pixels are.
struct Plane {
  const MedianProblem& problem;
  int64_t first;

  __device__ Plane(const MedianProblem& problem_, int plane) : problem(problem_) {
    const auto c = static_cast<int>(problem.images.c);
    first = plane / c * problem.images.stride_n + plane % c * problem.images.stride_c;
  }
  __device__ int64_t at(int y, int x) const {
    return first + y * problem.images.stride_y + x * problem.images.stride_x;
  }
};

// Which pixels are to be filtered: a box clipped to the tile.
struct Area {
  int top, bottom, left, right;

  __device__ bool is_empty() const { return top >= bottom || left >= right; }
  __device__ bool has(int y, int x) const {
    return y >= top && y < bottom && x >= left && x < right;
  }
};

// The end of [start, start + size) within [0, limit]; no sum overflows.
__device__ inline int end_of(int64_t start, int64_t size, int limit) {
  if (size <= 0 || start >= limit) return 0;
  if (start >= 0 && size >= limit - start) return limit;
  const int64_t end = start + size;
  return end < 0 ? 0 : end < limit ? static_cast<int>(end) : limit;
}

__device__ inline Area area_of(const MedianProblem& problem, const Tile& tile) {
  const Area whole = {tile.top, tile.top + tile.rows, tile.left, tile.left + tile.columns};
  if (problem.boxes == nullptr) return whole;
  const int64_t* box = problem.boxes + 4 * (tile.plane / static_cast<int>(problem.images.c));
  const auto start = [](int64_t at, int limit) {
    return at < 0 ? 0 : at < limit ? static_cast<int>(at) : limit;
  };
  return {larger(whole.top, start(box[0], tile.h)),
          smaller(whole.bottom, end_of(box[0], box[2], tile.h)),
          larger(whole.left, start(box[1], tile.w)),
          smaller(whole.right, end_of(box[1], box[3], tile.w))};
}

// Fills the keys of a tile, whose rows are in pairs, and its halo; whether the thread saw a NaN.
template <int kRadius>
__device__ bool load_keys(const Tile& tile, const Plane& plane, const Shared<int32_t>& keys) {
  const Element element = plane.problem.element;
  const bool looks_for_nan = has_nan(element);
  const int rows = (tile.rows + 1) / 2 * 2 + 2 * kRadius, columns = tile.columns + 2 * kRadius;
  bool found = false;
  each_pixel(tile, kRadius, [&](int y, int x, bool is_inside) {
    if (!is_inside) return;
    const int32_t key = load_key(plane.problem.images.data, plane.at(y, x), element);
    found |= looks_for_nan && key == kNotANumber;
    const Places ys = places_of(y, tile.h, tile.top - kRadius, rows);
    const Places xs = places_of(x, tile.w, tile.left - kRadius, columns);
    for (int row = ys.first; row <= ys.last; ++row) {
      for (int column = xs.first; column <= xs.last; ++column) {
        keys[row * Layout<kRadius>::kStride + column] = key;
      }
    }
  });
  return found;
}

template <int kRadius>
__device__ bool sees_nan(const Shared<int32_t>& at) {
  SSAD_NO_UNROLL
  for (int y = -kRadius; y <= kRadius; ++y) {
    SSAD_NO_UNROLL
    for (int x = -kRadius; x <= kRadius; ++x) {
      if (x * x + y * y <= kRadius * kRadius &&
          at[y * Layout<kRadius>::kStride + x] == kNotANumber) {
        return true;
      }
    }
  }
  return false;
}

template <int kRadius>
__global__ void __launch_bounds__(kTileThreads, 1) filter_disks(MedianProblem problem) {
  using L = Layout<kRadius>;
  SSAD_DYNAMIC_SHARED(memory);
  const Shared<int32_t> keys = shared_array<int32_t>(memory, 0, L::kKeys);
  const Shared<int32_t> slots = shared_array<int32_t>(memory, L::kSlots, kMostWarps);
  const Tile tile = tile_of_block(problem.images.h, problem.images.w, kTileHeight);
  const Plane plane(problem, tile.plane);
  const Area area = area_of(problem, tile);
  bool any_nan = false;
  if (!area.is_empty()) {  // for all threads
    const int32_t found = load_keys<kRadius>(tile, plane, keys) ? 1 : 0;
    any_nan = block_reduce(found, Largest(), slots) != 0;
  }
  const int words = (tile.columns + kWarp - 1) / kWarp;
  for (int i = warp_index(); i < (tile.rows + 1) / 2 * words; i += warp_count()) {
    const int y = tile.top + i / words * 2, x = tile.left + i % words * kWarp + lane_index();
    if (x >= tile.left + tile.columns) continue;
    const Shared<int32_t> at =
        keys + ((y - tile.top + kRadius) * L::kStride + x - tile.left + kRadius);
    int32_t medians[2] = {0, 0};
    if (area.has(y, x) || area.has(y + 1, x)) {
      medians_of_pair<kRadius, L::kStride>(at, &medians[0], &medians[1]);
    }
    SSAD_UNROLL
    for (int row = 0; row < 2; ++row) {
      const int64_t there = (tile.plane * problem.images.h + y + row) * problem.images.w + x;
      if (y + row >= tile.h) continue;
      if (!area.has(y + row, x)) {
        copy_element(problem.images.data, plane.at(y + row, x), problem.out, there,
                     problem.element);
        continue;
      }
      const bool is_nan = any_nan && sees_nan<kRadius>(at + row * L::kStride);
      store_key(is_nan ? kNotANumber : medians[row], problem.out, there, problem.element);
    }
  }
}

constexpr int kMaskBytes = (kTileHeight + 2 * kLargestRadius) * Bits::kWords * 4;

__global__ void __launch_bounds__(kTileThreads) filter_masks(MedianProblem problem, Window window) {
  const BlockGroup block;
  SSAD_DYNAMIC_SHARED(memory);
  const Tile tile = tile_of_block(problem.images.h, problem.images.w, kTileHeight);
  const Plane plane(problem, tile.plane);
  const Area area = area_of(problem, tile);
  const Global<const uint8_t> pixels = static_cast<const uint8_t*>(problem.images.data);
  const Global<uint8_t> out = static_cast<uint8_t*>(problem.out);
  const Bits bits(memory, 0, tile.rows + 2 * window.radius, window.radius);
  if (!area.is_empty()) {
    each_pixel(tile, window.radius, [&](int y, int x, bool is_inside) {
      const bool is_set = is_inside && pixels[plane.at(y, x)] != 0;
      bits.set_word(tile, y, x - lane_index(), __ballot_sync(kWholeWarp, is_set));
    });
    block.sync();
  }
  each_pixel(tile, 0, [&](int y, int x, bool is_inside) {
    if (!is_inside) return;
    const int64_t there = (tile.plane * problem.images.h + y) * problem.images.w + x;
    if (area.has(y, x)) {
      out[there] = bits.is_mostly_set(tile, window, y, x) ? 1 : 0;
    } else {
      const uint8_t own = pixels[plane.at(y, x)];
      out[there] = own;
    }
  });
}

template <int kRadius>
const char* launch_disks(const MedianProblem& problem, int64_t blocks, void* stream) {
  return launch(filter_disks<kRadius>, blocks, kTileThreads, Layout<kRadius>::kBytes, stream,
                problem);
}

}  // namespace

const char* median_filter(const MedianProblem& problem, void* stream) {
  const ImageView& images = problem.images;
  const int64_t blocks = images.n * images.c * tiles_of_plane(images.h, images.w, kTileHeight);
  if (problem.element == Element::kFloat64) return "float64 has no kernel";
  if (blocks > INT32_MAX) return "too many tiles for one launch";
  if (blocks == 0) return nullptr;
  if (problem.element == Element::kBool) {
    return launch(filter_masks, blocks, kTileThreads, kMaskBytes, stream, problem,
                  window_of(problem.radius, problem.is_square));
  }
  switch (problem.radius) {
    case 1: return launch_disks<1>(problem, blocks, stream);
    case 2: return launch_disks<2>(problem, blocks, stream);
    case 3: return launch_disks<3>(problem, blocks, stream);
    case 4: return launch_disks<4>(problem, blocks, stream);
    case 5: return launch_disks<5>(problem, blocks, stream);
    case 6: return launch_disks<6>(problem, blocks, stream);
    default: return launch_disks<7>(problem, blocks, stream);
  }
}

}  // namespace ssad::cuda
