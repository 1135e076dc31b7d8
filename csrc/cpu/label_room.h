// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "arena.h"
#include "median_march.h"
#include "window_count.h"

namespace ssad::SSAD_LEVEL {

// What a thread works in.
struct LabelRoom {
  char* lanes;        // a plane of numbers
  uint8_t* bytes[2];  // planes
  char* march;
  uint8_t* columns;  // for count_row
  char* line;        // a row of any numbers
  uint8_t* flags;    // a row of bytes
  uint8_t* active;   // per two rows and slot of a plane
};

inline int64_t slots_of_row(int64_t w) { return w / 8 + 1; }

// For images of h x w pixels; lane_bytes is the size of a number, 0 for no plane of these.
inline LabelRoom label_room(Arena* arena, int64_t h, int64_t w, int64_t lane_bytes,
                            const MedianNetwork* network) {
  LabelRoom room = {};
  const int64_t stride = plane_stride(w);
  room.lanes = arena->take<char>(h * stride * lane_bytes);
  room.bytes[0] = arena->take<uint8_t>(h * stride);
  room.bytes[1] = arena->take<uint8_t>(h * stride);
  room.march = arena->take<char>(network == nullptr ? 0 : march_bytes(*network));
  room.columns = arena->take<uint8_t>(count_bytes(w));
  room.line = arena->take<char>(stride * 8);
  room.flags = arena->take<uint8_t>(stride);
  room.active = arena->take<uint8_t>((h / 2 + 1) * slots_of_row(w));
  return room;
}

}  // namespace ssad::SSAD_LEVEL
