// SPDX-License-Identifier: Apache-2.0
// The kernels of csrc/cuda, run by csrc/emulation, against those of the CPU. Exits with 1 on a
// wrong result. An argument k leaves out all but every k-th problem.
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cuda/poisson.h"
#include "cuda_test.h"
#include "emulation/block.h"
#include "ssad/poisson.h"
#include "ssad/view.h"

namespace {

using ssad::emulation::counts;
using ssad::emulation::Fault;
using ssad::emulation::options;
using ssad::emulation::Order;

constexpr int kAllNatural = 15;
constexpr double kTol = 1e-4;  // grey levels; the data's unit
constexpr double kAllowedDifference = 1e-3;
constexpr int kFamilies = 12;

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

// A batch that lies in images with a frame of one pixel around each plane, of which the sides that
// are natural are cut off for the CPU.
struct Problem {
  int64_t n, c, h, w;
  std::vector<uint8_t> natural;
  std::vector<float> rhs, image;
  std::unique_ptr<bool[]> mask;
  double tol = kTol;
  int max_iterations = 40;

  int64_t pixels() const { return h * w; }
  int64_t framed_pixels() const { return (h + 2) * (w + 2); }
  const float* framed(int64_t plane) const { return image.data() + plane * framed_pixels(); }
};

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

struct Solution {
  std::vector<float> values, residual;
  std::vector<int8_t> status;
  std::vector<int32_t> iterations;

  explicit Solution(const Problem& p)
      : values(p.n * p.c * p.pixels()),
        residual(p.n * p.c),
        status(p.n * p.c),
        iterations(p.n * p.c) {}

