// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <new>

#include "kernels.h"
#include "label_room.h"
#include "median_network.h"
#include "ssad/labels.h"
#include "ssad/parallel.h"

namespace ssad {
namespace {

// Runs a kernel with scratch memory for its threads; false when there is none.
template <class Problem>
bool run_with_room(const Problem& problem, const ImageView& images, int64_t tasks, int64_t lane,
                   const MedianNetwork* network, double nanoseconds_per_pixel, int64_t threads,
                   void (*kernel)(const Problem&, const LabelScratch&, int64_t)) {
  const auto pixels = static_cast<double>(images.h * images.w);
  const double work = static_cast<double>(tasks) * pixels * nanoseconds_per_pixel;
  const int64_t used = useful_threads(threads < tasks ? threads : tasks, work);
  SSAD_LEVEL::Arena arena = {nullptr};
  SSAD_LEVEL::label_room(&arena, images.h, images.w, lane, network);
  std::unique_ptr<char[]> memory(new (std::nothrow) char[used * arena.used + kCacheLine]);
  if (!memory) return false;
  kernel(problem, {SSAD_LEVEL::align(memory.get()), arena.used}, used);
  return true;
}

int64_t lane_size(Element element) {
  return element == Element::kBool ? 0 : element_size(element) < 2 ? 2 : element_size(element);
}

// About what it takes with vectors of 32 bytes.
double nanoseconds_of_median(const MedianNetwork& network, int64_t lane) {
  return 0.02 * static_cast<double>(lane * (network.row_count + network.pair_count)) / 4.0;
}

}  // namespace

bool median_filter(const MedianProblem& problem, int64_t threads) {
  const bool is_bool = problem.element == Element::kBool;
  const int64_t lane = lane_size(problem.element);
  const MedianNetwork* network = is_bool ? nullptr : &median_network(problem.radius);
  const double cost = is_bool ? 0.5 : nanoseconds_of_median(*network, lane);
  return run_with_room(problem, problem.images, problem.images.n * problem.images.c, lane, network,
                       cost, threads, kernels().median_filter);
}

bool object_mask(const ObjectMaskProblem& problem, int64_t threads) {
  return run_with_room(problem, problem.images, problem.images.n, 0, nullptr, 1.0, threads,
                       kernels().object_mask);
}

bool difference_label(const LabelProblem& problem, int64_t threads) {
  const MedianNetwork& network = median_network(problem.radius);
  const int64_t lane = problem.before.dtype == Dtype::kUInt8 ? 2 : 4;
  // A label is a small part of an image.
  const double cost = 0.5 + 0.1 * nanoseconds_of_median(network, lane);
  return run_with_room(problem, problem.before, problem.before.n, lane, &network, cost, threads,
                       kernels().difference_label);
}

}  // namespace ssad
