// SPDX-License-Identifier: Apache-2.0
// Prints csrc/cpu/median_steps.h. Exits with 1 if that is not what it was compiled with.
#include "median_steps.h"

#include <cstdio>
#include <cstring>

namespace {

using ssad::MedianStep;

void print(const char* name, const MedianStep* steps, int64_t count) {
  std::printf("constexpr MedianStep %s[] = {", name);
  constexpr int64_t kPerLine = 4;
  for (int64_t i = 0; i < count; ++i) {
    const MedianStep& step = steps[i];
    std::printf("%s{%d, %d, %d, %d},", i % kPerLine == 0 ? "\n    " : " ", step.a, step.b, step.low,
                step.high);
  }
  std::printf("\n};\n");
}

template <size_t kCount>
bool are_same(const MedianStep* steps, int64_t count, const MedianStep (&compiled)[kCount]) {
  return count == static_cast<int64_t>(kCount) &&
         std::memcmp(steps, compiled, sizeof compiled) == 0;
}

}  // namespace

int main() {
  constexpr int64_t kRadius = 5;
  const auto& network = ssad::median_network(kRadius, ssad::MedianOrder::kAsBuilt);
  std::printf(
      "// SPDX-License-Identifier: Apache-2.0\n"
      "// Printed by tests/native/median_steps.cpp; do not edit.\n"
      "#pragma once\n\n#include <cstdint>\n\n#include \"median_network.h\"\n\n"
      "namespace ssad::steps {\n\n"
      "// clang-format off\n"
      "constexpr int64_t kRadius = %d, kReach = %d, kEntrySlots = %d, kWorkSlots = %d;\n",
      static_cast<int>(kRadius), static_cast<int>(network.reach),
      static_cast<int>(network.entry_slots), static_cast<int>(network.work_slots));
  print("kRow", network.row_steps, network.row_count);
  print("kPair", network.pair_steps, network.pair_count);
  std::printf("// clang-format on\n\n}  // namespace ssad::steps\n");
  const bool is_current = ssad::steps::kRadius == kRadius && ssad::steps::kReach == network.reach &&
                          ssad::steps::kEntrySlots == network.entry_slots &&
                          ssad::steps::kWorkSlots == network.work_slots &&
                          are_same(network.row_steps, network.row_count, ssad::steps::kRow) &&
                          are_same(network.pair_steps, network.pair_count, ssad::steps::kPair);
  return is_current ? 0 : 1;
}
