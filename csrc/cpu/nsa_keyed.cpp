// SPDX-License-Identifier: Apache-2.0
#include "ssad/nsa_keyed.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <new>

#include "arena.h"
#include "kernels.h"
#include "ssad/parallel.h"

namespace ssad {
namespace {

constexpr int64_t kObjectSide = 7;  // of the median of object masks

using SSAD_LEVEL::Arena;

constexpr double kNanosecondsPerPixel = 10.0;

// What is drawn for all samples.
struct Draws {
  NsaDraws rows;
  int64_t* gradient;  // (n,) BlendGradient
  bool* masks;        // (n, 1, h, w), objects that are found here
};

// What a thread works in.
struct Room {
  bool* region;   // (h, w)
  bool* paste;    // (patches, side, side), or null for whole rectangles
  uint8_t* grey;  // (side, side), or null
};

struct Job {
  const NsaKeyedProblem& problem;
  Draws draws;
  NsaMasks masks;
  bool has_paste;
  char* memory;  // of all workers
  int64_t bytes;
  std::atomic<bool> had_memory;

  bool is_copied() const {
    return problem.gradient == NsaGradient::kSwap || problem.gradient == NsaGradient::kUniform;
  }
  bool is_opencv() const { return problem.region == BlendRegion::kOpenCv; }
  bool has_grey() const { return is_opencv() && problem.gradient == NsaGradient::kScaled; }
};

Draws lay_out_draws(const NsaKeyedProblem& problem, Arena* arena) {
  const int64_t n = problem.images.n, patches = problem.law.patches;
  const int64_t ellipses = problem.law.has_ellipses ? kNsaEllipses : 0;
  Draws draws = {};
  draws.rows.source_index = arena->take<int64_t>(n);
  draws.rows.source_box = arena->take<int64_t>(4 * n * patches);
  draws.rows.target_box = arena->take<int64_t>(4 * n * patches);
  draws.rows.ellipse = arena->take<double>(5 * n * patches * ellipses);
  draws.rows.apply = arena->take<bool>(n * patches);
  draws.rows.factor = arena->take<double>(n);
  draws.rows.status = arena->take<int8_t>(n);
  draws.gradient = arena->take<int64_t>(n);
  if (problem.finds_objects) {
    draws.masks = arena->take<bool>(n * problem.images.h * problem.images.w);
  }
  return draws;
}

Room lay_out_room(const Job& job, Arena* arena) {
  const NsaKeyedProblem& problem = job.problem;
  const int64_t square = problem.law.side * problem.law.side;
  Room room = {};
  room.region = arena->take<bool>(problem.images.h * problem.images.w);
  if (job.has_paste) room.paste = arena->take<bool>(problem.law.patches * square);
  if (job.has_grey()) room.grey = arena->take<uint8_t>(square);
  return room;
}

ImageView sample_of(const ImageView& images, int64_t i) {
  ImageView view = images;
  view.data = static_cast<char*>(images.data) + i * images.stride_n * element_size(images.dtype);
  view.n = 1;
  return view;
}

// Blends patch j of a sample; returns its status, or kGated where there is no memory
// (`had_memory`).
int8_t blend(Job& job, const Room& room, int64_t i, int64_t j) {
  const NsaKeyedProblem& problem = job.problem;
  const NsaDraws& rows = job.draws.rows;
  const int64_t side = problem.law.side, row = i * problem.law.patches + j;
  const int64_t* to = rows.target_box + 4 * row;
  const double factor = rows.factor[i], rest = 1.0 - factor;
  const bool is_copied = job.is_copied(), has_gains = problem.gradient == NsaGradient::kScaled;
  // The released code centres a patch one pixel to the right of its label if the width is odd.
  const bool is_beside = job.is_opencv() && !is_copied;
  const int64_t top_left[2] = {to[0], to[1] + (is_beside ? to[3] % 2 : 0)};
  int8_t status = kGated;
  BlendProblem patch = {sample_of(problem.out, i),
                        problem.sources,
                        room.paste ? room.paste + j * side * side : nullptr,
                        room.paste ? MaskKind::kBool : MaskKind::kNone,
                        side,
                        side,
                        {top_left, to + 2, rows.source_index + i, rows.source_box + 4 * row,
                         is_copied ? nullptr : job.draws.gradient + i, nullptr, nullptr},
                        problem.region,
                        problem.options,
                        &status};
  if (is_copied) {
    patch.region = job.is_opencv() ? BlendRegion::kOpenCv : BlendRegion::kMask;
    const double* alpha = problem.gradient == NsaGradient::kSwap ? nullptr : &factor;
    if (!alpha_blend({patch, alpha}, 1)) job.had_memory = false;
    return status;
  }
  const bool is_rectangle = room.paste == nullptr || problem.region == BlendRegion::kRect;
  patch.options.solver = is_rectangle || job.is_opencv() ? kSine : kMultigrid;
  if (has_gains && !job.is_opencv()) {
    patch.params.source_gain = &factor;
    patch.params.target_gain = &rest;
  }
  if (room.grey != nullptr) {  // there the factor is the grey of a mask
    const auto grey = static_cast<uint8_t>(std::ceil(factor * 255.0));
    const auto* mask = static_cast<const bool*>(patch.mask);
    for (int64_t k = 0; k < side * side; ++k) {
      room.grey[k] = mask == nullptr || mask[k] ? grey : uint8_t{0};
    }
    patch.mask = room.grey;
    patch.mask_kind = MaskKind::kUInt8;
  }
  if (!poisson_blend(patch, 1)) job.had_memory = false;
  return status;
}

// Regions, blends and the label of a sample.
void run_sample(void* context, int64_t worker, int64_t i) {
  Job& job = *static_cast<Job*>(context);
  const NsaKeyedProblem& problem = job.problem;
  const NsaLaw& law = problem.law;
  const NsaDraws& rows = job.draws.rows;
  const int64_t h = problem.images.h, w = problem.images.w, first = i * law.patches;
  const int64_t ellipses = law.has_ellipses ? kNsaEllipses : 0;
  Arena arena = {job.memory + worker * job.bytes};
  const Room room = lay_out_room(job, &arena);

  NsaMasks masks = job.masks;
  masks.n = 1;
  if (masks.target != nullptr) masks.target += i * h * w;
  const NsaParams params = {rows.source_index + i, rows.source_box + 4 * first,
                            rows.target_box + 4 * first, rows.ellipse + 5 * ellipses * first,
                            rows.apply + first};
  if (!nsa_regions(params, law.patches, ellipses, masks, law.side, law.is_reference,
                   job.is_copied(), room.region, room.paste, 1)) {
    job.had_memory = false;
    return;
  }

  int8_t why = rows.status[i];  // that of the first patch that was not applied
  bool was_applied = false;
  for (int64_t j = 0; j < law.patches; ++j) {
    if (!rows.apply[first + j]) continue;
    const int8_t status = blend(job, room, i, j);
    was_applied |= status == kApplied || status == kClipped;
    if (why == kApplied) why = status;
  }
  problem.status[i] = was_applied ? int8_t{kApplied} : why;

  const auto factor = static_cast<float>(rows.factor[i]);
  const ImageView region = {room.region, Dtype::kUInt8, 1, 1, h, w, h * w, h * w, w, 1};
  const LabelProblem label = {sample_of(problem.images, i),
                              sample_of(problem.out, i),
                              region,
                              problem.kind,
                              &problem.steepness,
                              &problem.midpoint,
                              &factor,
                              problem.threshold,
                              problem.size,
                              problem.radius,
                              problem.label + i * h * w};
  if (!difference_label(label, 1)) job.had_memory = false;
}

void draw_gradients(const NsaKeyedProblem& problem, int64_t* codes) {
  const int64_t n = problem.images.n;
  switch (problem.gradient) {
    case NsaGradient::kMix:
      kernels().philox(problem.keys, n, problem.coin_stream, 1, codes, 1);
      for (int64_t i = 0; i < n; ++i) codes[i] >>= 31;
      break;
    case NsaGradient::kScaled: std::fill_n(codes, n, kMixedGradient); break;
    default: std::fill_n(codes, n, static_cast<int64_t>(problem.gradient));
  }
}

}  // namespace

bool nsa_keyed(const NsaKeyedProblem& problem, int64_t threads) {
  const int64_t n = problem.images.n, h = problem.images.h, w = problem.images.w;
  Arena count = {nullptr};
  lay_out_draws(problem, &count);
  std::unique_ptr<char[]> drawn(new (std::nothrow) char[count.used + kCacheLine]);
  if (!drawn) return false;
  Arena arena = {SSAD_LEVEL::align(drawn.get())};
  const Draws draws = lay_out_draws(problem, &arena);

  const bool* target = problem.masks;
  if (target == nullptr && problem.finds_objects) {
    const ObjectMaskProblem objects = {problem.images,  problem.low, problem.high,
                                       problem.is_otsu, kObjectSide, draws.masks};
    if (!object_mask(objects, threads)) return false;
    target = draws.masks;
  }
  const NsaMasks masks = {
      problem.has_bank ? problem.source_masks : target, target, problem.sources.n, n, h, w};
  const int64_t sources = problem.has_bank ? problem.sources.n : -1;
  if (!sample_nsa(problem.keys, problem.stream, sources, masks, problem.law, draws.rows, threads)) {
    return false;
  }
  draw_gradients(problem, draws.gradient);

  Job job = {problem, draws, masks, false, nullptr, 0, {true}};
  job.has_paste = problem.law.has_ellipses || (job.is_copied() && target != nullptr);
  Arena room = {nullptr};
  lay_out_room(job, &room);
  job.bytes = room.used;
  const double work = static_cast<double>(n * h * w) * kNanosecondsPerPixel;
  const int64_t used = useful_threads(std::min(threads, std::max<int64_t>(n, 1)), work);
  std::unique_ptr<char[]> rooms(new (std::nothrow) char[used * job.bytes + kCacheLine]);
  if (!rooms) return false;
  job.memory = SSAD_LEVEL::align(rooms.get());
  parallel_for(n, used, run_sample, &job);
  return job.had_memory;
}

}  // namespace ssad
