// SPDX-License-Identifier: Apache-2.0
// CutPaste in two passes over the batch: first every patch is cut and jittered into scratch memory,
// then every patch is pasted. So a patch shows the images as they were before the call, whatever is
// pasted where, and each pass may run its samples in any order on any number of threads.
#include <cstdint>
#include <cstring>

#include "families.h"
#include "patch_jitter.h"
#include "pixel.h"
#include "rows.h"
#include "ssad/parallel.h"
#include "ssad/rotation.h"

namespace ssad::SSAD_LEVEL {
namespace {

struct Job {
  const ImageView& images;
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

template <class P>
void cut(void* context, int64_t worker, int64_t i) {
  using T = typename P::Stored;
  const Job& job = *static_cast<const Job*>(context);
  const CutPastePlan& plan = job.plans[i];
  if (!is_active(plan)) return;
  const ImageView& images = job.images;
  T* patch = static_cast<T*>(job.scratch.patches) + plan.offset;
  for (int64_t c = 0; c < images.c; ++c) {
    T* plane = patch + c * plan.cut_h * plan.cut_w;
    for (int64_t y = 0; y < plan.cut_h; ++y) {
      gather_row(row_of<T>(images, plan.source, c, plan.cut_y + y, plan.cut_x), images.stride_x,
                 plane + y * plan.cut_w, plan.cut_w);
    }
  }
  if (plan.steps == 0) return;
  auto* work = reinterpret_cast<typename P::Compute*>(static_cast<char*>(job.scratch.work) +
                                                      worker * job.scratch.work_bytes);
  (images.c >= 3 ? jitter_patch<P, true> : jitter_patch<P, false>)(plan, patch, work);
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

// The same for a rotated patch: each pixel of the canvas looks up the nearest pixel of the patch.
// Coordinates are twice the distance from the centre, so that halves are integers.
template <class T>
bool paste_rotated(const ImageView& images, int64_t i, const CutPastePlan& plan, const T* patch,
                   bool* mask) {
  bool any = false;
  const int64_t y0 = plan.canvas_y < 0 ? 0 : plan.canvas_y;
  const int64_t x0 = plan.canvas_x < 0 ? 0 : plan.canvas_x;
  const int64_t y_end = plan.canvas_y + plan.canvas_h;
  const int64_t x_end = plan.canvas_x + plan.canvas_w;
  const int64_t area = plan.cut_h * plan.cut_w;
  for (int64_t y = y0; y < (y_end < images.h ? y_end : images.h); ++y) {
    for (int64_t x = x0; x < (x_end < images.w ? x_end : images.w); ++x) {
      const int64_t dy = 2 * (y - plan.canvas_y) + 1 - plan.canvas_h;
      const int64_t dx = 2 * (x - plan.canvas_x) + 1 - plan.canvas_w;
      const int64_t from_y = dy * plan.cos + dx * plan.sin + (plan.box_h << kRotationBits);
      const int64_t from_x = dx * plan.cos - dy * plan.sin + (plan.box_w << kRotationBits);
      const int64_t py = (from_y >> (kRotationBits + 1)) + plan.box_y - plan.cut_y;
      const int64_t px = (from_x >> (kRotationBits + 1)) + plan.box_x - plan.cut_x;
      if (py < 0 || py >= plan.cut_h || px < 0 || px >= plan.cut_w) continue;
      T* to = row_of<T>(images, i, 0, y, x);
      for (int64_t c = 0; c < images.c; ++c) {
        to[c * images.stride_c] = patch[c * area + py * plan.cut_w + px];
      }
      mask[y * images.w + x] = true;
      any = true;
    }
  }
  return any;
}

template <class T>
void paste(void* context, int64_t /*worker*/, int64_t i) {
  const Job& job = *static_cast<const Job*>(context);
  const ImageView& images = job.images;
  const CutPastePlan& plan = job.plans[i];
  bool* mask = job.mask + i * images.h * images.w;
  std::memset(mask, 0, static_cast<size_t>(images.h * images.w));
  job.status[i] = static_cast<int8_t>(plan.status == kClipped ? kApplied + kClipped : plan.status);
  if (!is_active(plan)) return;
  const T* patch = static_cast<const T*>(job.scratch.patches) + plan.offset;
  const bool upright = plan.sin == 0 && plan.cos == int64_t{1} << kRotationBits;
  const bool any = upright ? paste_upright(images, i, plan, patch, mask)
                           : paste_rotated(images, i, plan, patch, mask);
  if (!any) job.status[i] = kEmpty;
}

template <class P>
void run(Job* job, int64_t threads) {
  parallel_for(job->images.n, threads, cut<P>, job);
  parallel_for(job->images.n, threads, paste<typename P::Stored>, job);
}

}  // namespace

void cut_paste(const ImageView& images, const CutPastePlan* plans, const CutPasteScratch& scratch,
               bool* mask, int8_t* status, int64_t threads) {
  Job job = {images, plans, scratch, mask, status};
  switch (images.dtype) {
    case Dtype::kUInt8: return run<UInt8>(&job, threads);
    case Dtype::kFloat16: return run<Float16>(&job, threads);
    case Dtype::kBFloat16: return run<BFloat16>(&job, threads);
    case Dtype::kFloat32: return run<Float32>(&job, threads);
    case Dtype::kFloat64: return run<Float64>(&job, threads);
  }
}

}  // namespace ssad::SSAD_LEVEL
