// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "arena.h"
#include "ssad/level.h"

namespace ssad::SSAD_LEVEL {

// What the two nodes beside each pixel count along an axis: of the products of gradients and
// offsets, `weight` goes with the gradients' part along the other axis, `moment` (weight times
// offset) with that along this one.
struct PerlinAxis {
  float *near_weight, *far_weight, *near_moment, *far_moment;
};

// A thread's memory.
struct PerlinRoom {
  uint32_t* bits;        // of each node
  float *down, *across;  // gradients of nodes, times the square root of 2
  PerlinAxis y, x;
  float *row_down, *row_across;  // nodes of a column of cells, combined for a row of pixels
  float* plane;                  // rows of `stride`
  int64_t stride;
};

constexpr int64_t kPerlinSlack = 16;  // what the longest vector writes beyond a row

// For `nodes` of the largest lattice, `columns` of the widest.
inline PerlinRoom lay_out_perlin(Arena* arena, int64_t h, int64_t w, int64_t nodes, int64_t columns,
                                 bool is_turned) {
  const auto axis = [&](int64_t pixels) -> PerlinAxis {
    float* table[4];
    for (float*& one : table) one = arena->take<float>(pixels);
    return {table[0], table[1], table[2], table[3]};
  };
  PerlinRoom room = {};
  room.bits = arena->take<uint32_t>(nodes + 3);  // whole blocks of four
  room.down = arena->take<float>(nodes);
  room.across = arena->take<float>(nodes);
  room.y = axis(h);
  room.x = axis(w + kPerlinSlack);
  room.row_down = arena->take<float>(columns);
  room.row_across = arena->take<float>(columns);
  room.stride = w + kPerlinSlack;
  room.plane = arena->take<float>((is_turned ? h : 1) * room.stride);
  return room;
}

}  // namespace ssad::SSAD_LEVEL
