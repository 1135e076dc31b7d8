// SPDX-License-Identifier: Apache-2.0
// What becomes of each sample, and memory; then the kernel.
#include <algorithm>
#include <cmath>
#include <memory>
#include <new>

#include "kernels.h"
#include "perlin_room.h"
#include "ssad/parallel.h"
#include "ssad/perlin.h"
#include "ssad/rotation.h"
#include "ssad/view.h"

namespace ssad {
namespace {

bool is_lattice(const int64_t* cells) {
  return cells[0] >= 1 && cells[0] <= kMostPerlinCells && cells[1] >= 1 &&
         cells[1] <= kMostPerlinCells;
}

}  // namespace

bool perlin_noise(const PerlinProblem& problem, int64_t threads) {
  const bool is_turned = problem.angle != nullptr;
  std::unique_ptr<int64_t[]> turns(new (std::nothrow) int64_t[is_turned ? 2 * problem.n : 0]);
  if (!turns) return false;
  int64_t nodes = 0, most_nodes = 0, most_columns = 0;
  for (int64_t i = 0; i < problem.n; ++i) {
    const int64_t* cells = problem.cells + 2 * i;
    const bool is_finite = !is_turned || std::isfinite(problem.angle[i]);
    problem.status[i] = !is_finite ? kNotFinite : is_lattice(cells) ? kApplied : kNoPlace;
    if (problem.status[i] != kApplied) continue;
    if (is_turned) {
      const SSAD_LEVEL::Rotation turn = SSAD_LEVEL::rotation(problem.angle[i]);
      turns[2 * i] = turn.cos, turns[2 * i + 1] = turn.sin;
    }
    const int64_t own = (cells[0] + 1) * (cells[1] + 1);
    nodes += own;
    most_nodes = std::max(most_nodes, own);
    most_columns = std::max(most_columns, cells[1] + 1);
  }
  constexpr double kNanosecondsPerNode = 10.0, kNanosecondsPerPixel = 0.15;
  constexpr double kNanosecondsPerTurnedPixel = 0.5;
  const double work = kNanosecondsPerNode * static_cast<double>(nodes) +
                      (is_turned ? kNanosecondsPerTurnedPixel : kNanosecondsPerPixel) *
                          static_cast<double>(problem.n * problem.h * problem.w);
  const int64_t used = useful_threads(std::min(threads, problem.n), work);
  SSAD_LEVEL::Arena room = {nullptr};
  SSAD_LEVEL::lay_out_perlin(&room, problem.h, problem.w, most_nodes, most_columns, is_turned);
  const int64_t bytes = std::max<int64_t>(1, used) * room.used + kCacheLine;
  std::unique_ptr<char[]> memory(new (std::nothrow) char[bytes]);
  if (!memory) return false;
  kernels().perlin_noise(
      problem, {SSAD_LEVEL::align(memory.get()), room.used, most_nodes, most_columns, turns.get()},
      used);
  return true;
}

}  // namespace ssad
