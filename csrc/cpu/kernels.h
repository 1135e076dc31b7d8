// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ssad/blend.h"
#include "ssad/cutpaste.h"
#include "ssad/labels.h"
#include "ssad/masking.h"
#include "ssad/perlin.h"
#include "ssad/poisson.h"
#include "ssad/similarity.h"
#include "ssad/upsample.h"
#include "ssad/view.h"

namespace ssad {

struct CutPasteScratch {
  bool is_independent;  // no sample reads what another one writes
  char* patches;  // one cut patch per thread if independent, else all of them at their offsets
  int64_t patch_bytes;  // of the largest patch, in the images' dtype
  char* work;           // per thread: a patch of up to three channels in the arithmetic type
  int64_t work_bytes;
};

// Per thread, on cache lines.
struct PoissonScratch {
  char* memory;
  int64_t bytes;
  const bool* ring;  // (h, w), the mask of a problem that has none; not for kSine
};

// Per thread `bytes`, of which the first `sine_bytes` belong to the sine solver.
struct BlendScratch {
  char* memory;
  int64_t bytes, sine_bytes;
};

// Per thread, on cache lines.
struct LabelScratch {
  char* memory;
  int64_t bytes;
};

template <class T>
struct UpsampleTables;

// Per thread, on cache lines. The tables are those of the arithmetic type, the other ones null.
struct UpsampleScratch {
  char* memory;
  int64_t bytes;
  const UpsampleTables<float>* singles;
  const UpsampleTables<double>* doubles;
};

// Per thread, on cache lines: room for the largest lattice.
struct PerlinScratch {
  char* memory;
  int64_t bytes, nodes, columns;
  const int64_t* turns;  // (n, 2), cosine and sine of those angles that are given
};

// Per thread, on cache lines.
struct GmsScratch {
  char* memory;
  int64_t bytes;
  const void* tables;  // GmsTables of the arithmetic type
  double* sums;        // of each band, for kLoss
};

// Per thread, on cache lines.
struct SsimScratch {
  char* memory;
  int64_t bytes;
};

// The kernels that are compiled once per instruction set.
struct Kernels {
  const char* level;
  void (*cut_paste)(const ImageView& from, const ImageView& to, const CutPastePlan* plans,
                    const CutPasteScratch& scratch, bool* mask, int8_t* status, int64_t threads);
  void (*philox)(const int64_t* keys, int64_t n, int64_t stream, int64_t count, int64_t* out,
                 int64_t threads);
  void (*poisson_solve)(const PoissonProblem& problem, const PoissonScratch& scratch,
                        int64_t threads);
  void (*poisson_blend)(const BlendProblem& problem, const BlendPlan* plans,
                        const BlendScratch& scratch, int64_t threads);
  void (*alpha_blend)(const AlphaBlendProblem& problem, const BlendPlan* plans,
                      const BlendScratch& scratch, int64_t threads);
  void (*median_filter)(const MedianProblem& problem, const LabelScratch& scratch, int64_t threads);
  void (*object_mask)(const ObjectMaskProblem& problem, const LabelScratch& scratch,
                      int64_t threads);
  void (*difference_label)(const LabelProblem& problem, const LabelScratch& scratch,
                           int64_t threads);
  void (*upsample)(const UpsampleProblem& problem, const UpsampleScratch& scratch, int64_t threads);
  void (*perlin_noise)(const PerlinProblem& problem, const PerlinScratch& scratch, int64_t threads);
  // The numbers of one sample, four a block.
  void (*random_words)(const int64_t* key, int64_t stream, int64_t blocks, uint32_t* out);
  void (*mask_images)(const MaskImagesProblem& problem, int64_t threads);
  void (*composite)(const CompositeProblem& problem, int64_t threads);
  void (*gms)(const GmsProblem& problem, const GmsScratch& scratch, int64_t threads);
  void (*ssim)(const SsimProblem& problem, const SsimScratch& scratch, int64_t threads);
};

// Chosen when the module is loaded, by the processor or the variable SSAD_CPU_LEVEL.
const Kernels& kernels();

#define SSAD_DECLARE_LEVEL(level) \
  namespace level {               \
  extern const Kernels kKernels;  \
  }
SSAD_DECLARE_LEVEL(baseline)
SSAD_DECLARE_LEVEL(avx2)
SSAD_DECLARE_LEVEL(avx512)
#undef SSAD_DECLARE_LEVEL

}  // namespace ssad
