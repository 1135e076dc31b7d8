// SPDX-License-Identifier: Apache-2.0
// Where the values of a sample that is blended lie in its block's shared memory.
#pragma once

#include "poisson_grid.h"
#include "ssad/blend.h"

namespace ssad::cuda {

// Solved channels wait until the others are, too: nothing is written before. The last one of more
// than two does not, but has its base fetched twice, which leaves room for a second block of RGB
// patches on compute capability 8.0.
SSAD_HD constexpr int waiting_channels(int64_t channels) {
  return static_cast<int>(channels > 2 ? channels - 1 : channels);
}

// Of the values of a mask as they are stored; bits are elsewhere.
SSAD_HD constexpr int bytes_per_weight(MaskKind mask) {
  return mask == MaskKind::kFloat32 ? 4 : mask == MaskKind::kUInt8 ? 1 : 0;
}

// Where b comes from: from the edges that leave the unknowns alone, base being the source; or from
// all edges, base being the target.
enum class Guidance : int32_t { kMembrane, kEdges, kWeightedEdges, kOpenCv };

// What the solver needs, and more behind it. The target lies where the solver has what it does not
// keep from one channel to the next; the source lies in its finest plane.
template <int kSide>
struct BlendLayout {
  using Solver = Layout<kSide>;

  // That a multiprocessor shall have room for; of small ones its shared memory holds few more.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
  static constexpr int kBlocks = kSide < kMediumSide ? 6 : 1;  // for two, three registers spill
#else
  static constexpr int kBlocks = kSide < kMediumSide ? 6 : Solver::kBlocks;
#endif

  static constexpr int kTarget = Solver::kEdges;
  static constexpr int kTargetEnd = kTarget + Solver::kFine * int{sizeof(float)};
  static constexpr int kInverse = kTargetEnd > Solver::kInverse ? kTargetEnd : Solver::kInverse;

  static constexpr int kPlan = (kInverse + Solver::kCoarse * int{sizeof(float)} + 7) / 8 * 8;
  static constexpr int kSample = kPlan + int{sizeof(BlendPlan)};
  static constexpr int kSupport = kSample + int{sizeof(int64_t)};
  static constexpr int kGuidance = kSupport + kSide * int{sizeof(uint64_t)};
  static constexpr int kChannel = kGuidance + int{sizeof(Guidance)};
  static constexpr int kExponent = kChannel + int{sizeof(int32_t)};
  static constexpr int kLow = kExponent + int{sizeof(int32_t)};
  static constexpr int kPart = kLow + 2 * kSide * int{sizeof(int32_t)};
  static constexpr int kWaiting = kPart + 2 * kSide * int{sizeof(float)};

  static constexpr int kPixels = kSide * kSide;

  SSAD_HD static constexpr int weight_words(MaskKind mask) {
    return kPixels / 4 * bytes_per_weight(mask);
  }
  SSAD_HD static constexpr int bytes(int64_t channels, MaskKind mask) {
    const int waiting = waiting_channels(channels) * kPixels;
    return kWaiting + (weight_words(mask) + waiting) * int{sizeof(uint32_t)};
  }
};

// What a block has besides the solver's memory.
struct BlendMemory {
  Shared<float> source, target;  // of the channel in hand, in the finest grid's places
  Shared<BlendPlan> plan;
  Shared<int64_t> sample;
  Shared<uint64_t> support;  // where the mask is set, a row of the patch each
  Shared<Guidance> guidance;
  Shared<int32_t> channel;   // the one in hand
  Shared<int32_t> exponent;  // of the power of two that its b was divided by
  Shared<int32_t> low;    // of the patch's rows, then columns: which pixel of the source shows up,
  Shared<float> part;     // and how much of the next one
  Shared<float> waiting;  // (channels, kSide, kSide): see waiting_place
  Shared<uint32_t> weights;  // the mask's values, a row of kSide pixels after the other
};

template <int kSide>
__device__ Memory<kSide> carve_solver(unsigned char* bytes) {
  using L = BlendLayout<kSide>;
  Memory<kSide> m = carve<kSide>(bytes);
  m.inverse = shared_array<float>(bytes, L::kInverse, L::Solver::kCoarse);
  return m;
}

template <int kSide>
__device__ BlendMemory carve_blend(unsigned char* bytes, const Memory<kSide>& m, int channels,
                                   MaskKind mask) {
  using L = BlendLayout<kSide>;
  const int waiting = waiting_channels(channels) * L::kPixels;
  const int weights = L::kWaiting + waiting * int{sizeof(float)};
  return {m.fine,
          shared_array<float>(bytes, L::kTarget, L::Solver::kFine),
          shared_array<BlendPlan>(bytes, L::kPlan, 1),
          shared_array<int64_t>(bytes, L::kSample, 1),
          shared_array<uint64_t>(bytes, L::kSupport, kSide),
          shared_array<Guidance>(bytes, L::kGuidance, 1),
          shared_array<int32_t>(bytes, L::kChannel, 1),
          shared_array<int32_t>(bytes, L::kExponent, 1),
          shared_array<int32_t>(bytes, L::kLow, 2 * kSide),
          shared_array<float>(bytes, L::kPart, 2 * kSide),
          shared_array<float>(bytes, L::kWaiting, waiting),
          shared_array<uint32_t>(bytes, weights, L::weight_words(mask))};
}

// Of a point of the finest grid, given its place in the box. Neighbours in a row and in a column
// both lie in different banks: boxes may be turned.
template <int kSide>
__device__ int waiting_place(int y, int x) {
  return y * kSide + (x ^ (y & (kWarp - 1)));
}

}  // namespace ssad::cuda
