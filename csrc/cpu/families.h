// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels.h"
#include "ssad/blend.h"
#include "ssad/cutpaste.h"
#include "ssad/labels.h"
#include "ssad/level.h"
#include "ssad/masking.h"
#include "ssad/perlin.h"
#include "ssad/poisson.h"
#include "ssad/similarity.h"
#include "ssad/upsample.h"
#include "ssad/view.h"

namespace ssad::SSAD_LEVEL {

void cut_paste(const ImageView& from, const ImageView& to, const CutPastePlan* plans,
               const CutPasteScratch& scratch, bool* mask, int8_t* status, int64_t threads);
void philox_fill(const int64_t* keys, int64_t n, int64_t stream, int64_t count, int64_t* out,
                 int64_t threads);
void poisson_solve(const PoissonProblem& problem, const PoissonScratch& scratch, int64_t threads);
void poisson_blend(const BlendProblem& problem, const BlendPlan* plans, const BlendScratch& scratch,
                   int64_t threads);
void alpha_blend(const AlphaBlendProblem& problem, const BlendPlan* plans,
                 const BlendScratch& scratch, int64_t threads);
void median_filter(const MedianProblem& problem, const LabelScratch& scratch, int64_t threads);
void object_mask(const ObjectMaskProblem& problem, const LabelScratch& scratch, int64_t threads);
void difference_label(const LabelProblem& problem, const LabelScratch& scratch, int64_t threads);
void upsample(const UpsampleProblem& problem, const UpsampleScratch& scratch, int64_t threads);
void perlin_noise(const PerlinProblem& problem, const PerlinScratch& scratch, int64_t threads);
void random_words(const int64_t* key, int64_t stream, int64_t blocks, uint32_t* out);
void mask_images(const MaskImagesProblem& problem, int64_t threads);
void composite(const CompositeProblem& problem, int64_t threads);
void gms(const GmsProblem& problem, const GmsScratch& scratch, int64_t threads);
void ssim(const SsimProblem& problem, const SsimScratch& scratch, int64_t threads);

}  // namespace ssad::SSAD_LEVEL
