// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace ssad {

enum class Dtype : int32_t { kUInt8, kFloat16, kBFloat16, kFloat32, kFloat64 };

static inline int64_t element_size(Dtype dtype) {
  switch (dtype) {
    case Dtype::kUInt8: return 1;
    case Dtype::kFloat16:
    case Dtype::kBFloat16: return 2;
    case Dtype::kFloat32: return 4;
    default: return 8;
  }
}

// A batch of images as the caller stores it: any layout, strides counted in elements.
struct ImageView {
  void* data;
  Dtype dtype;
  int64_t n, c, h, w;
  int64_t stride_n, stride_c, stride_y, stride_x;
};

// Per-sample outcome; the numbers are public (see ssad_kernels/_status.py).
enum Status : int8_t {
  kApplied = 0,
  kGated = 1,
  kNoPlace = 2,
  kEmpty = 3,
  kNotConverged = 4,
  kNotFinite = 5,
  kClipped = 16,
};

}  // namespace ssad
