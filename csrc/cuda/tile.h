// SPDX-License-Identifier: Apache-2.0
// Filters of images: a block makes a tile of a plane, from that tile and a halo around it in shared
// memory. Tiles are wide, as images are 256 pixels wide more often than not: then there is no halo
// at the sides, whose sectors of 32 bytes would be read for a few pixels. Beyond the image lies its
// nearest pixel; it is written as often as it is needed, and read once.
#pragma once

#include "block.h"

namespace ssad::cuda {

constexpr int kTileWidth = 256;
constexpr int kTileThreads = 256;

struct Tile {
  int plane;                     // of all samples and channels
  int top, left, rows, columns;  // within the image
  int h, w;                      // of the image
};

// How many tiles of kTileWidth pixels a plane has.
__host__ __device__ inline int64_t tiles_across(int64_t w) {
  return (w + kTileWidth - 1) / kTileWidth;
}

inline int64_t tiles_of_plane(int64_t h, int64_t w, int height) {
  return (h + height - 1) / height * tiles_across(w);
}

__device__ inline Tile tile_of_block(int64_t h, int64_t w, int height) {
  const int across = static_cast<int>(tiles_across(w));
  const int down = static_cast<int>((h + height - 1) / height);
  const int block = static_cast<int>(blockIdx.x);
  Tile tile = {block / (across * down), 0, 0, 0, 0, static_cast<int>(h), static_cast<int>(w)};
  tile.top = block / across % down * height;
  tile.left = block % across * kTileWidth;
  tile.rows = smaller(height, tile.h - tile.top);
  tile.columns = smaller(kTileWidth, tile.w - tile.left);
  return tile;
}

// Calls act(y, x, is_inside) for the pixels of a tile and its halo that are in the image. A warp
// calls it together, for 32 pixels of a row, the first of which is a multiple of 32: accesses are
// aligned where rows are. Some may be outside.
template <class Act>
__device__ void each_pixel(const Tile& tile, int halo, Act act) {
  const int top = larger(tile.top - halo, 0), left = larger(tile.left - halo, 0);
  const int bottom = smaller(tile.top + tile.rows + halo, tile.h);
  const int right = smaller(tile.left + tile.columns + halo, tile.w);
  const int first = left / kWarp * kWarp, words = (right - first + kWarp - 1) / kWarp;
  SSAD_NO_UNROLL
  for (int i = warp_index(); i < (bottom - top) * words; i += warp_count()) {
    const int x = first + i % words * kWarp + lane_index();
    act(top + i / words, x, x >= left && x < right);
  }
}

// Where a row or column of the image lies in an array that begins at `start` and has `count` of
// them. There it is repeated if it is the nearest one to those beyond the image.
struct Places {
  int first, last;
};

__device__ inline Places places_of(int at, int limit, int start, int count) {
  return {at == 0 ? 0 : at - start, at == limit - 1 ? count - 1 : at - start};
}

}  // namespace ssad::cuda
