// SPDX-License-Identifier: Apache-2.0
// A block takes a sample: it reads the mask, and then channel by channel source and target, solves,
// and in the end, if all went well, writes the blend.
#include "blend.h"

#include "blend_guidance.h"
#include "poisson_gradients.h"
#include "ssad/blend_plan.h"

namespace ssad::cuda {
namespace {

// Where rectangles stop, which a CPU solves directly.
constexpr double kExact = 1e-7;

// Puts source and target of a channel where the solver has its planes: the unknowns and their
// neighbours in the patch.
template <int kSide>
__device__ void load_channel(const Images<kSide>& images, const Guide<kSide>& guide, int c) {
  const BlockGroup block;
  const Box& box = guide.box;
  const int rows = box.is_turned ? box.w : box.h, columns = box.is_turned ? box.h : box.w;
  const int y0 = box.y > 0 ? -1 : 0, x0 = box.x > 0 ? -1 : 0;
  const int h = (box.y + rows < guide.weights.h ? rows + 1 : rows) - y0;
  const int w = (box.x + columns < guide.weights.w ? columns + 1 : columns) - x0;
  SSAD_NO_UNROLL
  for (int i = block.rank(); i < h * w; i += Layout<kSide>::kThreads) {
    const int down = y0 + i / w, along = x0 + i % w;
    const int at = box.is_turned ? guide.grid.index(along, down) : guide.grid.index(down, along);
    images.memory.source[at] = images.source(c, box.y + down, box.x + along);
    images.memory.target[at] = images.target(c, box.y + down, box.x + along);
  }
}

template <int kSide>
__device__ void clear(Shared<float> plane, int words) {
  const BlockGroup block;
  SSAD_NO_UNROLL
  for (int i = block.rank(); i < words; i += Layout<kSide>::kThreads) plane[i] = 0.0f;
}

// Whether a pixel that is not finite takes part in mixed gradients.
template <int kSide>
__device__ bool is_mixture_finite(const Guide<kSide>& guide) {
  const BlockGroup block;
  if (guide.gradient != kMixedGradient || guide.guidance == Guidance::kOpenCv) return true;
  const int w = guide.box.w + 2;
  bool is_bad = false;
  SSAD_NO_UNROLL
  for (int i = block.rank(); i < (guide.box.h + 2) * w; i += Layout<kSide>::kThreads) {
    const int y = i / w - 1, x = i % w - 1;
    if (!guide.is_in_patch(y, x)) continue;
    if (is_finite(guide.source(y, x)) && is_finite(guide.target(y, x))) continue;
    is_bad |= guide.takes_part(y, x);
  }
  return !is_bad;
}

// Loads a channel, for b, of which a channel that waits keeps its base; then the solver gets its
// zeros back, to be used after a barrier. Returns whether all that the blend depends on is finite.
template <int kSide>
__device__ bool make_equation(const Memory<kSide>& m, const Images<kSide>& images, int c,
                              FinePoints<kSide>* points) {
  const BlockGroup block;
  const bool waits = c < waiting_channels(images.problem.target.c);
  const Guide<kSide> guide = make_guide(m, images.memory, points->grid, images);
  load_channel(images, guide, c);
  block.sync();
  if (block.rank() == 0) images.memory.channel[0] = c;
  Vector<kSide>& b = points->right_hand_side;
  b.fill([](int, int) { return 0.0f; });
  bool is_bad = !is_mixture_finite(guide);
  points->each_unknown(m, [&](int colour, const Point& point) {
    const float value = guide.right_hand_side(point.y, point.x);
    const float base = guide.base(point.y, point.x);
    b.set(colour, point.slot, value);
    is_bad |= !is_finite(value) || !is_finite(base);
    if (waits) {
      const int place = waiting_place<kSide>(point.y, point.x);
      guide.memory.waiting[c * kSide * kSide + place] = base;
    }
  });
  const float any_bad = block_reduce(is_bad ? 1.0f : 0.0f, Largest(), m.float_slots);
  clear<kSide>(m.fine, Layout<kSide>::kFine);
  clear<kSide>(m.u, Layout<kSide>::kCoarse);
  points->count_edges(m);
  return any_bad == 0.0f;
}

template <int kSide>
__device__ void remove_mean_if_full(const Memory<kSide>& m, const FinePoints<kSide>& points,
                                    Vector<kSide>* vector) {
  const Box box = m.box[0];  // fetched anew: registers are for the solver
  if (box.is_full) remove_mean(m, points, box.unknowns, vector);
}

// Solves for e, and adds it to a base that waits, or leaves it in the finest plane. Returns
// kApplied, kNotConverged or kNotFinite. Ends with a barrier.
template <int kSide>
__device__ Status solve_channel(const Memory<kSide>& m, const Images<kSide>& images,
                                FinePoints<kSide>* points) {
  const BlockGroup block;
  Vector<kSide>& b = points->right_hand_side;
  remove_mean_if_full(m, *points, &b);
  const int exponent = scale_exponent(block_reduce(largest_of(b), Largest(), m.float_slots));
  const float scale = ldexpf(1.0f, -exponent);
  b.fill([&](int colour, int i) { return b.of[colour][i] * scale; });
  if (block.rank() == 0) images.memory.exponent[0] = exponent;
  Vector<kSide> x;
  x.fill([](int, int) { return 0.0f; });
  const PoissonOptions& options = images.problem.options;
  const Limits limits = {options.tol * static_cast<double>(scale), options.rtol,
                         static_cast<int>(options.max_iterations)};
  const Outcome outcome = conjugate_gradients(m, limits, points, &x);
  if (!outcome.is_converged) return kNotConverged;
  remove_mean_if_full(m, *points, &x);
  const float unscale = ldexpf(1.0f, images.memory.exponent[0]);
  x.fill([&](int colour, int i) { return x.of[colour][i] * unscale; });
  const float lost =
      sum_of<kSide>([&](int colour, int i) { return x.of[colour][i] - x.of[colour][i]; });
  if (block_reduce(lost == 0.0f ? 0.0f : 1.0f, Largest(), m.float_slots) > 0.0f) return kNotFinite;
  share(*points, x);
  const int c = images.memory.channel[0];
  if (c < waiting_channels(images.problem.target.c)) {
    points->each_unknown(m, [&](int, const Point& point) {
      const int place = c * kSide * kSide + waiting_place<kSide>(point.y, point.x);
      const float e = points->u[point.at], base = images.memory.waiting[place];
      images.memory.waiting[place] = base + e;
    });
  }
  block.sync();
  return kApplied;
}

// Writes the unknowns of all channels. Neighbouring threads write neighbouring pixels.
template <int kSide>
__device__ void composite(const Memory<kSide>& m, const Images<kSide>& images) {
  const BlockGroup block;
  const Grid grid = finest_grid<kSide>(m);
  const Guide<kSide> guide = make_guide(m, images.memory, grid, images);
  const int waiting = waiting_channels(images.problem.target.c);
  const Box& box = guide.box;
  const BlendProblem& problem = images.problem;
  const int rows = box.is_turned ? box.w : box.h, columns = box.is_turned ? box.h : box.w;
  for (int c = 0; c < static_cast<int>(problem.target.c); ++c) {
    SSAD_NO_UNROLL
    for (int i = block.rank(); i < rows * columns; i += Layout<kSide>::kThreads) {
      const int down = i / columns, along = i % columns;
      const int y = box.is_turned ? along : down, x = box.is_turned ? down : along;
      if (!is_unknown(m, grid, y, x)) continue;
      const int pixel_y = box.y + down, pixel_x = box.x + along;
      float value = 0.0f;
      if (c < waiting) {
        value = images.memory.waiting[c * kSide * kSide + waiting_place<kSide>(y, x)];
      } else {
        const float e = m.fine[grid.index(y, x)];
        value = guide.has_source_base() ? images.source(c, pixel_y, pixel_x)
                                        : images.target(c, pixel_y, pixel_x);
        value += e;
      }
      if (images.is_opencv()) value = floorf(value);
      store_pixel(problem.target, images.target_place(c, pixel_y, pixel_x), value);
    }
  }
}

// Returns what becomes of a sample whose patch has its place: kApplied, or why it is left alone.
template <int kSide>
__device__ Status blend_sample(const Memory<kSide>& m, const BlendMemory& memory,
                               const BlendProblem& problem) {
  const Images<kSide> images = {problem, memory};
  const MaskTraits mask = read_support<kSide>(m, memory, problem, images.sample());
  images.place_taps();
  const Box box = find_unknowns<kSide>(m, memory, problem.region == BlendRegion::kMask);
  if (box.unknowns == 0) return kEmpty;
  if (!mask.has_numbers || !is_finite(images.source_gain()) || !is_finite(images.target_gain())) {
    return kNotFinite;
  }
  if (images.is_opencv()) {
    const BlendPlan plan = memory.plan[0];
    erode_mask<kSide>(
        memory, {memory, problem.mask_kind, static_cast<int>(plan.h), static_cast<int>(plan.w)});
  }
  const BlockGroup block;
  if (block.rank() == 0) {
    memory.guidance[0] = choose_guidance(problem, gradient_of(problem.params, images.sample()),
                                         mask.is_hard, box.is_full != 0);
  }
  build_hierarchy<kSide>(m, box);
  block.sync();
  for (int c = 0; c < static_cast<int>(problem.target.c);) {
    FinePoints<kSide> points(m);
    if (!make_equation(m, images, c, &points)) return kNotFinite;
    const Status status = solve_channel(m, images, &points);
    if (status != kApplied) return status;
    c = memory.channel[0] + 1;
  }
  composite(m, images);
  return kApplied;
}

template <int kSide>
__global__ void __launch_bounds__(Layout<kSide>::kThreads, BlendLayout<kSide>::kBlocks)
    blend_patches(BlendProblem problem) {
  SSAD_DYNAMIC_SHARED(bytes);
  const Memory<kSide> m = carve_solver<kSide>(bytes);
  const BlendMemory memory =
      carve_blend<kSide>(bytes, m, static_cast<int>(problem.target.c), problem.mask_kind);
  const BlockGroup block;
  if (block.rank() == 0) {
    const int64_t sample = blockIdx.x;
    BlendPlan plan = {};
    plan.status = plan_patch_of(problem, sample, &plan);
    memory.plan[0] = plan;
    memory.sample[0] = sample;
  }
  block.sync();
  const BlendPlan plan = memory.plan[0];
  const Status blended = is_active(plan) ? blend_sample<kSide>(m, memory, problem) : kApplied;
  if (block.rank() != 0) return;
  const BlendPlan again = memory.plan[0];  // it was not kept in registers
  const int64_t sample = memory.sample[0];
  const auto status = blended == kApplied ? static_cast<Status>(again.status) : blended;
  store_element<int8_t>(problem.status, sample, status);
}

template <int kSide>
const char* launch_patches(const BlendProblem& problem, void* stream) {
  const int bytes = BlendLayout<kSide>::bytes(problem.target.c, problem.mask_kind);
  return launch(blend_patches<kSide>, problem.target.n, Layout<kSide>::kThreads, bytes, stream,
                problem);
}

}  // namespace

int64_t poisson_blend_bytes(int64_t side, int64_t channels, MaskKind mask) {
  return side <= kSmallSide ? BlendLayout<kSmallSide>::bytes(channels, mask)
                            : BlendLayout<kMediumSide>::bytes(channels, mask);
}

const char* poisson_blend(const BlendProblem& given, int64_t side, void* stream) {
  BlendProblem problem = given;
  PoissonOptions& options = problem.options;
  if (options.solver == kSine && options.rtol < kExact) options.rtol = kExact;
  constexpr int64_t kMostBlocks = INT32_MAX;
  if (side > kMediumSide) return "a side is larger than a block can take";
  if (problem.target.n > kMostBlocks) return "too many images for one launch";
  if (problem.target.n == 0) return nullptr;
  return side <= kSmallSide ? launch_patches<kSmallSide>(problem, stream)
                            : launch_patches<kMediumSide>(problem, stream);
}

}  // namespace ssad::cuda
