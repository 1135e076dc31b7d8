// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ssad/view.h"

namespace ssad {

// One row per sample, as in ssad_kernels.CutPasteParams.
struct CutPasteParams {
  const int64_t* source_index;  // (n)
  const int64_t* source_box;    // (n, 4) y, x, h, w
  const int64_t* target;        // (n, 2) y, x of the canvas
  const float* angle;           // (n) degrees
  const float* jitter;          // (n, 4) brightness, contrast, saturation, hue
  const int64_t* order;         // (n, 4)
  const bool* apply;            // (n)
  const int64_t* turns;         // (n), or null: the source images are not turned
  const int64_t* shift;         // (n, 2) y, x, or null: nor shifted
};

enum JitterOp : int8_t { kBrightness = 0, kContrast = 1, kSaturation = 2, kHue = 3 };

// What is to be done for one sample, with every coordinate checked: a kernel can trust it.
struct CutPastePlan {
  Status status;                       // nothing is done unless kApplied or kClipped
  int64_t source;                      // image to cut from
  int64_t turns;                       // of that image, 0...3 quarter turns counter-clockwise
  int64_t box_y, box_x, box_h, box_w;  // as asked for
  int64_t cut_y, cut_x, cut_h, cut_w;  // the part of the box inside the source image
  int64_t from_y, from_x;              // where that begins in the turned image without its shift
  int64_t canvas_y, canvas_x, canvas_h, canvas_w;
  int64_t cos, sin;  // 16-bit fixed point
  int32_t steps;     // jitter operations that change something
  JitterOp step[4];
  float factor[4];
  int64_t offset;  // of the cut patch in the scratch memory, in elements
};

struct CutPasteSize {
  int64_t elements;  // of all cut patches together
  int64_t largest;   // pixels of the largest patch
  bool is_foreign;   // a patch comes from another image than its target
};

// Planes of the arithmetic type start on cache lines: a vector that straddles two costs double.
static inline int64_t work_stride(int64_t pixels) { return (pixels + 15) / 16 * 16; }

// Fills plans[0..n).
CutPasteSize plan_cut_paste(const ImageView& images, const CutPasteParams& params,
                            CutPastePlan* plans);

// Plans and runs a batch: `to` gets the images of `from` with their patches. In place if both share
// their data; otherwise both have the same strides and each sample is one dense block of memory.
// mask (n, 1, h, w) and status (n) are written whole. Returns false when there is no memory for the
// patches, with nothing done.
bool cut_paste(const ImageView& from, const ImageView& to, const CutPasteParams& params, bool* mask,
               int8_t* status, int64_t threads);

// The distribution from which the transforms draw. Either `area` (a fraction of the image) with
// `aspect`, or `length` x `width` in pixels when `scar`.
struct CutPasteLaw {
  double p;
  bool scar;
  double area[2], aspect[2];
  int64_t length[2], width[2];
  double angle[2];
  double jitter[4];
  bool other_source;
  // Of the hard law: whether the source image is turned, its halves change places, and the patch is
  // recoloured.
  double turn_p, permute_p, jitter_p;

  bool is_hard() const { return turn_p > 0.0 || permute_p > 0.0 || jitter_p < 1.0; }
};

struct CutPasteDraws {
  int64_t* source_index;
  int64_t* source_box;
  int64_t* target;
  float* angle;
  float* jitter;
  int64_t* order;
  bool* apply;
};

// What all laws draw.
void sample_cut_paste(const int64_t* keys, int64_t n, int64_t stream, int64_t height, int64_t width,
                      const CutPasteLaw& law, const CutPasteDraws& out);

// What the hard law draws on top; empties some rows of `order`.
void sample_hard(const int64_t* keys, int64_t n, int64_t coin_stream, int64_t height, int64_t width,
                 const CutPasteLaw& law, int64_t* order, int64_t* turns, int64_t* shift);

// All in one: draws for the images' size and pastes. Streams: of the draws, of the hard law's.
bool cut_paste_keyed(const ImageView& from, const ImageView& to, const int64_t* keys,
                     const int64_t (&streams)[2], const CutPasteLaw& law, bool* mask,
                     int8_t* status, int64_t threads);

}  // namespace ssad
