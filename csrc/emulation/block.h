// SPDX-License-Identifier: Apache-2.0
// Runs the kernels of csrc/cuda on a CPU, to check them: every CUDA thread is a fiber, and a
// barrier or warp collective suspends it until the others have come. For tests only. Not there:
// clusters, asynchronous copies, atomics, tensor cores, static __shared__ arrays.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "fiber.h"
#include "global_memory.h"
#include "shared_memory.h"

namespace ssad::emulation {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

struct Extent {
  unsigned x, y, z;
  Extent(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  int64_t count() const { return int64_t{x} * y * z; }
};

// Which of the threads that can run is next.
enum class Order { kForward, kReverse, kRandom };

struct Options {
  Order order = Order::kForward;
  uint64_t seed = 0;
  // Leaves out that barrier of each block, or that __syncwarp of each warp, counted from 0, to see
  // whether it is missed.
  int64_t omitted_barrier = -1, omitted_warp_barrier = -1;
  bool counts_traffic = false;  // see traffic.h; takes about as long as all the rest
};

// How the next launches run, and what they did. Plain globals: there is one launch at a time.
extern Options options;

struct Counts {
  int64_t threads = 0, barriers = 0, collectives = 0;
  int64_t warp_barriers = 0;  // of the warp that has most of them
  int omitted_line = 0;       // where the omitted barrier is
  const char* omitted_file = "";
};
extern Counts counts;

// A misuse of CUDA by a kernel; the message says what, and in which line, block and thread.
class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// What the lanes of a warp hand in together; the lanes of `mask` must all do so.
struct Collective {
  uint32_t mask = 0;
  int line = 0;
  uint64_t value = 0;
};

class Block {
 public:
  static constexpr int kWarp = 32;

  Block(Extent grid, Extent size, size_t shared_bytes);

  // Runs all threads to their end; throws Fault.
  void run(Index index, const std::function<void()>& body);
  void finish_launch() {
    if (options.counts_traffic) traffic_.finish_launch();
  }

  // For the running thread.
  static Block& running();
  void barrier(int line, const char* file);
  void warp_barrier(uint32_t mask, int line, const char* file);
  // Returns what each lane handed in, and in `present` which ones did.
  const uint64_t* exchange(const Collective& own, bool orders_memory, uint32_t* present);
  Index thread() const { return threads_[current_].index; }
  int lane() const { return current_ % kWarp; }
  Moment now() const;
  void count(const Access& access);
  int64_t& turn() { return threads_[current_].turn; }
  [[noreturn]] void fault(const std::string& what, int line = 0) const;

  const Extent grid, size;
  Index index;
  SharedMemory shared;

 private:
  enum class State { kReady, kAtBarrier, kInCollective, kReturned };

  struct Thread {
    Fiber fiber;
    Index index;
    State state = State::kReady;
    int line = 0;      // where it waits
    int64_t turn = 0;  // see Turn
    int64_t barriers = 0, warp_barriers = 0;
    Collective collective;
    uint64_t values[kWarp];
    uint32_t present = 0;
  };

  static constexpr uint32_t kAllLanes = 0xFFFFFFFFu;

  struct Warp {
    uint32_t waiting = 0;   // lanes in collectives
    uint32_t returned = 0;  // lanes, or never there
    int64_t epoch = 0;      // how often __syncwarp ordered all of them
  };

  static void entry();
  void execute_current();
  void suspend();
  void wake(int thread);
  int take_next();
  void release_barrier();
  void return_lane();
  void complete_collective(int warp, uint32_t mask);
  [[noreturn]] void report_deadlock();

  const int count_;
  const size_t shared_bytes_;
  Stacks stacks_;
  std::unique_ptr<Thread[]> threads_;
  Fiber scheduler_;
  const std::function<void()>* body_ = nullptr;
  std::vector<int> ready_;
  size_t first_ready_ = 0;
  std::vector<Warp> warps_;
  LaunchTraffic traffic_;
  int64_t block_epoch_ = 0;
  int current_ = 0, returned_ = 0, waiting_ = 0;
  uint64_t random_ = 0;
  std::string error_;
};

// That the running thread is in the turn of a loop, of which loops around it have turns, too.
class Turn {
 public:
  explicit Turn(int64_t number) : of_thread_(Block::running().turn()), around_(of_thread_) {
    constexpr int64_t kMostTurns = 1 << 20;
    of_thread_ = kMostTurns * around_ + number + 1;
  }
  ~Turn() { of_thread_ = around_; }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  int64_t& of_thread_;
  const int64_t around_;
};

// Runs the blocks of a launch one after the other, in the same kind of order as the threads. Other
// launches wait.
void run_blocks(Extent grid, Extent size, size_t shared_bytes, const std::function<void()>& body);

}  // namespace ssad::emulation
