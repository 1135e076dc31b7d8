// SPDX-License-Identifier: Apache-2.0
// Compiled once, without contraction of multiply-adds: what is decided here must come out the same
// on every instruction set and device.
#include <cmath>
#include <memory>
#include <new>

#include "arena.h"
#include "kernels.h"
#include "ssad/cutpaste.h"
#include "ssad/parallel.h"
#include "ssad/rotation.h"

namespace ssad {
namespace {

using SSAD_LEVEL::canvas_side;
using SSAD_LEVEL::Rotation;
using SSAD_LEVEL::rotation;
using SSAD_LEVEL::round_up;

// Larger coordinates cannot mean a place in an image, and would overflow the fixed-point products.
constexpr int64_t kFar = int64_t{1} << 24;

bool near(int64_t x) { return -kFar < x && x < kFar; }

// [start, start + size) cut to [0, limit).
void clip(int64_t start, int64_t size, int64_t limit, int64_t* clipped_start,
          int64_t* clipped_size) {
  const int64_t low = start < 0 ? 0 : start;
  const int64_t high = start + size > limit ? limit : start + size;
  *clipped_start = low;
  *clipped_size = high > low ? high - low : 0;
}

// The remainder that is not negative.
int64_t wrap(int64_t x, int64_t size) { return (x % size + size) % size; }

// Larger factors could overflow a float on the way and make the result depend on the order of
// operations. NaN fails as well.
bool is_sane(const float* jitter) {
  for (int i = 0; i < 4; ++i) {
    if (!(std::fabs(jitter[i]) <= 1e6f)) return false;
  }
  return true;
}

void plan_jitter(const float* jitter, const int64_t* order, int64_t channels, CutPastePlan* plan) {
  plan->steps = 0;
  for (int i = 0; i < 4; ++i) {
    if (order[i] < 0 || order[i] > 3) continue;
    const auto op = static_cast<JitterOp>(order[i]);
    const bool needs_colour = op == kSaturation || op == kHue;
    const float neutral = op == kHue ? 0.0f : 1.0f;
    if (jitter[op] == neutral || (needs_colour && channels < 3)) continue;
    plan->step[plan->steps] = op;
    plan->factor[plan->steps++] = jitter[op];
  }
}

Status plan_sample(const ImageView& images, const CutPasteParams& params, int64_t i,
                   CutPastePlan* plan) {
  const int64_t* box = params.source_box + 4 * i;
  const int64_t* target = params.target + 2 * i;
  if (!params.apply[i]) return kGated;
  if (!std::isfinite(params.angle[i]) || !is_sane(params.jitter + 4 * i)) return kNotFinite;
  if (box[2] <= 0 || box[3] <= 0) return kEmpty;
  plan->source = params.source_index[i];
  if (plan->source < 0 || plan->source >= images.n) return kNoPlace;
  for (int k = 0; k < 4; ++k) {
    if (!near(box[k])) return kNoPlace;
  }
  if (!near(target[0]) || !near(target[1])) return kNoPlace;

  plan->box_y = box[0], plan->box_x = box[1], plan->box_h = box[2], plan->box_w = box[3];
  plan->turns = params.turns ? params.turns[i] & 3 : 0;
  const bool is_odd = plan->turns & 1;
  const int64_t height = is_odd ? images.w : images.h, width = is_odd ? images.h : images.w;
  clip(box[0], box[2], height, &plan->cut_y, &plan->cut_h);
  clip(box[1], box[3], width, &plan->cut_x, &plan->cut_w);
  plan->from_y = plan->cut_y, plan->from_x = plan->cut_x;
  if (params.shift) {
    plan->from_y = wrap(plan->cut_y - params.shift[2 * i] % height, height);
    plan->from_x = wrap(plan->cut_x - params.shift[2 * i + 1] % width, width);
  }
  const Rotation turn = rotation(params.angle[i]);
  plan->cos = turn.cos, plan->sin = turn.sin;
  plan->canvas_y = target[0], plan->canvas_x = target[1];
  plan->canvas_h = canvas_side(box[2], box[3], turn);
  plan->canvas_w = canvas_side(box[3], box[2], turn);
  int64_t y, x, h, w;
  clip(target[0], plan->canvas_h, images.h, &y, &h);
  clip(target[1], plan->canvas_w, images.w, &x, &w);
  if (plan->cut_h * plan->cut_w == 0 || h * w == 0) return kNoPlace;
  plan_jitter(params.jitter + 4 * i, params.order + 4 * i, images.c, plan);
  const bool whole =
      plan->cut_h == box[2] && plan->cut_w == box[3] && h == plan->canvas_h && w == plan->canvas_w;
  return whole ? kApplied : kClipped;
}

}  // namespace

CutPasteSize plan_cut_paste(const ImageView& images, const CutPasteParams& params,
                            CutPastePlan* plans) {
  CutPasteSize size = {0, 0, false};
  for (int64_t i = 0; i < images.n; ++i) {
    CutPastePlan* plan = plans + i;
    plan->status = plan_sample(images, params, i, plan);
    if (plan->status != kApplied && plan->status != kClipped) continue;
    const int64_t pixels = plan->cut_h * plan->cut_w;
    plan->offset = size.elements;
    size.elements += images.c * pixels;
    if (pixels > size.largest) size.largest = pixels;
    if (plan->source != i) size.is_foreign = true;
  }
  return size;
}

bool cut_paste(const ImageView& from, const ImageView& to, const CutPasteParams& params, bool* mask,
               int8_t* status, int64_t threads) {
  std::unique_ptr<CutPastePlan[]> plans(new (std::nothrow) CutPastePlan[from.n]);
  if (!plans) return false;
  const CutPasteSize size = plan_cut_paste(from, params, plans.get());
  const bool is_copy = from.data != to.data;
  const int64_t pixel_bytes = from.c * element_size(from.dtype);
  // About 2 ns to cut, jitter and paste an element, and 16 bytes cleared or copied in one.
  const double bytes = static_cast<double>(from.n * from.h * from.w * (is_copy ? pixel_bytes : 1));
  const int64_t used = useful_threads(threads, 2.0 * size.elements + bytes / 16.0);

  CutPasteScratch scratch;
  scratch.is_independent = is_copy || !size.is_foreign;
  scratch.patch_bytes = round_up(pixel_bytes * size.largest, kCacheLine);
  scratch.work_bytes = work_stride(size.largest) * 3 * (from.dtype == Dtype::kFloat64 ? 8 : 4);
  const int64_t patches = scratch.is_independent
                              ? used * scratch.patch_bytes
                              : round_up(size.elements * element_size(from.dtype), kCacheLine);
  std::unique_ptr<char[]> memory(
      new (std::nothrow) char[patches + used * scratch.work_bytes + kCacheLine]);
  if (!memory) return false;
  scratch.patches = SSAD_LEVEL::align(memory.get());
  scratch.work = scratch.patches + patches;
  kernels().cut_paste(from, to, plans.get(), scratch, mask, status, used);
  return true;
}

}  // namespace ssad
