// SPDX-License-Identifier: Apache-2.0
// Warp collectives: the lanes named in a mask meet, and see what each of them handed in.
#include <cstring>
#include <string>

#include "block.h"

namespace ssad::emulation {

// Lets the lanes go that wait with that mask, if all it names have come that have not returned.
void Block::complete_collective(int warp, uint32_t mask) {
  Warp& w = warps_[warp];
  if (((w.waiting | w.returned) & mask) != mask) return;
  Thread* threads = threads_.get() + warp * kWarp;
  uint32_t group = 0;
  uint64_t values[kWarp] = {};
  for (uint32_t rest = w.waiting & mask; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    if (threads[lane].collective.mask != mask) continue;
    group |= uint32_t{1} << lane;
    values[lane] = threads[lane].collective.value;
  }
  if (((group | w.returned) & mask) != mask) return;
  ++counts.collectives;
  if ((group | w.returned) == kAllLanes) traffic_.meet(warp);
  w.waiting &= ~group;
  for (uint32_t rest = group; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    threads[lane].present = group;
    std::memcpy(threads[lane].values, values, sizeof(values));
    wake(warp * kWarp + lane);
  }
}

// A lane that returns may be the last one that others waited for.
void Block::return_lane() {
  const int warp = current_ / kWarp;
  Warp& w = warps_[warp];
  w.returned |= uint32_t{1} << lane();
  for (uint32_t rest = w.waiting; rest != 0; rest &= rest - 1) {
    const Thread& thread = threads_[warp * kWarp + __builtin_ctz(rest)];
    if (thread.state == State::kInCollective) complete_collective(warp, thread.collective.mask);
  }
}

void Block::warp_barrier(uint32_t mask, int line, const char* file) {
  if (threads_[current_].warp_barriers++ == options.omitted_warp_barrier) {
    counts.omitted_line = line;
    counts.omitted_file = file;
    return;
  }
  uint32_t present = 0;
  exchange({mask, line, 0}, true, &present);
}

const uint64_t* Block::exchange(const Collective& own, bool orders_memory, uint32_t* present) {
  Thread& thread = threads_[current_];
  const int warp = current_ / kWarp;
  if ((own.mask >> lane() & 1) == 0) fault("warp collective by a lane outside its mask", own.line);
  // Lanes that wait for each other must do so in one place. (A lane may wait for this one while
  // it meets some others first.)
  Warp& w = warps_[warp];
  for (uint32_t rest = w.waiting & own.mask; rest != 0; rest &= rest - 1) {
    const int other_lane = __builtin_ctz(rest);
    const Collective& other = threads_[warp * kWarp + other_lane].collective;
    if ((other.mask >> lane() & 1) == 0) continue;
    if (other.mask != own.mask || other.line != own.line) {
      fault("warp collective here, and in line " + std::to_string(other.line) + " by lane " +
                std::to_string(other_lane),
            own.line);
    }
  }
  thread.collective = own;
  thread.line = own.line;
  thread.state = State::kInCollective;
  w.waiting |= uint32_t{1} << lane();
  const int64_t epoch = w.epoch;
  complete_collective(warp, own.mask);
  suspend();
  // Of what a part of a warp orders, nothing is kept: it may look like a race where there is none.
  if (orders_memory && (thread.present | w.returned) == kAllLanes && w.epoch == epoch) ++w.epoch;
  *present = thread.present;
  return thread.values;
}

}  // namespace ssad::emulation
