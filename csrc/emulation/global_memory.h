// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstring>
#include <type_traits>

#include "traffic.h"

namespace ssad::emulation {

// Of the running thread.
void note_global(const Access& access);

template <class T>
class GlobalReference {
 public:
  using Value = std::remove_const_t<T>;

  GlobalReference(T* at, const Place& place) : at_(at), place_(place) {}

  operator Value() const {
    note(Kind::kGlobalRead);
    return *at_;
  }
  const GlobalReference& operator=(const Value& value) const {
    note(Kind::kGlobalWrite);
    *at_ = value;
    return *this;
  }
  const GlobalReference& operator=(const GlobalReference& other) const {
    return *this = static_cast<Value>(other);
  }
  GlobalReference(const GlobalReference&) = default;

 private:
  void note(Kind kind) const {
    note_global({kind, reinterpret_cast<uintptr_t>(at_), sizeof(T), alignof(T), place_});
  }

  T* at_;
  Place place_;
};

// Stands for T*. Where the array ends is for the address sanitizer to know.
template <class T>
class GlobalPointer {
 public:
  GlobalPointer() = default;
  GlobalPointer(T* first) : first_(first) {}
  template <class Other, class = std::enable_if_t<std::is_convertible_v<Other*, T*>>>
  GlobalPointer(const GlobalPointer<Other>& other) : first_(other.get()) {}

  GlobalReference<T> operator[](const Subscript& i) const { return {first_ + i.value, i.place}; }
  GlobalPointer operator+(ptrdiff_t i) const { return first_ + i; }
  explicit operator bool() const { return first_ != nullptr; }
  bool operator==(std::nullptr_t) const { return first_ == nullptr; }
  bool operator!=(std::nullptr_t) const { return first_ != nullptr; }
  T* get() const { return first_; }

 private:
  T* first_ = nullptr;
};

}  // namespace ssad::emulation