  bool has_bits_of(const Solution& other) const {
    const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    return same(values, other.values) && same(residual, other.residual) && status == other.status &&
           iterations == other.iterations;
  }
};

Solution solve_emulated(const Problem& p) {
  Solution s(p);
  const ssad::cuda::PoissonPlanes planes = {p.n,
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
                                            s.residual.data()};
  const char* error = ssad::cuda::poisson_solve(planes, nullptr);
  CHECK(error == nullptr, "%s", error);
  return s;
}

// A sample by the CPU's kernel, with the frame where it counts.
void solve_on_cpu(const Problem& p, int64_t sample, Solution* s) {
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
                                        {ssad::kMultigrid, p.tol, 0.0, p.max_iterations},
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

// The largest difference, where neither is NaN; NaN must be at the same places.
double largest_difference(const Solution& a, const Solution& b) {
  double most = 0.0;
  for (size_t k = 0; k < a.values.size(); ++k) {
    CHECK(std::isnan(a.values[k]) == std::isnan(b.values[k]), "NaN at %zu in one of them", k);
    const double difference = std::fabs(static_cast<double>(a.values[k]) - b.values[k]);
    if (difference > most) most = difference;
  }
  return most;
}

struct Worst {
  double difference = 0.0;
  int iterations = 0, more_iterations = 0;
};

void compare(const Problem& p, const std::string& what, Worst* worst) {
  const Solution emulated = solve_emulated(p);
  Solution cpu(p);
  for (int64_t i = 0; i < p.n; ++i) solve_on_cpu(p, i, &cpu);
  const double difference = largest_difference(emulated, cpu);
  CHECK(difference <= kAllowedDifference, "%s: %g levels off", what.c_str(), difference);
  for (size_t k = 0; k < emulated.values.size(); ++k) {
    const auto plane = static_cast<int64_t>(k) / p.pixels();
    if (p.mask[plane / p.c * p.pixels() + static_cast<int64_t>(k) % p.pixels()]) continue;
    CHECK(emulated.values[k] == cpu.values[k], "%s: a known pixel changed", what.c_str());
  }
  for (size_t k = 0; k < emulated.status.size(); ++k) {
    CHECK(emulated.status[k] == cpu.status[k], "%s: status %d, on the CPU %d", what.c_str(),
          emulated.status[k], cpu.status[k]);
    const int more = std::abs(emulated.iterations[k] - cpu.iterations[k]);
    CHECK(more <= 1, "%s: %d iterations, on the CPU %d", what.c_str(), emulated.iterations[k],
          cpu.iterations[k]);
    worst->more_iterations = std::max(worst->more_iterations, more);
    worst->iterations = std::max(worst->iterations, emulated.iterations[k]);
  }
  worst->difference = std::max(worst->difference, difference);
}

void run_in(Order order, uint64_t seed) {
  options = {};
  options.order = order;
  options.seed = seed;
}

// Every side from 1 to 64, with all families and all sixteen kinds of borders in turn.
void check_against_cpu(int every) {
  Worst worst;
  Random random(7);
  int problems = 0;
  const auto check = [&](int family, int natural, int64_t h, int64_t w) {
    if (++problems % every != 0) return;
    const auto order = static_cast<Order>(problems % 3);
    run_in(order, random());
    const std::string what = "family " + std::to_string(family) + ", borders " +
                             std::to_string(natural) + ", " + std::to_string(h) + " x " +
                             std::to_string(w);
    compare(make_problem(family, natural, 1, 1 + problems % 2, h, w, random()), what, &worst);
  };
  for (int64_t side = 1; side <= 64; ++side) {
    const auto other = static_cast<int64_t>(1 + random() % 64);
    check(problems % kFamilies, kAllNatural, side, other);
    check(problems % kFamilies, static_cast<int>(random() % 16), other, side);
  }
  for (int family = 0; family < kFamilies; ++family) {
    check(family, kAllNatural, 64, 64);
    check(family, 0, 64, 64);
    for (int natural = 0; natural < 16; ++natural) check(family, natural, 9, 12);
  }
  for (int64_t h = 1; h <= 5; ++h) {
    for (int64_t w = 1; w <= 5; ++w) check(0, kAllNatural, h, w);
  }
  std::printf(
      "%d problems, every %d. of them: at most %.2g levels from the CPU, %d iterations, %d more or "
      "less\n",
      problems, every, worst.difference, worst.iterations, worst.more_iterations);
}

void check_orders() {
  const auto check = [](int family, int64_t n, int64_t c, int64_t h, int64_t w) {
    const Problem p = make_problem(family, kAllNatural, n, c, h, w, 11);
    run_in(Order::kForward, 0);
    const Solution first = solve_emulated(p);
    run_in(Order::kReverse, 0);
    CHECK(solve_emulated(p).has_bits_of(first), "other bits in reverse order");
    for (uint64_t seed = 0; seed < 4; ++seed) {
      run_in(Order::kRandom, seed);
      CHECK(solve_emulated(p).has_bits_of(first), "other bits with seed %d",
            static_cast<int>(seed));
    }
  };
  check(0, 1, 1, 64, 61);
  check(4, 1, 1, 64, 64);
  check(5, 2, 2, 27, 22);
  check(9, 2, 1, 30, 64);
}

// Nothing of a plane may reach another one; what is not looked at may be NaN.
void check_bad_values() {
  run_in(Order::kRandom, 3);
  Problem p = make_problem(2, kAllNatural, 3, 2, 20, 40, 5);
  const Solution good = solve_emulated(p);
  Problem ignored = make_problem(2, kAllNatural, 3, 2, 20, 40, 5);
  for (int64_t plane = 0; plane < p.n * p.c; ++plane) {
    for (int64_t k = 0; k < p.pixels(); ++k) {
      if (!p.mask[plane / p.c * p.pixels() + k]) ignored.rhs[plane * p.pixels() + k] = NAN;
    }
  }
  CHECK(solve_emulated(ignored).has_bits_of(good), "a NaN outside of the mask shows");
  for (const float bad : {NAN, INFINITY}) {
    p.rhs[3 * p.pixels() + 10 * p.w + 20] = bad;
    const Solution s = solve_emulated(p);
    for (int64_t plane = 0; plane < p.n * p.c; ++plane) {
      CHECK(s.status[plane] == (plane == 3 ? ssad::kNotFinite : ssad::kApplied), "status");
      for (int64_t k = 0; k < p.pixels(); ++k) {
        const bool is_unknown = p.mask[plane / p.c * p.pixels() + k];
        const float value = s.values[plane * p.pixels() + k];
        if (plane == 3 && is_unknown) {
          CHECK(std::isnan(value), "a value of a plane that is not finite");
        } else {
          CHECK(value == good.values[plane * p.pixels() + k], "another plane's value");
        }
      }
    }
  }
  p = make_problem(2, kAllNatural, 1, 1, 20, 40, 5);
  p.max_iterations = 1;
  const Solution stopped = solve_emulated(p);
  CHECK(stopped.status[0] == ssad::kNotConverged && stopped.iterations[0] == 1, "no safety stop");
  p = make_problem(2, kAllNatural, 1, 1, 65, 40, 5);
  Solution s(p);
  ssad::cuda::PoissonPlanes planes = {};
  planes.n = planes.c = planes.w = 1;
  planes.h = 65;
  CHECK(ssad::cuda::poisson_solve(planes, nullptr) != nullptr, "65 pixels fit");
}

// Leaves out each barrier of the block in a solve, one at a time: what is read too early, or
// overwritten, must show, as a fault or in the result.
void check_each_barrier() {
  Problem p = make_problem(5, kAllNatural, 1, 1, 24, 30, 2);
  p.max_iterations = 1;
  run_in(Order::kForward, 0);
  counts = {};
  const Solution good = solve_emulated(p);
  const int64_t barriers = counts.barriers;
  int64_t unnoticed = 0;
  std::string which;
  for (int64_t i = 0; i < barriers; ++i) {
    run_in(Order::kForward, 0);
    options.omitted_barrier = i;
    try {
      const Solution s = solve_emulated(p);
      if (s.has_bits_of(good)) {
        ++unnoticed;
        which += " " + std::to_string(counts.omitted_line);
      }
    } catch (const Fault&) {
    }
  }
  options = {};
  std::printf("%d barriers in a solve, left out one by one: %d not missed, in lines%s\n",
              static_cast<int>(barriers), static_cast<int>(unnoticed), which.c_str());
  // Those after a reduction, where another barrier happens to follow before the slots are used
  // again, and the last one of a cycle.
  CHECK(unnoticed * 5 <= barriers, "too many barriers are not missed");
}

// What a solve costs in shared memory, for docs/design/003-gpu-slice.md.
void print_traffic() {
  run_in(Order::kForward, 0);
  Problem p = make_problem(0, 0, 1, 1, 64, 64, 1);
  p.tol = 0.0;
  counts = {};
  p.max_iterations = 1;
  solve_emulated(p);
  const ssad::emulation::Counts one = counts;
  counts = {};
  p.max_iterations = 2;
  solve_emulated(p);
  const double points = 64.0 * 64.0;
  std::printf("64 x 64, an iteration: %.1f shared reads and %.1f writes a point, %d barriers\n",
              static_cast<double>(counts.shared_reads - one.shared_reads) / points,
              static_cast<double>(counts.shared_writes - one.shared_writes) / points,
              static_cast<int>(counts.barriers - one.barriers));
  std::printf("64 x 64, the rest: %.1f shared reads and %.1f writes a point, %d barriers\n",
              static_cast<double>(2 * one.shared_reads - counts.shared_reads) / points,
              static_cast<double>(2 * one.shared_writes - counts.shared_writes) / points,
              static_cast<int>(2 * one.barriers - counts.barriers));
}

}  // namespace

int main(int count, char** arguments) {
  const int every = count > 1 ? std::atoi(arguments[1]) : 1;
  try {
    check_planted_faults();
    check_against_cpu(every < 1 ? 1 : every);
    check_orders();
    check_bad_values();
    check_each_barrier();
    print_traffic();
  } catch (const Fault& fault) {
    std::fprintf(stderr, "fault: %s\n", fault.what());
    return 1;
  }
  std::printf("ok\n");
  return 0;
}
