// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ssad/blend.h"
#include "ssad/labels.h"
#include "ssad/nsa.h"

namespace ssad {

// The numbers are those of ssad_kernels/nsa_keyed.py; the first ones are those of BlendGradient.
enum class NsaGradient : int32_t {
  kSource,
  kMixed,
  kAverage,
  kMonochrome,
  kMix,     // one of the first two by the toss of a coin
  kScaled,  // mixed, with gains
  kSwap,
  kUniform
};

// A batch of natural synthetic anomalies, from keys to labels.
struct NsaKeyedProblem {
  ImageView images;   // not written
  ImageView sources;  // likewise; `images` again where there is no bank
  ImageView out;      // a copy of the images
  bool has_bank;
  const int64_t* keys;  // (n, 3)
  int64_t stream, coin_stream;
  NsaLaw law;

  bool finds_objects;  // in the images, if `masks` is null
  bool is_otsu;
  double low, high;
  const bool* masks;         // (n, 1, h, w)
  const bool* source_masks;  // (m, 1, h, w); without a bank those of the images

  NsaGradient gradient;
  BlendRegion region;      // kOpenCv: as the released code blends
  PoissonOptions options;  // but for the solver, which follows from the region and the masks

  LabelKind kind;
  float steepness, midpoint;
  double threshold;
  int64_t size, radius;

  float* label;    // (n, 1, h, w)
  int8_t* status;  // (n,)
};

// Does what object_mask, sample_nsa, nsa_regions, poisson_blend or alpha_blend patch after patch,
// and difference_label do one after another, a sample at a time while it is in the cache. Returns
// false when there is no memory; what was written then means nothing.
bool nsa_keyed(const NsaKeyedProblem& problem, int64_t threads);

}  // namespace ssad
