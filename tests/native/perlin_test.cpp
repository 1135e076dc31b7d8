// SPDX-License-Identifier: Apache-2.0
#include "perlin_test.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "ssad/perlin.h"
#include "ssad/philox.h"
#include "ssad/view.h"

namespace {

using ssad::PerlinProblem;

constexpr double kTurn = 6.283185307179586;

int64_t among(std::mt19937_64& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

// The product of a node's vector with an offset from it, in cells.
double product(const int64_t* key, int64_t stream, int64_t node, double down, double across) {
  const auto four = ssad::SSAD_LEVEL::keyed_philox(key, stream, node / 4);
  const double angle = kTurn * (four.v[node % 4] + 0.5) * 0x1p-32;
  return std::cos(angle) * down + std::sin(angle) * across;
}

double fade(double t) { return ((6.0 * t - 15.0) * t + 10.0) * t * t * t; }

double noise_at(const PerlinProblem& problem, int64_t sample, int64_t y, int64_t x) {
  const int64_t rows = problem.cells[2 * sample], columns = problem.cells[2 * sample + 1];
  const double down = static_cast<double>(y * rows) / static_cast<double>(problem.h);
  const double across = static_cast<double>(x * columns) / static_cast<double>(problem.w);
  const auto i = static_cast<int64_t>(down), j = static_cast<int64_t>(across);
  double sum = 0.0;
  for (int corner = 0; corner < 4; ++corner) {
    const int64_t to_i = i + corner / 2, to_j = j + corner % 2;
    const double v = down - static_cast<double>(to_i), u = across - static_cast<double>(to_j);
    const double weight = fade(1.0 - std::abs(v)) * fade(1.0 - std::abs(u));
    sum += weight *
           product(problem.keys + 3 * sample, problem.stream, to_i * (columns + 1) + to_j, v, u);
  }
  return std::sqrt(2.0) * sum;
}

}  // namespace

bool check_perlin(std::mt19937_64& random) {
  const int64_t n = among(random, 1, 3);
  const int64_t long_side = random() % 9 == 0 ? 40000 : 90;
  const int64_t h = among(random, 1, 40), w = among(random, 1, long_side);
  const bool is_turned = random() % 2 == 0;
  // Of the exact sizes, for a sanitizer.
  std::vector<int64_t> keys(static_cast<size_t>(3 * n)), cells(static_cast<size_t>(2 * n));
  std::vector<float> angle(static_cast<size_t>(n));
  for (auto& value : keys) value = static_cast<int64_t>(random());
  for (auto& value : cells) value = among(random, 0, ssad::kMostPerlinCells + 1);
  for (auto& value : angle) value = static_cast<float>(among(random, -900, 900));
  if (random() % 5 == 0) angle[0] = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> noise[2];
  std::vector<int8_t> status[2];
  PerlinProblem problem = {};
  for (int run = 0; run < 2; ++run) {
    noise[run].assign(static_cast<size_t>(n * h * w), 77.0f);
    status[run].assign(static_cast<size_t>(n), 77);
    problem = {keys.data(),       cells.data(),      is_turned ? angle.data() : nullptr, 5, n, h, w,
               noise[run].data(), status[run].data()};
    if (!ssad::perlin_noise(problem, 1 + run)) throw std::bad_alloc();
  }
  if (status[0] != status[1]) return false;
  if (std::memcmp(noise[0].data(), noise[1].data(), noise[0].size() * sizeof(float)) != 0) {
    return false;
  }
  for (int64_t i = 0; i < n; ++i) {
    const bool is_made = status[0][static_cast<size_t>(i)] == ssad::kApplied;
    for (int probe = 0; probe < 20; ++probe) {
      const int64_t y = among(random, 0, h - 1), x = among(random, 0, w - 1);
      const double found = noise[0][static_cast<size_t>((i * h + y) * w + x)];
      if (!is_made && found != 0.0) return false;
      if (!(std::abs(found) <= 1.0)) return false;
      if (is_made && !is_turned && !(std::abs(found - noise_at(problem, i, y, x)) < 1e-6)) {
        return false;
      }
    }
  }
  return true;
}
