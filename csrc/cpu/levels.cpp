// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace ssad {
namespace {

#ifdef SSAD_X86
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

const Kernels& choose() {
  const char* wanted = std::getenv("SSAD_CPU_LEVEL");
  const bool any = wanted == nullptr || *wanted == '\0';
  const auto asked = [&](const char* level) { return any || std::strcmp(wanted, level) == 0; };
#ifdef SSAD_X86
  __builtin_cpu_init();
  if (asked("avx512") && has_avx512()) return avx512::kKernels;
  if (asked("avx2") && has_avx2()) return avx2::kKernels;
#endif
  if (asked("baseline")) return baseline::kKernels;
  throw std::runtime_error(
      "SSAD_CPU_LEVEL must be baseline, avx2 or avx512 and supported by this "
      "processor, got " +
      std::string(wanted));
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace ssad
