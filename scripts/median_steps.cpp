// SPDX-License-Identifier: Apache-2.0
// Prints csrc/cpu/median_steps.h, or with an argument the steps for that radius.
#include <cstdio>

#include "median_network.h"

namespace {

void print(const char* name, const ssad::MedianStep* steps, int64_t count) {
  std::printf("constexpr MedianStep %s[] = {", name);
  constexpr int64_t kPerLine = 4;
  for (int64_t i = 0; i < count; ++i) {
    const ssad::MedianStep& step = steps[i];
    std::printf("%s{%d, %d, %d, %d},", i % kPerLine == 0 ? "\n    " : " ", step.a, step.b, step.low,
                step.high);
  }
  std::printf("\n};\n");
}

}  // namespace

int main() {
  constexpr int64_t kRadius = 5;
  const auto& network = ssad::median_network(kRadius, ssad::MedianOrder::kAsBuilt);
  std::printf(
      "// SPDX-License-Identifier: Apache-2.0\n"
      "// Printed by the program median_steps; do not edit.\n"
      "#pragma once\n\n#include <cstdint>\n\n#include \"median_network.h\"\n\n"
      "namespace ssad::steps {\n\n"
      "// clang-format off\n"
      "constexpr int64_t kRadius = %d, kReach = %d, kEntrySlots = %d, kWorkSlots = %d;\n",
      static_cast<int>(kRadius), static_cast<int>(network.reach),
      static_cast<int>(network.entry_slots), static_cast<int>(network.work_slots));
  print("kRow", network.row_steps, network.row_count);
  print("kPair", network.pair_steps, network.pair_count);
  std::printf("// clang-format on\n\n}  // namespace ssad::steps\n");
  return 0;
}
