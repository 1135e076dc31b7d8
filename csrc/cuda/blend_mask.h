// SPDX-License-Identifier: Apache-2.0
// From the mask of a sample to its unknowns, by its block: as csrc/cpu/blend_mask.h.
#pragma once

#include "blend_images.h"
#include "poisson_mask.h"

namespace ssad::cuda {

// A mask's values, 0...1, by the pixels of the clipped patch.
template <int kSide>
struct Weights {
  const BlendMemory& memory;
  MaskKind kind;
  int h, w;

  __device__ float at(int y, int x) const {
    if (y < 0 || y >= h || x < 0 || x >= w) return 0.0f;
    const uint64_t row = memory.support[y];
    if ((row >> x & 1) == 0) return 0.0f;
    if (bytes_per_weight(kind) == 0) return 1.0f;
    const int i = y * kSide + x;
    const uint32_t word = memory.weights[bytes_per_weight(kind) == 1 ? i / 4 : i];
    if (bytes_per_weight(kind) == 4) return float_of(word);
    return static_cast<float>(word >> 8 * (i % 4) & 0xFFu) / 255.0f;
  }
};

struct MaskTraits {
  bool is_hard;      // 1 or 0 everywhere
  bool has_numbers;  // no NaN
};

// How a mask's value is kept: a float, clamped; or a byte.
__device__ inline uint32_t stored_weight(const BlendProblem& problem, int64_t at) {
  if (problem.mask_kind == MaskKind::kNone) return 1;
  if (problem.mask_kind == MaskKind::kFloat32) {
    const auto value = load_element<float>(problem.mask, at);
    return bits_of(value < 0.0f ? 0.0f : value > 1.0f ? 1.0f : value);
  }
  return load_element<uint8_t>(problem.mask, at);
}

// A word of each lane's byte and those of the three beside it.
__device__ inline uint32_t packed_bytes(uint32_t byte) {
  uint32_t word = byte << 8 * (lane_index() % 4);
  word |= __shfl_xor_sync(kWholeWarp, word, 1);
  return word | __shfl_xor_sync(kWholeWarp, word, 2);
}

// Reads a sample's mask into support and weights. OpenCV takes the outermost pixels of a patch for
// unset, some of which may lie beyond the image. Ends with a barrier.
template <int kSide>
__device__ MaskTraits read_support(const Memory<kSide>& m, const BlendMemory& memory,
                                   const BlendProblem& problem, int64_t sample) {
  const BlendPlan plan = memory.plan[0];
  const int h = static_cast<int>(plan.h), w = static_cast<int>(plan.w);
  const int kept = bytes_per_weight(problem.mask_kind);
  const bool is_opencv = problem.region == BlendRegion::kOpenCv;
  const int64_t first = (sample * problem.mask_h + plan.skip_y) * problem.mask_w + plan.skip_x;
  bool is_soft = false, has_numbers = true;
  for (int y = warp_index(); y < h; y += warp_count()) {
    const int64_t row = plan.skip_y + y;
    uint64_t support = 0;
    for (int x0 = 0; x0 < w; x0 += kWarp) {
      const int x = x0 + lane_index();
      const int64_t column = plan.skip_x + x;
      uint32_t weight = x < w ? stored_weight(problem, first + y * problem.mask_w + x) : 0;
      bool is_set = weight != 0;
      if (kept == 4) {
        const float value = float_of(weight);
        has_numbers &= value == value;
        is_set = value > 0.0f;
        is_soft |= is_set && value < 1.0f;
      } else if (kept == 1) {
        is_soft |= is_set && weight < 255;
      }
      if (is_opencv) {
        is_set &= row != 0 && row != plan.patch_h - 1 && column != 0 && column != plan.patch_w - 1;
      }
      const uint64_t part = __ballot_sync(kWholeWarp, is_set);
      support |= part << x0;
      const int place = y * kSide + x;
      if (kept == 1) weight = packed_bytes(weight);
      if (kept == 4 && x < w) memory.weights[place] = weight;
      if (kept == 1 && x < w && x % 4 == 0) memory.weights[place / 4] = weight;
    }
    if (lane_index() == 0) memory.support[y] = support;
  }
  const float soft = block_reduce(is_soft ? 1.0f : 0.0f, Largest(), m.float_slots);
  const float wrong = block_reduce(has_numbers ? 0.0f : 1.0f, Largest(), m.float_slots);
  return {soft == 0.0f, wrong == 0.0f};
}

// The inside of the rectangle around the support, in place of the support. Ends with a barrier.
template <int kSide>
__device__ void keep_interior(const Memory<kSide>& m, int h) {
  const BlockGroup block;
  const Box box = m.box[0];
  const int y1 = box.y + (box.is_turned ? box.w : box.h), w = box.is_turned ? box.h : box.w;
  const uint64_t inside = w > 2 ? (~uint64_t{0} >> (64 - (w - 2))) << (box.x + 1) : 0;
  for (int y = block.rank(); y < h; y += block.size()) {
    m.pixels[y] = y > box.y && y < y1 - 1 ? inside : uint64_t{0};
  }
  block.sync();
}

// The unknowns, into the solver's pixels, and the box around them. Ends with a barrier.
template <int kSide>
__device__ Box find_unknowns(const Memory<kSide>& m, const BlendMemory& memory, bool is_mask) {
  const BlockGroup block;
  const BlendPlan plan = memory.plan[0];
  const int h = static_cast<int>(plan.h), w = static_cast<int>(plan.w);
  for (int y = block.rank(); y < h; y += block.size()) {
    const uint64_t row = memory.support[y];
    m.pixels[y] = row;
  }
  block.sync();
  if (!is_mask) {
    if (warp_index() == 0) find_box<kSide>(m, h, w, 0);
    block.sync();
    keep_interior<kSide>(m, h);
  }
  const int natural = (plan.top ? kTop : 0) | (plan.bottom ? kBottom : 0) |
                      (plan.left ? kLeft : 0) | (plan.right ? kRight : 0);
  if (warp_index() == 0) find_box<kSide>(m, h, w, natural);
  block.sync();
  return m.box[0];
}

// The minimum over 7 x 7 pixels of the mask, in its place: OpenCV erodes it three times by a pixel
// all around. The planes of source and target are not in use yet. Ends with a barrier.
template <int kSide>
__device__ void erode_mask(const BlendMemory& memory, const Weights<kSide>& weights) {
  constexpr int kReach = 3;
  const BlockGroup block;
  const auto smallest = [](auto value) {
    float least = value(-kReach);
    for (int k = 1 - kReach; k <= kReach; ++k) least = fminf(least, value(k));
    return least;
  };
  for (int i = block.rank(); i < weights.h * kSide; i += block.size()) {
    const int y = i / kSide, x = i % kSide;
    memory.source[i] = smallest([&](int k) { return weights.at(y, x + k); });
  }
  block.sync();
  const int kept = bytes_per_weight(weights.kind);
  for (int y = warp_index(); y < weights.h; y += warp_count()) {
    uint64_t support = 0;
    for (int x0 = 0; x0 < kSide; x0 += kWarp) {
      const int x = x0 + lane_index(), place = y * kSide + x;
      const float value = smallest([&](int k) {
        if (y + k < 0 || y + k >= weights.h) return 0.0f;
        const float beside = memory.source[place + k * kSide];
        return beside;
      });
      const uint64_t part = __ballot_sync(kWholeWarp, value > 0.0f);
      support |= part << x0;
      const uint32_t byte = static_cast<uint32_t>(value * 255.0f + 0.5f);
      const uint32_t word = kept == 1 ? packed_bytes(byte) : bits_of(value);
      if (kept == 4) memory.weights[place] = word;
      if (kept == 1 && x % 4 == 0) memory.weights[place / 4] = word;
    }
    if (lane_index() == 0) memory.support[y] = support;
  }
  block.sync();
}

}  // namespace ssad::cuda
