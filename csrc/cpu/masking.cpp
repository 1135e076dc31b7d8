// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "families.h"
#include "ssad/masking.h"
#include "ssad/parallel.h"
#include "ssad/pixel.h"

namespace ssad::SSAD_LEVEL {
namespace {

// Bits stay or vanish, whatever they mean. kStep elements in a row share a mask.
template <class U, int kStep>
void mask_row(const U* __restrict__ from, const uint8_t* __restrict__ mask, int64_t count,
              U* __restrict__ to) {
  for (int64_t x = 0; x < count; ++x) {
    const U keep = static_cast<U>(-static_cast<U>(mask[x] != 0));
    for (int k = 0; k < kStep; ++k) {
      to[kStep * x + k] = static_cast<U>(from[kStep * x + k] & keep);
    }
  }
}

template <class U>
void mask_part(void* context, int64_t /*worker*/, int64_t i) {
  const auto& problem = *static_cast<const MaskImagesProblem*>(context);
  const int64_t pixels = problem.pixels, size = problem.c * pixels;
  const U* from = static_cast<const U*>(problem.images) + i / problem.parts * size;
  const uint8_t* mask = problem.masks + i * pixels;
  U* to = static_cast<U*>(problem.out) + i * size;
  if (problem.is_interleaved) {
    switch (problem.c) {
      case 2: return mask_row<U, 2>(from, mask, pixels, to);
      case 3: return mask_row<U, 3>(from, mask, pixels, to);
      default: return mask_row<U, 4>(from, mask, pixels, to);
    }
  }
  for (int64_t c = 0; c < problem.c; ++c) {
    mask_row<U, 1>(from + c * pixels, mask, pixels, to + c * pixels);
  }
}

constexpr int64_t kChunk = 512;  // pixels, of which the masks are looked at once for all channels

// Of a chunk of a channel: the outputs of each part, a row of pixels apart from the next, the image
// and the result.
template <class Stored>
struct Rows {
  const Stored* from;
  const uint8_t* masks;
  int64_t stride, pixels, parts;
  const Stored* image;
  Stored* to;
};

// Where no pixel is hidden twice, bits are picked; the image is not read where all are hidden once.
template <class Stored>
void pick(const Rows<Stored>& rows, bool all_hidden, int64_t count) {
  Stored* __restrict__ to = rows.to;
  const Stored* __restrict__ base = all_hidden ? rows.from : rows.image;
  for (int64_t x = 0; x < count; ++x) to[x] = base[x];
  for (int64_t part = all_hidden ? 1 : 0; part < rows.parts; ++part) {
    const Stored* __restrict__ from = rows.from + part * rows.stride;
    const uint8_t* __restrict__ mask = rows.masks + part * rows.pixels;
    for (int64_t x = 0; x < count; ++x) {
      const Stored own = from[x], other = to[x];
      to[x] = mask[x] == 0 ? own : other;
    }
  }
}

template <class P>
void average(const Rows<typename P::Stored>& rows, const uint8_t* hidden, int64_t count) {
  using T = typename P::Compute;
  T total[kChunk];
  for (int64_t x = 0; x < count; ++x) total[x] = T{0};
  for (int64_t part = 0; part < rows.parts; ++part) {
    const auto* __restrict__ from = rows.from + part * rows.stride;
    const uint8_t* __restrict__ mask = rows.masks + part * rows.pixels;
    for (int64_t x = 0; x < count; ++x) total[x] += mask[x] == 0 ? P::load(from[x]) : T{0};
  }
  for (int64_t x = 0; x < count; ++x) {
    const auto mean = P::store(total[x] / static_cast<T>(hidden[x] > 0 ? hidden[x] : 1));
    const auto own = rows.image[x];
    rows.to[x] = hidden[x] > 0 ? mean : own;
  }
}

template <class P>
void composite_image(void* context, int64_t /*worker*/, int64_t i) {
  using Stored = typename P::Stored;
  const auto& problem = *static_cast<const CompositeProblem*>(context);
  const int64_t pixels = problem.pixels, parts = problem.parts, size = problem.c * pixels;
  const auto* outputs = static_cast<const Stored*>(problem.outputs) + i * parts * size;
  const auto* image = static_cast<const Stored*>(problem.images) + i * size;
  auto* out = static_cast<Stored*>(problem.out) + i * size;
  const uint8_t* masks = problem.masks + i * parts * pixels;
  for (int64_t begin = 0; begin < pixels; begin += kChunk) {
    const int64_t count = pixels - begin < kChunk ? pixels - begin : kChunk;
    uint8_t hidden[kChunk];  // by how many masks
    for (int64_t x = 0; x < count; ++x) hidden[x] = 0;
    for (int64_t part = 0; part < parts; ++part) {
      const uint8_t* mask = masks + part * pixels + begin;
      for (int64_t x = 0; x < count; ++x) hidden[x] += mask[x] == 0;
    }
    uint8_t any = 0, all = 1;  // `any` has a bit above the lowest if one of them has
    for (int64_t x = 0; x < count; ++x) {
      any |= hidden[x];
      all &= hidden[x];
    }
    for (int64_t at = begin; at < size; at += pixels) {
      const Rows<Stored> rows = {outputs + at, masks + begin, size,    pixels,
                                 parts,        image + at,    out + at};
      any > 1 ? average<P>(rows, hidden, count) : pick(rows, all == 1, count);
    }
  }
}

}  // namespace

void mask_images(const MaskImagesProblem& problem, int64_t threads) {
  MaskImagesProblem job = problem;
  const int64_t n = problem.n * problem.parts;
  switch (problem.bytes) {
    case 1: return parallel_for(n, threads, mask_part<uint8_t>, &job);
    case 2: return parallel_for(n, threads, mask_part<uint16_t>, &job);
    case 4: return parallel_for(n, threads, mask_part<uint32_t>, &job);
    default: return parallel_for(n, threads, mask_part<uint64_t>, &job);
  }
}

void composite(const CompositeProblem& problem, int64_t threads) {
  CompositeProblem job = problem;
  switch (problem.dtype) {
    case Dtype::kFloat16: return parallel_for(job.n, threads, composite_image<Float16>, &job);
    case Dtype::kBFloat16: return parallel_for(job.n, threads, composite_image<BFloat16>, &job);
    case Dtype::kFloat64: return parallel_for(job.n, threads, composite_image<Float64>, &job);
    default: return parallel_for(job.n, threads, composite_image<Float32>, &job);
  }
}

}  // namespace ssad::SSAD_LEVEL
