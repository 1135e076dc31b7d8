// SPDX-License-Identifier: Apache-2.0
// Counts what the accesses of a kernel cost: sectors of global memory, wavefronts of shared memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <tuple>
#include <vector>

namespace ssad::emulation {

struct Place {
  const char* file;
  int line;
  bool operator<(const Place& other) const {
    return std::tie(line, file) < std::tie(other.line, other.file);
  }
};

// What pointers are indexed with: a number that knows where it stands in the source, since the
// default arguments are evaluated there.
struct Subscript {
  ptrdiff_t value;
  Place place;
  Subscript(ptrdiff_t value_, const char* file = __builtin_FILE(), int line = __builtin_LINE())
      : value(value_), place{file, line} {}
};

enum class Kind { kSharedRead, kSharedWrite, kGlobalRead, kGlobalWrite };

// A value of a lane. Values of 2, 4, 8 or 16 bytes that are aligned to their size move at once,
// others in parts of their alignment.
struct Access {
  Kind kind;
  uintptr_t at;
  int bytes, alignment;
  Place place;
};

struct Traffic {
  static constexpr uintptr_t kSector = 32;  // bytes
  using Sectors = std::set<uintptr_t>;      // addresses over kSector

  int64_t launches = 0;
  // Once for each access of a warp that touches it, and once for each block.
  int64_t sectors_read = 0, sectors_written = 0, block_sectors = 0;
  Sectors read;  // but for what an earlier launch wrote
  Sectors written;

  // Of shared memory: words of all lanes; the wavefronts in which its 32 banks, a word each at a
  // time, serve them; the most words of one bank that lanes asked for at once.
  struct Cost {
    int64_t words = 0, wavefronts = 0;
    int ways = 0;
  };
  std::map<Place, Cost> shared;
};
extern Traffic traffic;

// Accesses of a launch's blocks, gathered into those of warps.
//
// Lanes run one after the other, so what a warp would do at once has to be found: the n-th accesses
// of all lanes from one line, n being counted from when the whole warp last met (at a barrier or a
// collective of all lanes). That is what the warp does, where the lanes that come to a line come to
// it in the same turns of a loop. Where some skip a turn, their later turns are put together with
// earlier ones of others: the sums are then lower than they should be, never higher, but the most
// ways may be too many. A loop that says which turn it is in (SSAD_TURN) is spared that. Counting
// by instruction instead of by line would tell two uses of an inline function apart, but differ
// from compiler to compiler.
class LaunchTraffic {
 public:
  explicit LaunchTraffic(int warps) : warps_(warps) {}

  void add(int warp, int lane, int64_t turn, const Access& access);
  void meet(int warp);  // all lanes have come
  void finish_block();
  void finish_launch();

 private:
  static constexpr int kWarp = 32;

  struct WarpAccess {
    uint32_t lanes = 0;
    std::array<uintptr_t, kWarp> at;
  };

  struct Site {
    int alignment;
    std::array<int, kWarp> counts = {};
    std::vector<WarpAccess> accesses;
  };

  struct Key {
    Place place;
    Kind kind;
    int bytes;
    int64_t turn;
    bool operator<(const Key& other) const {
      return std::tie(place, kind, bytes, turn) <
             std::tie(other.place, other.kind, other.bytes, other.turn);
    }
  };

  void count_shared(const Key& key, int alignment, const WarpAccess& access);
  void count_global(const Key& key, const WarpAccess& access);

  std::vector<std::map<Key, Site>> warps_;
  Traffic::Sectors read_, written_;  // of the block
  Traffic::Sectors launch_read_, launch_written_;
};

}  // namespace ssad::emulation
