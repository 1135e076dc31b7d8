// SPDX-License-Identifier: Apache-2.0
// Pixels of the patch and of the target, in global memory. Coordinates are those of the clipped
// patch.
#pragma once

#include "blend_layout.h"
#include "poisson_plane.h"
#include "ssad/pixel.h"

namespace ssad::cuda {

__device__ inline float load_pixel(const ImageView& view, int64_t at) {
  switch (view.dtype) {
    case Dtype::kUInt8: return UInt8Wide::load(load_element<uint8_t>(view.data, at));
    case Dtype::kFloat16: return Float16::load(load_element<uint16_t>(view.data, at));
    case Dtype::kBFloat16: return BFloat16::load(load_element<uint16_t>(view.data, at));
    default: return load_element<float>(view.data, at);
  }
}

__device__ inline void store_pixel(const ImageView& view, int64_t at, float value) {
  switch (view.dtype) {
    case Dtype::kUInt8: {
      const float bounded = value < 0.0f ? 0.0f : value > 255.0f ? 255.0f : value;
      return store_element(view.data, at, UInt8Wide::store(bounded));
    }
    case Dtype::kFloat16: return store_element(view.data, at, Float16::store(value));
    case Dtype::kBFloat16: return store_element(view.data, at, BFloat16::store(value));
    default: store_element(view.data, at, value);
  }
}

// A sample's images.
template <int kSide>
struct Images {
  const BlendProblem& problem;
  const BlendMemory& memory;

  __device__ int64_t sample() const { return memory.sample[0]; }

  __device__ bool is_opencv() const { return problem.region == BlendRegion::kOpenCv; }
  __device__ bool is_grey() const {
    return gradient_of(problem.params, sample()) == kMonochromeGradient;
  }
  __device__ float source_gain() const { return gain(problem.params.source_gain); }
  __device__ float target_gain() const { return gain(problem.params.target_gain); }

  __device__ int64_t target_place(int c, int y, int x) const {
    const BlendPlan plan = memory.plan[0];
    const ImageView& view = problem.target;
    return sample() * view.stride_n + c * view.stride_c + (plan.y + y) * view.stride_y +
           (plan.x + x) * view.stride_x;
  }

  __device__ float target(int c, int y, int x) const {
    return load_pixel(problem.target, target_place(c, y, x));
  }

  // The source times its gain, or its grey.
  __device__ float source(int c, int y, int x) const {
    const float gain = source_gain();
    if (!is_grey()) return gain * colour(c, y, x);
    if (problem.source.c < 3) return gain * colour(0, y, x);
    float grey = 0.0f;
    SSAD_NO_UNROLL
    for (int k = 0; k < 3; ++k) grey += grey_part(k) * colour(k, y, x);
    return is_opencv() ? floorf(grey + 0.5f) : gain * grey;
  }

  // Fills low and part.
  __device__ void place_taps() const {
    const BlendPlan plan = memory.plan[0];
    const BlockGroup block;
    for (int i = block.rank(); i < 2 * kSide; i += block.size()) {
      const bool is_row = i < kSide;
      const int64_t at = is_row ? plan.skip_y + i : plan.skip_x + i - kSide;
      const BilinearTap tap = is_row ? bilinear_tap(at, plan.box_h, plan.patch_h)
                                     : bilinear_tap(at, plan.box_w, plan.patch_w);
      memory.low[i] = static_cast<int32_t>(tap.low);
      memory.part[i] = static_cast<float>(tap.part);
    }
  }

 private:
  // With 15 bits of fraction in OpenCV; then sums are exact.
  __device__ float grey_part(int k) const {
    if (is_opencv()) return (k == 0 ? 9798.0f : k == 1 ? 19235.0f : 3735.0f) / 32768.0f;
    return k == 0 ? 0.299f : k == 1 ? 0.587f : 0.114f;
  }

  __device__ float gain(const double* gains) const {
    return gains == nullptr ? 1.0f : static_cast<float>(load_element<double>(gains, sample()));
  }

  // As it is. OpenCV resizes to whole levels.
  __device__ float colour(int c, int y, int x) const {
    const BlendPlan plan = memory.plan[0];
    const ImageView& view = problem.source;
    const int32_t low_y = memory.low[y], low_x = memory.low[kSide + x];
    const float down = memory.part[y], right = memory.part[kSide + x];
    const int64_t first = plan.index * view.stride_n + c * view.stride_c +
                          (plan.box_y + low_y) * view.stride_y +
                          (plan.box_x + low_x) * view.stride_x;
    const bool is_resized = plan.box_h != plan.patch_h || plan.box_w != plan.patch_w;
    float sum = 0.0f;
    SSAD_NO_UNROLL
    for (int tap = 0; tap < (is_resized ? 4 : 1); ++tap) {
      const bool is_lower = tap >= 2, is_right = tap % 2 == 1;
      const float part = (is_lower ? down : 1.0f - down) * (is_right ? right : 1.0f - right);
      if (part == 0.0f) continue;  // such a pixel may be NaN, or beyond the box
      const int64_t at = first + (is_lower ? view.stride_y : 0) + (is_right ? view.stride_x : 0);
      sum += part * load_pixel(view, at);
    }
    return is_resized && is_opencv() ? floorf(sum + 0.5f) : sum;
  }
};

}  // namespace ssad::cuda
