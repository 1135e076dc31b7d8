// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace ssad {

constexpr int kNsaEllipses = 5;        // of a patch, if it is not a rectangle
constexpr int64_t kNsaMinPixels = 50;  // a patch with fewer to blend is left out

// One row per sample and p patches each, as in ssad_kernels.NsaParams; boxes are y, x, h, w.
struct NsaParams {
  const int64_t* source_index;  // (n)
  const int64_t* source_box;    // (n, p, 4)
  const int64_t* target_box;    // (n, p, 4)
  const double* ellipse;        // (n, p, e, 5) centre y, x, semi-axis y, x, degrees
  const bool* apply;            // (n, p)
};

// Object masks, dense; both or none.
struct NsaMasks {
  const bool* source;  // (m, 1, h, w)
  const bool* target;  // (n, 1, h, w)
  int64_t m, n, h, w;
};

enum class NsaSize { kGamma, kUniform, kCutPaste, kSquare };

// Bounds along an axis: from, and below or (for sizes) including; see reference/nsa_law.py.
struct NsaAxis {
  int64_t size, half[2], full[2], centre[2];
};

struct NsaLaw {
  double p;
  double offset, scale;
  double resize[2], spread;
  int64_t patches;
  double object_share, overlap;  // not looked at below 0
  int64_t proposals;
  double factor[2];
  NsaSize size;
  bool has_resize, has_ellipses, shift, same_source, is_reference;
  NsaAxis axes[2];
  int64_t side;             // of the largest patch
  const double* quantiles;  // (3, 1025), see reference/quantiles.py
};

struct NsaDraws {
  int64_t* source_index;
  int64_t* source_box;
  int64_t* target_box;
  double* ellipse;
  bool* apply;
  double* factor;
  int8_t* status;
};

// `sources` is the number of images in the bank, or -1: another image of the batch. Returns false
// when there is no memory, with nothing done; so does the next.
bool sample_nsa(const int64_t* keys, int64_t stream, int64_t sources, const NsaMasks& masks,
                const NsaLaw& law, const NsaDraws& out, int64_t threads);

// region (n, 1, h, w); paste (n, p, side, side), or null if it is not wanted: what is to be
// blended, or what is labelled.
bool nsa_regions(const NsaParams& params, int64_t patches, int64_t ellipses, const NsaMasks& masks,
                 int64_t side, bool is_reference, bool pastes_label, bool* region, bool* paste,
                 int64_t threads);

}  // namespace ssad
