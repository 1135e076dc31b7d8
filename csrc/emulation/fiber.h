// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace ssad::emulation {

// A flow of control with a stack of its own, which runs until it switches to another one. A Fiber
// without a stack stands for the flow that is running already. x86-64 only: see fiber.cpp.
class Fiber {
 public:
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Makes the next switch to this fiber call entry(), which must never return.
  void start(void (*entry)(), char* stack, size_t bytes);

  // Suspends the running fiber, which must be `from`.
  static void switch_to(Fiber& from, Fiber& to);

  // What entry() has to call first.
  static void arrive();

 private:
  void* stack_pointer_ = nullptr;
  // For the address sanitizer, which must know whose stack is in use.
  const void* stack_ = nullptr;
  size_t bytes_ = 0;
};

// Stacks for fibers, each with a page before it that cannot be touched.
class Stacks {
 public:
  explicit Stacks(int count);
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  char* operator[](int i) const;
  static size_t bytes();

 private:
  char* memory_;
  size_t size_;
};

}  // namespace ssad::emulation
