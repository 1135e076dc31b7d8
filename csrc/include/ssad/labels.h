// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ssad/view.h"

namespace ssad {

// What a median can be taken of; the numbers are those of ssad_kernels/labels.py, and those of
// Dtype as far as it goes.
enum class Element : int32_t {
  kUInt8,
  kFloat16,
  kBFloat16,
  kFloat32,
  kFloat64,
  kBool,
  kInt16,
  kInt32
};

static inline int64_t element_size(Element element) {
  switch (element) {
    case Element::kUInt8:
    case Element::kBool: return 1;
    case Element::kFloat32:
    case Element::kInt32: return 4;
    case Element::kFloat64: return 8;
    default: return 2;
  }
}

constexpr int64_t kLargestRadius = 7;

// Every result is contiguous. All functions return false when there is no memory for scratch, with
// nothing written.

struct MedianProblem {
  ImageView images;  // of `element`, whatever its dtype says
  Element element;
  int64_t radius;
  bool is_square;        // only for kBool; otherwise a disk
  const int64_t* boxes;  // (n, 4) y, x, h, w, or null: the whole image
  void* out;
};

bool median_filter(const MedianProblem& problem, int64_t threads);

struct ObjectMaskProblem {
  ImageView images;
  double low, high;  // a sum of channels between them is background
  bool is_otsu;      // or look for a threshold
  int64_t size;
  bool* out;  // (n, 1, h, w)
};

bool object_mask(const ObjectMaskProblem& problem, int64_t threads);

// The numbers are those of ssad_kernels/labels.py.
enum class LabelKind : int32_t { kBinary, kIntensity, kLogistic, kFactor };

struct LabelProblem {
  ImageView before, after;  // of equal shapes
  ImageView region;         // bool, one channel
  LabelKind kind;
  const float *steepness, *midpoint, *factor;  // (n,), null where the kind has no use for it
  double threshold;                            // of a sum of channels, >= 0
  int64_t size, radius;
  float* out;  // (n, 1, h, w)
};

bool difference_label(const LabelProblem& problem, int64_t threads);

}  // namespace ssad
