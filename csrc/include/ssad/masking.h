// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ssad/view.h"

namespace ssad {

// The numbers are those of ssad_kernels/masking_op.py.
enum class CellMaskKind : int32_t { kSplit, kBernoulli, kCheckerboard };

// Everything is contiguous. A mask has a byte for each pixel: 0 is hidden, any other one visible.

struct CellMaskProblem {
  const int64_t* keys;  // (n, 3)
  const int64_t* cell;  // (n), taken for no less than `least`
  bool* out;            // (n, parts, h, w)
  int64_t n, stream, h, w, parts, least;
  CellMaskKind kind;
  uint64_t below;  // a cell with a smaller number is hidden; kBernoulli alone
};

// False when there is no memory for scratch, with nothing written.
bool cell_masks(const CellMaskProblem& problem, int64_t threads);

struct MaskImagesProblem {
  const void* images;  // (n, c, h, w) or, interleaved, (n, h, w, c)
  const uint8_t* masks;
  void* out;      // with (parts) after n
  int64_t bytes;  // of an element: 1, 2, 4 or 8
  int64_t n, parts, c, pixels;
  bool is_interleaved;
};

void mask_images(const MaskImagesProblem& problem, int64_t threads);

struct CompositeProblem {
  const void* outputs;   // (n, parts, c, pixels)
  const uint8_t* masks;  // (n, parts, pixels)
  const void* images;    // (n, c, pixels)
  void* out;             // likewise
  Dtype dtype;           // not kUInt8
  int64_t n, parts, c, pixels;
};

void composite(const CompositeProblem& problem, int64_t threads);

struct RefineProblem {
  const void* scores;       // (n, h, w)
  const uint8_t* masks;     // (n, parts, h, w)
  const int64_t* cell;      // (n), taken for no less than 1
  const double* threshold;  // (n)
  bool* refined;            // as masks
  int64_t* hidden;          // (n)
  Dtype dtype;              // kFloat32 or kFloat64
  int64_t n, parts, h, w;
  double share;  // negative: the mean decides
};

// False when there is no memory for scratch, with nothing written.
bool refine_cells(const RefineProblem& problem, int64_t threads);

}  // namespace ssad
