// SPDX-License-Identifier: Apache-2.0
// The kernel is separable: the nodes above and below a row of pixels are combined once, which
// leaves two numbers for each column of nodes, and four products for each pixel. Compiled without
// contraction of multiply-adds: every instruction set gives the bits of the reference, so that no
// mask hangs on the machine.
#include "perlin_room.h"

#include <cstdint>
#include <cstring>

#include "families.h"
#include "simd.h"
#include "ssad/parallel.h"
#include "ssad/philox.h"
#include "ssad/rotation.h"

namespace ssad::SSAD_LEVEL {
namespace {

static_assert(kPerlinSlack >= kLanes<float>);

struct Job {
  const PerlinProblem& problem;
  const PerlinScratch& scratch;
};

struct Lattice {
  int64_t rows, columns;  // of cells

  int64_t nodes() const { return (rows + 1) * (columns + 1); }
};

// Unit vectors of a random number each, which counts 2^-32 turns.
void fill_nodes(const int64_t* key, int64_t stream, int64_t nodes, const PerlinRoom& room) {
  for (int64_t k = 0; k < nodes; k += 4) {
    const Philox four = keyed_philox(key, stream, k / 4);
    std::memcpy(room.bits + k, four.v, sizeof four.v);
  }
  constexpr double kRoot2 = 1.4142135623730951, kUnit = 6.283185307179586 * 0x1p-32;
  for (int64_t k = 0; k < nodes; ++k) {
    const uint32_t bits = room.bits[k], quarters = (bits + (1u << 29)) >> 30;
    const auto rest = static_cast<int32_t>(bits - (quarters << 30));  // within an eighth of a turn
    const Turn<double> least = cosine_and_sine((static_cast<double>(rest) + 0.5) * kUnit);
    const Turn<double> turn = quarter_turns(static_cast<int>(quarters), least);
    room.down[k] = static_cast<float>(turn.cos * kRoot2);
    room.across[k] = static_cast<float>(turn.sin * kRoot2);
  }
}

void fill_axis(const PerlinAxis& axis, int64_t pixels, int64_t padded, int64_t cells) {
  for (float* table : {axis.near_weight, axis.far_weight, axis.near_moment, axis.far_moment}) {
    for (int64_t p = pixels; p < padded; ++p) table[p] = 0.0f;
  }
  for (int64_t p = 0; p < pixels; ++p) {
    const double u = static_cast<double>(p * cells % pixels) / static_cast<double>(pixels);
    const double fade = ((6.0 * u - 15.0) * u + 10.0) * u * u * u;
    axis.near_weight[p] = static_cast<float>(1.0 - fade);
    axis.far_weight[p] = static_cast<float>(fade);
    axis.near_moment[p] = static_cast<float>((1.0 - fade) * u);
    axis.far_moment[p] = static_cast<float>(fade * (u - 1.0));
  }
}

// Writes whole vectors, and so up to kPerlinSlack beyond the row.
void make_row(const PerlinRoom& room, const Lattice& lattice, int64_t y, int64_t h, int64_t w,
              float* to) {
  const int64_t columns = lattice.columns, above = y * lattice.rows / h * (columns + 1);
  const float *down = room.down + above, *across = room.across + above;
  const float near_weight = room.y.near_weight[y], far_weight = room.y.far_weight[y];
  const float near_moment = room.y.near_moment[y], far_moment = room.y.far_moment[y];
  for (int64_t j = 0; j <= columns; ++j) {
    room.row_down[j] = near_moment * down[j] + far_moment * down[j + columns + 1];
    room.row_across[j] = near_weight * across[j] + far_weight * across[j + columns + 1];
  }
  int64_t x = 0;
  for (int64_t a = 0; a < columns; ++a) {
    const float near_down = room.row_down[a], far_down = room.row_down[a + 1];
    const float near_across = room.row_across[a], far_across = room.row_across[a + 1];
    const int64_t end = ((a + 1) * w + columns - 1) / columns;
    // What is written beyond the cell the next one writes anew.
    for (; x < end; x += kLanes<float>) {
      store(to + x,
            (load(room.x.near_weight + x) * near_down + load(room.x.far_weight + x) * far_down) +
                (load(room.x.near_moment + x) * near_across +
                 load(room.x.far_moment + x) * far_across));
    }
    x = end;
  }
}

// A coordinate in the upright plane along a row of the turned one, kRotationBits + 1 fractional
// bits.
struct Line {
  int64_t start, step;
};

int64_t ceil_div(int64_t a, int64_t b) { return a > 0 ? (a - 1) / b + 1 : -(-a / b); }

// Narrows [*first, *end) to where 0 <= start + step x < limit.
void clip(Line line, int64_t limit, int64_t* first, int64_t* end) {
  if (line.step < 0) line = {limit - 1 - line.start, -line.step};
  if (line.step == 0) {
    if (line.start < 0 || line.start >= limit) *end = *first;
    return;
  }
  const int64_t from = ceil_div(-line.start, line.step);
  const int64_t to = ceil_div(limit - line.start, line.step);
  if (from > *first) *first = from < *end ? from : *end;
  if (to < *end) *end = to > *first ? to : *first;
}

// U is wide enough for a side with kRotationBits + 1 fractional bits; sums may wrap around.
template <class U>
void take_pixels(const PerlinRoom& room, Line y, Line x, int64_t first, int64_t end, float* to) {
  const U start_y = static_cast<U>(y.start), step_y = static_cast<U>(y.step);
  const U start_x = static_cast<U>(x.start), step_x = static_cast<U>(x.step);
  const float* plane = room.plane;
  const U stride = static_cast<U>(room.stride);
  for (int64_t k = first; k < end; ++k) {
    const U from_y = (start_y + static_cast<U>(k) * step_y) >> (kRotationBits + 1);
    const U from_x = (start_x + static_cast<U>(k) * step_x) >> (kRotationBits + 1);
    to[k] = plane[from_y * stride + from_x];
  }
}

void turn_row(const PerlinRoom& room, const int64_t* turn, int64_t y, int64_t h, int64_t w,
              float* to) {
  const int64_t cos = turn[0], sin = turn[1];
  // Twice the distance from the centre, turned back.
  const int64_t dy = 2 * y + 1 - h, dx = 1 - w;
  const Line from_y = {dy * cos + dx * sin + (h << kRotationBits), 2 * sin};
  const Line from_x = {dx * cos - dy * sin + (w << kRotationBits), 2 * cos};
  int64_t first = 0, end = w;
  clip(from_y, h << (kRotationBits + 1), &first, &end);
  clip(from_x, w << (kRotationBits + 1), &first, &end);
  std::memset(to, 0, static_cast<size_t>(first) * sizeof(float));
  if (h < 1 << 15 && w < 1 << 15) {
    take_pixels<uint32_t>(room, from_y, from_x, first, end, to);
  } else {
    take_pixels<uint64_t>(room, from_y, from_x, first, end, to);
  }
  std::memset(to + end, 0, static_cast<size_t>(w - end) * sizeof(float));
}

void make_plane(void* context, int64_t worker, int64_t i) {
  const Job& job = *static_cast<const Job*>(context);
  const PerlinProblem& problem = job.problem;
  const PerlinScratch& scratch = job.scratch;
  const int64_t h = problem.h, w = problem.w;
  float* noise = problem.noise + i * h * w;
  const auto row_bytes = static_cast<size_t>(w) * sizeof(float);
  if (problem.status[i] != kApplied) {
    std::memset(noise, 0, static_cast<size_t>(h) * row_bytes);
    return;
  }
  const bool is_turned = problem.angle != nullptr;
  Arena arena = {scratch.memory + worker * scratch.bytes};
  const PerlinRoom room = lay_out_perlin(&arena, h, w, scratch.nodes, scratch.columns, is_turned);
  const Lattice lattice = {problem.cells[2 * i], problem.cells[2 * i + 1]};
  fill_nodes(problem.keys + 3 * i, problem.stream, lattice.nodes(), room);
  fill_axis(room.y, h, h, lattice.rows);
  fill_axis(room.x, w, room.stride, lattice.columns);
  for (int64_t y = 0; y < h; ++y) {
    float* row = room.plane + (is_turned ? y * room.stride : 0);
    make_row(room, lattice, y, h, w, row);
    if (!is_turned) std::memcpy(noise + y * w, row, row_bytes);
  }
  for (int64_t y = 0; is_turned && y < h; ++y) {
    turn_row(room, scratch.turns + 2 * i, y, h, w, noise + y * w);
  }
}

}  // namespace

void perlin_noise(const PerlinProblem& problem, const PerlinScratch& scratch, int64_t threads) {
  Job job = {problem, scratch};
  parallel_for(problem.n, threads, make_plane, &job);
}

}  // namespace ssad::SSAD_LEVEL
