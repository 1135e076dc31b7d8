// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "traffic.h"

namespace ssad::emulation {

// When a thread did something: two threads' doings are in order if a barrier of the block lies
// between them, or if they are of one warp and a __syncwarp does.
struct Moment {
  int thread = -1;
  int64_t block_epoch = 0, warp_epoch = 0;

  bool is_unordered_with(const Moment& now) const;
};

// A block's shared memory. Every word remembers who wrote it last and the last two threads that
// read it, so that a missing barrier shows in whichever order the threads run.
class SharedMemory {
 public:
  // Fills the memory with NaN, written by nobody.
  void reset(size_t bytes);

  unsigned char* begin() { return reinterpret_cast<unsigned char*>(words_.data()); }
  void on_read(const void* at, const Moment& now);
  void on_write(const void* at, const Moment& now);

 private:
  struct History {
    Moment write, reads[2];
  };

  size_t index(const void* at) const;

  size_t bytes_ = 0;
  std::vector<uint64_t> words_;  // for their alignment
  std::vector<History> histories_;
};

// What a kernel sees: of the running block and thread.
void note_shared(const Access& access);
[[noreturn]] void report_index(ptrdiff_t index, ptrdiff_t count);

template <class T>
class SharedReference {
 public:
  SharedReference(T* at, const Place& place) : at_(at), place_(place) {}

  operator T() const {
    note(Kind::kSharedRead);
    T value;
    std::memcpy(&value, at_, sizeof(T));
    return value;
  }
  const SharedReference& operator=(const T& value) const {
    note(Kind::kSharedWrite);
    std::memcpy(at_, &value, sizeof(T));
    return *this;
  }
  const SharedReference& operator=(const SharedReference& other) const {
    return *this = static_cast<T>(other);
  }
  SharedReference(const SharedReference&) = default;

 private:
  void note(Kind kind) const {
    note_shared({kind, reinterpret_cast<uintptr_t>(at_), sizeof(T), alignof(T), place_});
  }

  T* at_;
  Place place_;
};

// Stands for T*; knows where the array ends.
template <class T>
class SharedPointer {
 public:
  SharedPointer() = default;
  SharedPointer(T* first, ptrdiff_t count) : first_(first), count_(count) {}

  SharedReference<T> operator[](const Subscript& i) const {
    const ptrdiff_t index = offset_ + i.value;
    if (index < 0 || index >= count_) report_index(index, count_);
    return {first_ + index, i.place};
  }
  SharedPointer operator+(ptrdiff_t i) const {
    SharedPointer moved = *this;
    moved.offset_ += i;
    return moved;
  }

 private:
  T* first_ = nullptr;
  ptrdiff_t count_ = 0, offset_ = 0;
};

}  // namespace ssad::emulation
