// SPDX-License-Identifier: Apache-2.0
#include "families.h"

#define SSAD_STRING(x) #x
#define SSAD_NAME(x) SSAD_STRING(x)

namespace ssad::SSAD_LEVEL {

const Kernels kKernels = {SSAD_NAME(SSAD_LEVEL), cut_paste,   philox_fill,   poisson_solve,
                          poisson_blend,         alpha_blend, median_filter, object_mask,
                          difference_label,      upsample,    perlin_noise,  random_words,
                          mask_images,           composite,   gms,           ssim};

}  // namespace ssad::SSAD_LEVEL
