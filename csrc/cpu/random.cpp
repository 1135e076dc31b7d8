// SPDX-License-Identifier: Apache-2.0
#include "families.h"
#include "ssad/parallel.h"
#include "ssad/philox.h"

namespace ssad::SSAD_LEVEL {
namespace {

struct Fill {
  const int64_t* keys;
  int64_t stream, count;
  int64_t* out;
};

void fill_row(void* context, int64_t /*worker*/, int64_t i) {
  const auto& fill = *static_cast<const Fill*>(context);
  int64_t* out = fill.out + i * fill.count;
  for (int64_t k = 0; k < fill.count; k += 4) {
    const Philox four = keyed_philox(fill.keys + 3 * i, fill.stream, k / 4);
    const int64_t left = fill.count - k;
    for (int64_t j = 0; j < (left < 4 ? left : 4); ++j) out[k + j] = four.v[j];
  }
}

}  // namespace

void philox_fill(const int64_t* keys, int64_t n, int64_t stream, int64_t count, int64_t* out,
                 int64_t threads) {
  Fill fill = {keys, stream, count, out};
  const double nanoseconds = 3.0 * static_cast<double>(n) * static_cast<double>(count);
  parallel_for(n, useful_threads(threads, nanoseconds), fill_row, &fill);
}

}  // namespace ssad::SSAD_LEVEL
