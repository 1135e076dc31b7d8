// SPDX-License-Identifier: Apache-2.0
// Memory, tables and the number of threads; then the kernels.
#include <algorithm>
#include <memory>
#include <new>

#include "gms_room.h"
#include "kernels.h"
#include "ssad/parallel.h"
#include "ssad/similarity.h"
#include "ssim_room.h"

namespace ssad {
namespace {

using Memory = std::unique_ptr<char[]>;

// Big enough for that many bytes from a cache line on; null when there is none.
Memory allocate(int64_t bytes) { return Memory(new (std::nothrow) char[bytes + kCacheLine]); }

template <class T>
GmsBlock<T> block_of(int64_t b, int64_t in, int64_t out) {
  constexpr int64_t kBlock = kGmsBlock<T>;
  const int64_t start = std::max<int64_t>(0, std::min(b * kBlock, out - kBlock));
  const int64_t end = std::min(start + kBlock, out),
                first = SSAD_LEVEL::resize_point(start, in, out).low;
  return {start, first, SSAD_LEVEL::resize_point(end - 1, in, out).high + 1 - first, nullptr};
}

template <class T>
void fill_block(const GmsBlock<T>& block, int64_t in, int64_t out, T* weight) {
  constexpr int64_t kBlock = kGmsBlock<T>;
  std::fill_n(weight, block.count * kBlock, T{0});
  for (int64_t l = 0; l < kBlock && block.start + l < out; ++l) {
    const SSAD_LEVEL::ResizePoint at = SSAD_LEVEL::resize_point(block.start + l, in, out);
    weight[(at.high - block.first) * kBlock + l] = static_cast<T>(at.weight);
    weight[(at.low - block.first) * kBlock + l] += static_cast<T>(1.0 - at.weight);
  }
}

// Lays the tables out in memory; without any it counts what is needed.
template <class T>
GmsTables<T> make_tables(SSAD_LEVEL::Arena* arena, const GmsProblem& problem) {
  const int64_t out = problem.images.w;
  GmsTables<T> tables = {{}, (out + kGmsBlock<T> - 1) / kGmsBlock<T>};
  for (int64_t s = 0; s < problem.scales; ++s) {
    const int64_t in = (out >> s) - 2;
    GmsBlock<T>* blocks = tables.blocks[s] = arena->take<GmsBlock<T>>(tables.block_count);
    for (int64_t b = 0; b < tables.block_count; ++b) {
      GmsBlock<T> block = block_of<T>(b, in, out);
      T* weight = arena->take<T>(block.count * kGmsBlock<T>);
      if (arena->memory == nullptr) continue;
      fill_block(block, in, out, weight);
      block.weight = weight;
      blocks[b] = block;
    }
  }
  return tables;
}

template <class T>
bool run_gms(const GmsProblem& problem, int64_t threads) {
  const ImageView& images = problem.images;
  const int64_t bands = SSAD_LEVEL::gms_bands(images.h), jobs = images.n * bands;
  constexpr double kNanosecondsPerPixel = 5.0;
  const double pixels = static_cast<double>(images.n * images.h * images.w);
  const int64_t used = useful_threads(std::min(threads, jobs), pixels * kNanosecondsPerPixel);

  SSAD_LEVEL::Arena room = {nullptr}, needed = {nullptr};
  SSAD_LEVEL::gms_room<T>(&room, problem);
  if (problem.kind == GmsKind::kMap) make_tables<T>(&needed, problem);
  needed.take<double>(jobs);
  const Memory scratch_memory = allocate(std::max<int64_t>(1, used) * room.used);
  const Memory table_memory = allocate(needed.used);
  if (!scratch_memory || !table_memory) return false;
  SSAD_LEVEL::Arena arena = {SSAD_LEVEL::align(table_memory.get())};
  GmsTables<T> tables = {};
  if (problem.kind == GmsKind::kMap) tables = make_tables<T>(&arena, problem);
  double* sums = arena.take<double>(jobs);
  kernels().gms(problem, {SSAD_LEVEL::align(scratch_memory.get()), room.used, &tables, sums}, used);
  if (problem.kind != GmsKind::kLoss) return true;
  for (int64_t n = 0; n < images.n; ++n) {
    double loss = 0.0;
    for (int64_t b = 0; b < bands; ++b) loss += sums[n * bands + b];
    static_cast<T*>(problem.out)[n] = static_cast<T>(loss);
  }
  return true;
}

template <class T>
bool run_ssim(const SsimProblem& problem, int64_t threads) {
  const ImageView& images = problem.images;
  constexpr double kNanosecondsPerTap = 0.2;
  const double work = static_cast<double>(images.n * images.c * images.h * images.w) *
                      static_cast<double>(problem.window) * kNanosecondsPerTap;
  const int64_t jobs = images.n * images.c * SSAD_LEVEL::ssim_bands(images.h);
  const int64_t used = useful_threads(std::min(threads, jobs), work);
  SSAD_LEVEL::Arena room = {nullptr};
  SSAD_LEVEL::ssim_room<T>(&room, problem);
  const Memory memory = allocate(std::max<int64_t>(1, used) * room.used);
  if (!memory) return false;
  kernels().ssim(problem, {SSAD_LEVEL::align(memory.get()), room.used}, used);
  return true;
}

}  // namespace

bool gms(const GmsProblem& problem, int64_t threads) {
  const bool is_double = problem.images.dtype == Dtype::kFloat64;
  return is_double ? run_gms<double>(problem, threads) : run_gms<float>(problem, threads);
}

bool ssim(const SsimProblem& problem, int64_t threads) {
  const bool is_double = problem.images.dtype == Dtype::kFloat64;
  return is_double ? run_ssim<double>(problem, threads) : run_ssim<float>(problem, threads);
}

}  // namespace ssad
