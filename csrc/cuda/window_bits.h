// SPDX-License-Identifier: Apache-2.0
// Masks in shared memory, a bit a pixel, and how many pixels of a window are set: a population
// count for each of its rows, whatever the window's shape.
#pragma once

#include "tile.h"

namespace ssad::cuda {

// A window by how far its rows reach to both sides. It is symmetric, and its radius is at most 7.
struct Window {
  int radius;
  uint32_t reaches;  // four bits each, of rows 0, +-1, ...
  int pixels;

  __device__ int reach(int y) const {
    return static_cast<int>(reaches >> 4 * (y < 0 ? -y : y)) & 15;
  }
};

inline Window window_of(int64_t radius, bool is_square) {
  Window window = {static_cast<int>(radius), 0, 0};
  for (int64_t y = 0; y <= radius; ++y) {
    int64_t x = radius;
    while (!is_square && x * x + y * y > radius * radius) --x;
    window.reaches |= static_cast<uint32_t>(x) << 4 * y;
    window.pixels += static_cast<int>((y == 0 ? 1 : 2) * (2 * x + 1));
  }
  return window;
}

// The bits of a tile and a halo of less than a word: a word to the left, those of the tile, one to
// the right.
struct Bits {
  static constexpr int kWords = kTileWidth / kWarp + 2;

  Shared<uint32_t> words;
  int halo;

  __device__ Bits(unsigned char* memory, int offset, int rows, int halo_)
      : words(shared_array<uint32_t>(memory, offset, rows * kWords)), halo(halo_) {}

  __device__ int row(const Tile& tile, int y) const { return (y - tile.top + halo) * kWords; }

  __device__ bool is_set(const Tile& tile, int y, int x) const {
    const int bit = x - tile.left + kWarp;
    const uint32_t word = words[row(tile, y) + bit / kWarp];
    return (word >> bit % kWarp & 1) != 0;
  }

  // For a warp: a word of a row of the image, given the votes of its pixels from x on.
  __device__ void set_word(const Tile& tile, int y, int x, uint32_t votes) const {
    if (lane_index() != 0) return;
    const int word = (x - tile.left) / kWarp + 1, last = tile.w - 1 - x;
    const bool ends = last < kWarp, is_last_set = ends && (votes >> last & 1) != 0;
    const uint32_t beyond = is_last_set ? ~uint32_t{0} : 0;
    const Places rows = places_of(y, tile.h, tile.top - halo, tile.rows + 2 * halo);
    for (int r = rows.first; r <= rows.last; ++r) {
      words[r * kWords + word] = is_last_set ? votes | beyond << last : votes;
      if (x == 0) words[r * kWords] = (votes & 1) != 0 ? ~uint32_t{0} : 0;
      if (ends && word + 1 < kWords) words[r * kWords + word + 1] = beyond;
    }
  }

  // How many are set in the window around a pixel.
  __device__ int count(const Tile& tile, const Window& window, int y, int x) const {
    int sum = 0;
    SSAD_NO_UNROLL
    for (int dy = -window.radius; dy <= window.radius; ++dy) {
      const int reach = window.reach(dy), bit = x - tile.left + kWarp - reach;
      const Shared<uint32_t> own = words + row(tile, y + dy);
      const uint64_t low = own[bit / kWarp], high = own[(bit + 2 * reach) / kWarp];
      const auto bits = static_cast<uint32_t>((high << kWarp | low) >> bit % kWarp);
      sum += __popc(bits & ((2u << 2 * reach) - 1));
    }
    return sum;
  }

  __device__ bool is_mostly_set(const Tile& tile, const Window& window, int y, int x) const {
    return count(tile, window, y, x) > window.pixels / 2;
  }
};

}  // namespace ssad::cuda
