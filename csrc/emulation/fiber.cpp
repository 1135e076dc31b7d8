// SPDX-License-Identifier: Apache-2.0
#include "fiber.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

#ifdef __SANITIZE_ADDRESS__
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#error "the emulation switches stacks in x86-64 assembly"
#endif

// void ssad_switch_stack(void** save, void* to): keeps what the System V calling convention says a
// function keeps, on the stack that is left, and takes it from the one that is entered.
extern "C" void ssad_switch_stack(void** save, void* to);
asm(R"(
  .text
  .type ssad_switch_stack, @function
ssad_switch_stack:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
  .size ssad_switch_stack, . - ssad_switch_stack
)");

namespace ssad::emulation {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kStack = 32 * kPage;
constexpr size_t kSavedRegisters = 6;

}  // namespace

void Fiber::start(void (*entry)(), char* stack, size_t bytes) {
  stack_ = stack;
  bytes_ = bytes;
#ifdef __SANITIZE_ADDRESS__
  ASAN_UNPOISON_MEMORY_REGION(stack, bytes);  // another fiber may have been dropped there
#endif
  // The topmost word stands for the return address of entry(), so that its frame is aligned as if
  // it had been called.
  void** top = reinterpret_cast<void**>(stack + bytes) - 2;
  top[0] = reinterpret_cast<void*>(entry);
  top[1] = nullptr;
  stack_pointer_ = top - kSavedRegisters;
  std::memset(stack_pointer_, 0, kSavedRegisters * sizeof(void*));
}

#ifdef __SANITIZE_ADDRESS__
void Fiber::switch_to(Fiber& from, Fiber& to) {
  if (from.stack_ == nullptr) {
    pthread_attr_t attributes;
    void* lowest = nullptr;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &lowest, &from.bytes_);
    pthread_attr_destroy(&attributes);
    from.stack_ = lowest;
  }
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, to.stack_, to.bytes_);
  ssad_switch_stack(&from.stack_pointer_, to.stack_pointer_);
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
}

void Fiber::arrive() { __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr); }
#else
void Fiber::switch_to(Fiber& from, Fiber& to) {
  ssad_switch_stack(&from.stack_pointer_, to.stack_pointer_);
}

void Fiber::arrive() {}
#endif

Stacks::Stacks(int count) : size_(static_cast<size_t>(count) * (kPage + kStack)) {
  void* memory = mmap(nullptr, size_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<char*>(memory);
  for (int i = 0; i < count; ++i) mprotect((*this)[i] - kPage, kPage, PROT_NONE);
}

Stacks::~Stacks() { munmap(memory_, size_); }

char* Stacks::operator[](int i) const {
  return memory_ + static_cast<size_t>(i) * (kPage + kStack) + kPage;
}

size_t Stacks::bytes() { return kStack; }

}  // namespace ssad::emulation
