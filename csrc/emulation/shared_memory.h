// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

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

  int64_t reads = 0, writes = 0;

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
void note_read(const void* at);
void note_write(const void* at);
[[noreturn]] void report_index(ptrdiff_t index, ptrdiff_t count);

template <class T>
class SharedReference {
 public:
  explicit SharedReference(T* at) : at_(at) {}

  operator T() const {
    note_read(at_);
    T value;
    std::memcpy(&value, at_, sizeof(T));
    return value;
  }
  const SharedReference& operator=(const T& value) const {
    note_write(at_);
    std::memcpy(at_, &value, sizeof(T));
    return *this;
  }
  const SharedReference& operator=(const SharedReference& other) const {
    return *this = static_cast<T>(other);
  }
  SharedReference(const SharedReference&) = default;

 private:
  T* at_;
};

// Stands for T*; knows where the array ends.
template <class T>
class SharedPointer {
 public:
  SharedPointer() = default;
  SharedPointer(T* first, ptrdiff_t count) : first_(first), count_(count) {}

  SharedReference<T> operator[](ptrdiff_t i) const {
    const ptrdiff_t index = offset_ + i;
    if (index < 0 || index >= count_) report_index(index, count_);
    return SharedReference<T>(first_ + index);
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
