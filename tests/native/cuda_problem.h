// SPDX-License-Identifier: Apache-2.0
// Problems for the solvers of csrc/cuda, and their solutions by them and by those of the CPU.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/poisson.h"

constexpr int kAllNatural = 15;
constexpr int kFamilies = 12;

// A batch that lies in images with a frame of one pixel around each plane, of which the sides that
// are natural are cut off for the CPU.
struct Problem {
  int64_t n, c, h, w;
  std::vector<uint8_t> natural;
  std::vector<float> rhs, image;
  std::unique_ptr<bool[]> mask;
  double tol = 1e-4;  // grey levels; the data's unit
  ssad::PoissonSolver solver = ssad::kMultigrid;
  int max_iterations = 40;

  int64_t pixels() const { return h * w; }
  int64_t framed_pixels() const { return (h + 2) * (w + 2); }
  const float* framed(int64_t plane) const { return image.data() + plane * framed_pixels(); }
};

Problem make_problem(int family, int natural, int64_t n, int64_t c, int64_t h, int64_t w,
                     uint64_t seed);

struct Solution {
  std::vector<float> values, residual;
  std::vector<int8_t> status;
  std::vector<int32_t> iterations;

  explicit Solution(const Problem& p);
  bool has_bits_of(const Solution& other) const;
};

Solution solve_emulated(const Problem& p);

// By the CPU's kernel, a sample at a time, with the frame where it counts.
Solution solve_on_cpu(const Problem& p);
