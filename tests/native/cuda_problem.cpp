// SPDX-License-Identifier: Apache-2.0
#include "cuda_problem.h"

#include <cmath>
#include <cstring>
#include <random>

#include "cuda_test.h"
#include "ssad/poisson.h"
#include "ssad/view.h"

namespace {

using Random = std::mt19937_64;

double uniform(Random& random) { return std::uniform_real_distribution<>(0.0, 1.0)(random); }

// Kinds of masks that solvers find easy or hard.
bool is_in_family(int family, double y, double x, int64_t row, int64_t column, Random& random) {
  const double radius = y * y + x * x;
  switch (family) {
    case 0: return true;
    case 1: return std::fabs(y) < 0.9 && std::fabs(x) < 0.7;
    case 2: return radius < 0.9;
    case 3: return radius < 0.9 && radius > 0.3 && !(std::fabs(x) < 0.3 && y > 0.0);
    case 4: return uniform(random) < 0.7;
    case 5: return uniform(random) < 0.98;
    case 6: return std::fabs(y - 0.4 * x) < 0.15;
    case 7: return (row + column) % 2 == 0;
    case 8: return row == 0;
    case 9: return column == 1;
    case 10: return row == 2 && column == 1;
    default: return std::sin(4.0 * y + 1.0) * std::cos(5.0 * x) > 0.1;
  }
}

}  // namespace

Problem make_problem(int family, int natural, int64_t n, int64_t c, int64_t h, int64_t w,
                     uint64_t seed) {
  Random random(seed);
  Problem p = {n, c, h, w, {}, {}, {}, std::make_unique<bool[]>(n * h * w)};
  for (int64_t i = 0; i < n; ++i) {
    p.natural.push_back(static_cast<uint8_t>(natural));
    for (int64_t y = 0; y < h; ++y) {
      for (int64_t x = 0; x < w; ++x) {
        const double down = (2.0 * static_cast<double>(y) + 1.0) / static_cast<double>(h) - 1.0;
        const double along = (2.0 * static_cast<double>(x) + 1.0) / static_cast<double>(w) - 1.0;
        p.mask[(i * h + y) * w + x] = is_in_family(family, down, along, y, x, random);
      }
    }
  }
  // Grey levels, and the Laplacian of other ones, as in blending.
  for (int64_t k = 0; k < n * c * p.framed_pixels(); ++k) {
    p.image.push_back(static_cast<float>(255.0 * uniform(random)));
  }
  for (int64_t plane = 0; plane < n * c; ++plane) {
    std::vector<double> source(p.framed_pixels());
    for (double& level : source) level = 255.0 * uniform(random);
    for (int64_t k = 0; k < p.pixels(); ++k) {
      const int64_t y = k / w, x = k % w, row = w + 2;
      const double* at = source.data() + (y + 1) * row + x + 1;
      double sum = 0.0;
      if (y > 0 || !(natural & ssad::cuda::kTop)) sum += at[-row] - at[0];
      if (y < h - 1 || !(natural & ssad::cuda::kBottom)) sum += at[row] - at[0];
      if (x > 0 || !(natural & ssad::cuda::kLeft)) sum += at[-1] - at[0];
      if (x < w - 1 || !(natural & ssad::cuda::kRight)) sum += at[1] - at[0];
      p.rhs.push_back(static_cast<float>(sum));
    }
  }
  return p;
}

Solution::Solution(const Problem& p)
    : values(p.n * p.c * p.pixels()),
      residual(p.n * p.c),
      status(p.n * p.c),
      iterations(p.n * p.c) {}

bool Solution::has_bits_of(const Solution& other) const {
  const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  };
  return same(values, other.values) && same(residual, other.residual) && status == other.status &&
         iterations == other.iterations;
}

Solution solve_emulated(const Problem& p) {
  Solution s(p);
  std::vector<float> scratch(ssad::cuda::poisson_scratch_size(p.solver, p.n * p.c, p.h, p.w));
  const ssad::cuda::PoissonPlanes planes = {p.solver,
                                            p.n,
                                            p.c,
                                            p.h,
                                            p.w,
                                            p.natural.data(),
                                            p.rhs.data(),
                                            p.mask.get(),
                                            p.framed(0) + p.w + 3,
                                            p.framed_pixels(),
                                            p.w + 2,
                                            p.tol,
                                            0.0,
                                            p.max_iterations,
                                            s.values.data(),
                                            s.status.data(),
                                            s.iterations.data(),
                                            s.residual.data(),
                                            scratch.data()};
  const char* error = ssad::cuda::poisson_solve(planes, nullptr);
  CHECK(error == nullptr, "%s", error);
  return s;
}

namespace {

// A sample by the CPU's kernel, with the frame where it counts.
void solve_sample_on_cpu(const Problem& p, int64_t sample, Solution* s) {
  const int natural = p.natural[sample];
  const int64_t top = natural & ssad::cuda::kTop ? 0 : 1,
                left = natural & ssad::cuda::kLeft ? 0 : 1;
  const int64_t h = p.h + top + (natural & ssad::cuda::kBottom ? 0 : 1);
  const int64_t w = p.w + left + (natural & ssad::cuda::kRight ? 0 : 1);
  const auto mask = std::make_unique<bool[]>(h * w);
  std::vector<float> rhs(p.c * h * w), boundary(p.c * h * w), solution(p.c * h * w);
  for (int64_t channel = 0; channel < p.c; ++channel) {
    const int64_t plane = sample * p.c + channel;
    for (int64_t y = 0; y < h; ++y) {
      for (int64_t x = 0; x < w; ++x) {
        const int64_t to = (channel * h + y) * w + x;
        boundary[to] = p.framed(plane)[(y + 1 - top) * (p.w + 2) + x + 1 - left];
        if (y < top || y >= p.h + top || x < left || x >= p.w + left) continue;
        const int64_t inside = (y - top) * p.w + x - left;
        rhs[to] = p.rhs[plane * p.pixels() + inside];
        mask[y * w + x] = p.mask[sample * p.pixels() + inside];
      }
    }
  }
  const ssad::PoissonProblem problem = {ssad::Dtype::kFloat32,
                                        1,
                                        p.c,
                                        h,
                                        w,
                                        rhs.data(),
                                        mask.get(),
                                        boundary.data(),
                                        {p.solver, p.tol, 0.0, p.max_iterations},
                                        solution.data(),
                                        s->status.data() + sample * p.c,
                                        s->iterations.data() + sample * p.c,
                                        s->residual.data() + sample * p.c};
  CHECK(ssad::poisson_solve(problem, 1), "no memory");
  for (int64_t channel = 0; channel < p.c; ++channel) {
    for (int64_t y = 0; y < p.h; ++y) {
      const float* row = solution.data() + (channel * h + y + top) * w + left;
      std::memcpy(s->values.data() + ((sample * p.c + channel) * p.h + y) * p.w, row,
                  static_cast<size_t>(p.w) * sizeof(float));
    }
  }
}

}  // namespace

Solution solve_on_cpu(const Problem& p) {
  Solution s(p);
  for (int64_t i = 0; i < p.n; ++i) solve_sample_on_cpu(p, i, &s);
  return s;
}
