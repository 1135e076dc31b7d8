// SPDX-License-Identifier: Apache-2.0
#include "shared_memory.h"

#include <string>

#include "block.h"

namespace ssad::emulation {
namespace {

constexpr size_t kWord = 4;
constexpr int kWarp = 32;

[[noreturn]] void report(const char* what, size_t word, int other) {
  Block::running().fault("shared word " + std::to_string(word) + " " + what + " thread " +
                         std::to_string(other) + ", with no barrier between");
}

}  // namespace

bool Moment::is_unordered_with(const Moment& now) const {
  if (thread < 0 || thread == now.thread || block_epoch != now.block_epoch) return false;
  return thread / kWarp != now.thread / kWarp || warp_epoch == now.warp_epoch;
}

void SharedMemory::reset(size_t bytes) {
  bytes_ = bytes;
  words_.assign((bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t), ~uint64_t{0});
  histories_.assign((bytes + kWord - 1) / kWord, History());
}

// A value of more than one word is known by its first: arrays have one type.
size_t SharedMemory::index(const void* at) const {
  const char* first = reinterpret_cast<const char*>(words_.data());
  const auto offset = static_cast<size_t>(static_cast<const char*>(at) - first);
  if (offset >= bytes_) Block::running().fault("address outside of the block's shared memory");
  return offset / kWord;
}

void SharedMemory::on_read(const void* at, const Moment& now) {
  const size_t word = index(at);
  History& history = histories_[word];
  if (history.write.thread < 0) {
    Block::running().fault("shared word " + std::to_string(word) + " is read, which nobody wrote");
  }
  if (history.write.is_unordered_with(now)) {
    report("is read while it is written by", word, history.write.thread);
  }
  if (history.reads[0].thread != now.thread) history.reads[1] = history.reads[0];
  history.reads[0] = now;
}

void SharedMemory::on_write(const void* at, const Moment& now) {
  const size_t word = index(at);
  History& history = histories_[word];
  if (history.write.is_unordered_with(now)) {
    report("is written while it is written by", word, history.write.thread);
  }
  for (const Moment& read : history.reads) {
    if (read.is_unordered_with(now)) report("is written while it is read by", word, read.thread);
  }
  history.write = now;
}

void note_shared(const Access& access) {
  Block& block = Block::running();
  const auto* at = reinterpret_cast<const void*>(access.at);
  if (access.kind == Kind::kSharedRead) {
    block.shared.on_read(at, block.now());
  } else {
    block.shared.on_write(at, block.now());
  }
  block.count(access);
}

void report_index(ptrdiff_t index, ptrdiff_t count) {
  Block::running().fault("index " + std::to_string(index) + " outside of a shared array of " +
                         std::to_string(count));
}

}  // namespace ssad::emulation
