// SPDX-License-Identifier: Apache-2.0
#include "upsample_test.h"

#include <cmath>
#include <cstring>
#include <new>
#include <vector>

#include "ssad/upsample.h"

namespace {

using ssad::Dtype;
using ssad::UpsampleAxis;
using ssad::UpsampleProblem;

int64_t among(std::mt19937_64& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

UpsampleAxis random_axis(std::mt19937_64& random) {
  const int64_t far = random() % 9 == 0 ? 1 << 24 : 40;
  return {among(random, 1, 40), among(random, 1, random() % 9 == 0 ? 8192 : 9),
          among(random, -far, far), 0.2 + static_cast<double>(random() % 90)};
}

// As each feature adds its kernel to the pixels.
double tap(const UpsampleAxis& axis, int64_t feature, int64_t pixel) {
  const int64_t t = pixel - axis.start - axis.stride * feature;
  if (t < 0 || t >= axis.kernel) return 0.0;
  const double distance = std::floor(std::abs(static_cast<double>(2 * t - axis.kernel + 1)) / 2);
  const double value = std::exp(-distance * distance / (2 * axis.sigma * axis.sigma));
  return axis.kernel % 2 == 0 ? value / 2 : value;
}

template <class T>
bool check(std::mt19937_64& random, Dtype dtype) {
  const int64_t n = among(random, 1, 3), c = among(random, 1, 2);
  const int64_t h = among(random, 1, 20), w = among(random, 1, 40);
  std::vector<T> in(static_cast<size_t>(n * c * h * w));  // of the exact size, for a sanitizer
  for (auto& value : in) value = static_cast<T>(among(random, -4, 4));
  const UpsampleProblem problem = {{in.data(), dtype, n, c, h, w, c * h * w, h * w, w, 1},
                                   among(random, 1, 30),
                                   among(random, 1, 50),
                                   random_axis(random),
                                   random_axis(random),
                                   false,
                                   random() % 2 == 0,
                                   nullptr};
  const auto run = [&](bool normalise, int64_t threads) {
    std::vector<T> out(static_cast<size_t>(n * c * problem.h * problem.w), T{77});
    UpsampleProblem own = problem;
    own.out = out.data(), own.normalise = normalise;
    if (!ssad::upsample(own, threads)) throw std::bad_alloc();
    return out;
  };
  for (const bool normalise : {false, true}) {
    const std::vector<T> one = run(normalise, 1), two = run(normalise, 2);
    if (std::memcmp(one.data(), two.data(), one.size() * sizeof(T)) != 0) return false;
  }
  if (sizeof(T) == 2) return true;  // halves, of which only the memory is checked
  const std::vector<T> out = run(false, 1);
  for (int probe = 0; probe < 50; ++probe) {
    const int64_t plane = among(random, 0, n * c - 1);
    const int64_t y = among(random, 0, problem.h - 1), x = among(random, 0, problem.w - 1);
    double sum = 0.0;
    for (int64_t v = 0; v < h; ++v) {
      for (int64_t u = 0; u < w; ++u) {
        const bool adjoint = problem.is_adjoint;
        const double weight = tap(problem.y, adjoint ? y : v, adjoint ? v : y) *
                              tap(problem.x, adjoint ? x : u, adjoint ? u : x);
        sum += weight * static_cast<double>(in[static_cast<size_t>((plane * h + v) * w + u)]);
      }
    }
    const auto at = static_cast<size_t>((plane * problem.h + y) * problem.w + x);
    if (!(std::abs(static_cast<double>(out[at]) - sum) < 2e-3)) return false;
  }
  return true;
}

}  // namespace

bool check_upsample(std::mt19937_64& random) {
  return check<float>(random, Dtype::kFloat32) && check<double>(random, Dtype::kFloat64) &&
         check<uint16_t>(random, Dtype::kFloat16) && check<uint16_t>(random, Dtype::kBFloat16);
}
