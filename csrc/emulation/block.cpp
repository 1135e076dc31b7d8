// SPDX-License-Identifier: Apache-2.0
#include "block.h"

#include <algorithm>
#include <mutex>
#include <numeric>

namespace ssad::emulation {
namespace {

Block* running_block = nullptr;

std::string place(const char* name, const Index& at) {
  return std::string(name) + " (" + std::to_string(at.x) + ", " + std::to_string(at.y) + ", " +
         std::to_string(at.z) + ")";
}

Index unrolled(int64_t i, const Extent& extent) {
  return {static_cast<unsigned>(i % extent.x), static_cast<unsigned>(i / extent.x % extent.y),
          static_cast<unsigned>(i / extent.x / extent.y)};
}

uint64_t next_random(uint64_t* state) {  // xorshift; the state is never zero
  *state ^= *state << 13;
  *state ^= *state >> 7;
  return *state ^= *state << 17;
}

uint64_t random_state(uint64_t seed) { return (seed + 1) * 0x9E3779B97F4A7C15u; }

}  // namespace

Options options;
Counts counts;

Block& Block::running() { return *running_block; }

Block::Block(Extent grid_, Extent size_, size_t shared_bytes)
    : grid(grid_),
      size(size_),
      count_(static_cast<int>(size_.count())),
      shared_bytes_(shared_bytes),
      stacks_(count_),
      threads_(new Thread[count_]),
      warps_((count_ + kWarp - 1) / kWarp),
      traffic_(static_cast<int>(warps_.size())) {}

void Block::run(Index index_, const std::function<void()>& body) {
  index = index_;
  body_ = &body;
  shared.reset(shared_bytes_);
  block_epoch_ = returned_ = waiting_ = 0;
  error_.clear();
  ready_.clear();
  first_ready_ = 0;
  random_ = random_state(options.seed + 0x1000003 * (index.x + 7919 * (index.y + 7919 * index.z)));
  std::fill(warps_.begin(), warps_.end(), Warp());
  if (count_ % kWarp != 0) warps_.back().returned = kAllLanes << count_ % kWarp;
  for (int i = 0; i < count_; ++i) {
    Thread& thread = threads_[i];
    thread.index = unrolled(i, size);
    thread.barriers = thread.warp_barriers = thread.turn = 0;
    thread.fiber.start(entry, stacks_[i], Stacks::bytes());
    wake(i);
  }
  running_block = this;
  while (returned_ < count_ && error_.empty()) {
    if (first_ready_ == ready_.size()) {
      current_ = 0;
      try {
        release_barrier();
      } catch (const Fault& fault) {
        error_ = fault.what();
      }
      continue;
    }
    current_ = take_next();
    Fiber::switch_to(scheduler_, threads_[current_].fiber);
  }
  running_block = nullptr;
  counts.threads += count_;
  for (int i = 0; i < count_; ++i) {
    counts.warp_barriers = std::max(counts.warp_barriers, threads_[i].warp_barriers);
  }
  traffic_.finish_block();
  // The fibers of a faulty block are dropped where they are: kernels own nothing.
  if (!error_.empty()) throw Fault(error_);
}

void Block::entry() {
  Fiber::arrive();
  running().execute_current();
}

void Block::execute_current() {
  try {
    (*body_)();
    threads_[current_].state = State::kReturned;
    ++returned_;
    return_lane();
  } catch (const Fault& fault) {
    error_ = fault.what();
  }
  suspend();  // for ever
}

void Block::suspend() { Fiber::switch_to(threads_[current_].fiber, scheduler_); }

void Block::wake(int thread) {
  threads_[thread].state = State::kReady;
  ready_.push_back(thread);
}

int Block::take_next() {
  size_t at = first_ready_;
  if (options.order == Order::kReverse) at = ready_.size() - 1;
  if (options.order == Order::kRandom) {
    at += next_random(&random_) % (ready_.size() - first_ready_);
  }
  const int thread = ready_[at];
  if (options.order == Order::kForward) {
    ++first_ready_;
  } else {
    ready_[at] = ready_.back();
    ready_.pop_back();
  }
  if (first_ready_ == ready_.size()) {
    ready_.clear();
    first_ready_ = 0;
  }
  return thread;
}

Moment Block::now() const { return {current_, block_epoch_, warps_[current_ / kWarp].epoch}; }

void Block::count(const Access& access) {
  if (options.counts_traffic)
    traffic_.add(current_ / kWarp, lane(), threads_[current_].turn, access);
}

void note_global(const Access& access) { Block::running().count(access); }

void Block::barrier(int line, const char* file) {
  Thread& own = threads_[current_];
  if (own.barriers++ == options.omitted_barrier) {
    counts.omitted_line = line;
    counts.omitted_file = file;
    return;
  }
  own.state = State::kAtBarrier;
  own.line = line;
  ++waiting_;
  suspend();
}

// When no thread can run: all of them must be at one barrier.
void Block::release_barrier() {
  if (waiting_ + returned_ < count_ || waiting_ == 0) report_deadlock();
  const auto waits = [](const Thread& t) { return t.state == State::kAtBarrier; };
  const Thread* end = threads_.get() + count_;
  const Thread* first = std::find_if(static_cast<const Thread*>(threads_.get()), end, waits);
  current_ = static_cast<int>(first - threads_.get());
  if (returned_ > 0) fault("__syncthreads after a thread of the block has returned", first->line);
  for (int i = 0; i < count_; ++i) {
    if (threads_[i].line == first->line) continue;
    fault("__syncthreads here, and in line " + std::to_string(threads_[i].line) + " by thread " +
              std::to_string(i),
          first->line);
  }
  waiting_ = 0;
  ++block_epoch_;
  ++counts.barriers;
  for (size_t warp = 0; warp < warps_.size(); ++warp) traffic_.meet(static_cast<int>(warp));
  for (int i = 0; i < count_; ++i) wake(i);
}

void Block::report_deadlock() {
  for (int i = 0; i < count_; ++i) {
    if (threads_[i].state != State::kInCollective) continue;
    current_ = i;
    fault("deadlock: other lanes do not come to this warp collective", threads_[i].line);
  }
  fault("deadlock");
}

void Block::fault(const std::string& what, int line) const {
  std::string message = what;
  const int last = line > 0 ? line : threads_[current_].line;
  if (last > 0) message += (line > 0 ? ", line " : ", after line ") + std::to_string(last);
  throw Fault(message + ", " + place("block", index) + ", " +
              place("thread", threads_[current_].index));
}

void run_blocks(Extent grid, Extent size, size_t shared_bytes, const std::function<void()>& body) {
  constexpr int64_t kMostThreads = 1024;
  static std::mutex one_launch;
  const std::lock_guard<std::mutex> lock(one_launch);
  if (size.count() < 1 || size.count() > kMostThreads) throw Fault("blocks have 1 to 1024 threads");
  std::vector<int64_t> blocks(grid.count());
  std::iota(blocks.begin(), blocks.end(), 0);
  uint64_t state = random_state(options.seed);
  if (options.order == Order::kReverse) std::reverse(blocks.begin(), blocks.end());
  if (options.order == Order::kRandom) {
    for (size_t i = blocks.size(); i > 1; --i) {
      std::swap(blocks[i - 1], blocks[next_random(&state) % i]);
    }
  }
  Block block(grid, size, shared_bytes);
  for (const int64_t i : blocks) block.run(unrolled(i, grid), body);
  block.finish_launch();
}

}  // namespace ssad::emulation
