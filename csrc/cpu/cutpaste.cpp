// SPDX-License-Identifier: Apache-2.0
// A patch shows the images as they were before the call, whatever is pasted where. If no sample
// reads what another one writes, each is cut and pasted while its pixels are in the cache.
// Otherwise (in place, with patches from other images) all patches are cut before the first one is
// pasted.
#include <cstdint>
#include <cstring>

#include "families.h"
#include "patch_jitter.h"
#include "rows.h"
#include "ssad/parallel.h"
#include "ssad/pixel.h"
#include "ssad/rotation.h"

namespace ssad::SSAD_LEVEL {
namespace {

struct Job {
  const ImageView& from;
  const ImageView& to;
  const CutPastePlan* plans;
  const CutPasteScratch& scratch;
  bool* mask;
  int8_t* status;
};

bool is_active(const CutPastePlan& plan) {
  return plan.status == kApplied || plan.status == kClipped;
}

template <class T>
T* row_of(const ImageView& images, int64_t image, int64_t channel, int64_t y, int64_t x) {
  return static_cast<T*>(images.data) + image * images.stride_n + channel * images.stride_c +
         y * images.stride_y + x * images.stride_x;
}

template <class T>
T* patch_of(const Job& job, int64_t worker, int64_t i) {
  const CutPasteScratch& scratch = job.scratch;
  if (scratch.is_independent) {
    return reinterpret_cast<T*>(scratch.patches + worker * scratch.patch_bytes);
  }
  return reinterpret_cast<T*>(scratch.patches) + job.plans[i].offset;
}

// An image turned counter-clockwise is the image seen with other steps, from another corner.
struct Turned {
  int64_t corner_y, corner_x;
  int64_t step_y, step_x;
  int64_t h, w;
};

Turned turn(const ImageView& images, int64_t turns) {
  const int64_t y = images.stride_y, x = images.stride_x, h = images.h, w = images.w;
  switch (turns) {
    case 0: return {0, 0, y, x, h, w};
    case 1: return {0, w - 1, -x, y, w, h};
    case 2: return {h - 1, w - 1, -y, -x, h, w};
    default: return {h - 1, 0, x, -y, w, h};
  }
}

// A shift makes the rows and columns of a cut go on at the other side of the image.
template <class T>
void cut_plane(const ImageView& images, const CutPastePlan& plan, int64_t channel, T* plane) {
  const Turned from = turn(images, plan.turns);
  const T* corner = row_of<T>(images, plan.source, channel, from.corner_y, from.corner_x);
  const int64_t room = from.w - plan.from_x;
  const int64_t first = plan.cut_w < room ? plan.cut_w : room;
  for (int64_t y = 0; y < plan.cut_h; ++y) {
    const int64_t from_y = plan.from_y + y < from.h ? plan.from_y + y : plan.from_y + y - from.h;
    const T* row = corner + from_y * from.step_y;
    T* to = plane + y * plan.cut_w;
    gather_row(row + plan.from_x * from.step_x, from.step_x, to, first);
    if (first < plan.cut_w) gather_row(row, from.step_x, to + first, plan.cut_w - first);
  }
}

template <class P>
void cut(void* context, int64_t worker, int64_t i) {
  using T = typename P::Stored;
  const Job& job = *static_cast<const Job*>(context);
  const CutPastePlan& plan = job.plans[i];
  if (!is_active(plan)) return;
  const ImageView& images = job.from;
  T* patch = patch_of<T>(job, worker, i);
  for (int64_t c = 0; c < images.c; ++c) {
    cut_plane(images, plan, c, patch + c * plan.cut_h * plan.cut_w);
  }
  if (plan.steps == 0) return;
  char* work = job.scratch.work + worker * job.scratch.work_bytes;
  if (is_mild(plan)) return jitter_colours<P>(plan, images.c, patch, work);
  jitter_colours<typename P::Wide>(plan, images.c, patch, work);
}

// Copies the part of an unrotated patch that lies in the image; returns whether there is one.
template <class T>
bool paste_upright(const ImageView& images, int64_t i, const CutPastePlan& plan, const T* patch,
                   bool* mask) {
  const int64_t top = plan.canvas_y + plan.cut_y - plan.box_y;
  const int64_t left = plan.canvas_x + plan.cut_x - plan.box_x;
  const int64_t y0 = top < 0 ? 0 : top;
  const int64_t x0 = left < 0 ? 0 : left;
  const int64_t y1 = top + plan.cut_h < images.h ? top + plan.cut_h : images.h;
  const int64_t x1 = left + plan.cut_w < images.w ? left + plan.cut_w : images.w;
  if (y1 <= y0 || x1 <= x0) return false;
  for (int64_t c = 0; c < images.c; ++c) {
    const T* plane = patch + c * plan.cut_h * plan.cut_w;
    for (int64_t y = y0; y < y1; ++y) {
      scatter_row(plane + (y - top) * plan.cut_w + (x0 - left), row_of<T>(images, i, c, y, x0),
                  images.stride_x, x1 - x0);
    }
  }
  for (int64_t y = y0; y < y1; ++y) {
    std::memset(mask + y * images.w + x0, 1, static_cast<size_t>(x1 - x0));
  }
  return true;
}

// Narrows [begin, end) to the x for which start + x * step lies in [0, limit).
void narrow(int64_t start, int64_t step, int64_t limit, int64_t* begin, int64_t* end) {
  if (step < 0) {  // from the other end of the limit
    start = limit - 1 - start;
    step = -step;
  }
  if (step == 0) {
    if (start < 0 || start >= limit) *end = *begin;
    return;
  }
  const auto first_from = [=](int64_t distance) {
    return distance / step + (distance % step > 0);  // rounded up
  };
  const int64_t low = first_from(-start), high = first_from(limit - start);
  if (*begin < low) *begin = low;
  if (*end > high) *end = high;
}

// The same for a rotated patch: each pixel of the canvas looks up the nearest pixel of the patch.
// Coordinates are twice the distance from the centre, so that halves are integers, and then halved
// again: a step of a whole pixel moves them by an even number. A row of the canvas meets the patch
// in one run of pixels, cut into pieces so short that offsets in a patch of any size fit 32 bits.
template <class T>
bool paste_rotated(const ImageView& images, int64_t i, const CutPastePlan& plan, const T* patch,
                   bool* mask) {
  constexpr int64_t kPiece = 64;
  constexpr int64_t kPixel = int64_t{1} << kRotationBits;
  bool any = false;
  const int64_t y0 = plan.canvas_y < 0 ? 0 : plan.canvas_y;
  const int64_t x0 = plan.canvas_x < 0 ? 0 : plan.canvas_x;
  const int64_t y_end = plan.canvas_y + plan.canvas_h;
  const int64_t x_end = plan.canvas_x + plan.canvas_w;
  const int64_t area = plan.cut_h * plan.cut_w;
  const auto cos = static_cast<int32_t>(plan.cos), sin = static_cast<int32_t>(plan.sin);
  const auto width = static_cast<int32_t>(plan.cut_w);
  for (int64_t y = y0; y < (y_end < images.h ? y_end : images.h); ++y) {
    const int64_t dy = 2 * (y - plan.canvas_y) + 1 - plan.canvas_h;
    const int64_t dx = 1 - 2 * plan.canvas_x - plan.canvas_w;  // of x = 0
    const int64_t twice_y = dy * plan.cos + dx * plan.sin + plan.box_h * kPixel;
    const int64_t twice_x = dx * plan.cos - dy * plan.sin + plan.box_w * kPixel;
    const int64_t from_y = (twice_y >> 1) + (plan.box_y - plan.cut_y) * kPixel;
    const int64_t from_x = (twice_x >> 1) + (plan.box_x - plan.cut_x) * kPixel;
    int64_t begin = x0, end = x_end < images.w ? x_end : images.w;
    narrow(from_y, plan.sin, plan.cut_h * kPixel, &begin, &end);
    narrow(from_x, plan.cos, plan.cut_w * kPixel, &begin, &end);
    if (begin >= end) continue;
    for (int64_t x = begin; x < end; x += kPiece) {
      const int64_t count = end - x < kPiece ? end - x : kPiece;
      const int64_t at_y = from_y + x * plan.sin, at_x = from_x + x * plan.cos;
      const auto part_y = static_cast<int32_t>(at_y & (kPixel - 1));
      const auto part_x = static_cast<int32_t>(at_x & (kPixel - 1));
      int32_t offsets[kPiece];
      for (int32_t k = 0; k < kPiece; ++k) {
        offsets[k] =
            ((part_y + k * sin) >> kRotationBits) * width + ((part_x + k * cos) >> kRotationBits);
      }
      const T* from = patch + (at_y >> kRotationBits) * plan.cut_w + (at_x >> kRotationBits);
      T* to = row_of<T>(images, i, 0, y, x);
      for (int64_t c = 0; c < images.c; ++c) {
        look_up_row(from + c * area, offsets, to + c * images.stride_c, images.stride_x, count);
      }
    }
    std::memset(mask + y * images.w + begin, 1, static_cast<size_t>(end - begin));
    any = true;
  }
  return any;
}

template <class T>
void paste(void* context, int64_t worker, int64_t i) {
  const Job& job = *static_cast<const Job*>(context);
  const ImageView& images = job.to;
  const CutPastePlan& plan = job.plans[i];
  bool* mask = job.mask + i * images.h * images.w;
  std::memset(mask, 0, static_cast<size_t>(images.h * images.w));
  job.status[i] = plan.status;
  if (!is_active(plan)) return;
  const T* patch = patch_of<T>(job, worker, i);
  const bool upright = plan.sin == 0 && plan.cos == int64_t{1} << kRotationBits;
  const bool any = upright ? paste_upright(images, i, plan, patch, mask)
                           : paste_rotated(images, i, plan, patch, mask);
  if (!any) job.status[i] = kEmpty;
}

template <class P>
void cut_and_paste(void* context, int64_t worker, int64_t i) {
  const Job& job = *static_cast<const Job*>(context);
  using T = typename P::Stored;
  if (job.from.data != job.to.data) {
    const int64_t bytes = job.to.c * job.to.h * job.to.w * static_cast<int64_t>(sizeof(T));
    std::memcpy(row_of<T>(job.to, i, 0, 0, 0), row_of<T>(job.from, i, 0, 0, 0),
                static_cast<size_t>(bytes));
  }
  cut<P>(context, worker, i);
  paste<T>(context, worker, i);
}

template <class P>
void run(Job* job, int64_t threads) {
  const int64_t n = job->to.n;
  if (job->scratch.is_independent) return parallel_for(n, threads, cut_and_paste<P>, job);
  parallel_for(n, threads, cut<P>, job);
  parallel_for(n, threads, paste<typename P::Stored>, job);
}

}  // namespace

void cut_paste(const ImageView& from, const ImageView& to, const CutPastePlan* plans,
               const CutPasteScratch& scratch, bool* mask, int8_t* status, int64_t threads) {
  Job job = {from, to, plans, scratch, mask, status};
  switch (from.dtype) {
    case Dtype::kUInt8: return run<UInt8>(&job, threads);
    case Dtype::kFloat16: return run<Float16>(&job, threads);
    case Dtype::kBFloat16: return run<BFloat16>(&job, threads);
    case Dtype::kFloat32: return run<Float32>(&job, threads);
    case Dtype::kFloat64: return run<Float64>(&job, threads);
  }
}

}  // namespace ssad::SSAD_LEVEL
