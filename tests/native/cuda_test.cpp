// SPDX-License-Identifier: Apache-2.0
// The kernels of csrc/cuda, run by csrc/emulation, against those of the CPU. Exits with 1 on a
// wrong result. An argument k leaves out all but every k-th problem.
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "cuda/poisson.h"
#include "cuda_problem.h"
#include "cuda_test.h"
#include "emulation/block.h"
#include "ssad/poisson.h"
#include "ssad/view.h"

namespace {

using ssad::emulation::counts;
using ssad::emulation::Fault;
using ssad::emulation::options;
using ssad::emulation::Order;

constexpr double kAllowedDifference = 1e-3;  // grey levels

using Random = std::mt19937_64;

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
  const Solution cpu = solve_on_cpu(p);
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

// Every side from 1 to 64, and some to 128, with all families and all sixteen kinds of borders in
// turn.
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
  for (int family = 0; family < kFamilies; ++family) {
    check(family, 5 * family % 16, 65 + 5 * family, 128 - 11 * family);
  }
  std::printf(
      "%d problems, every %d. of them: at most %.2g levels from the CPU, %d iterations, %d more or "
      "less\n",
      problems, every, worst.difference, worst.iterations, worst.more_iterations);
}

// The same for the other solvers. What is not reached in float32 is not asked for.
void check_other_solvers(int every) {
  Worst worst;
  Random random(8);
  int problems = 0;
  const auto check = [&](ssad::PoissonSolver solver, int family, int natural, int64_t h,
                         int64_t w) {
    if (++problems % every != 0) return;
    run_in(static_cast<Order>(problems % 3), random());
    Problem p = make_problem(family, natural, 1, 1 + problems % 2, h, w, random());
    p.solver = solver;
    p.tol = 1e-2;
    p.max_iterations = solver == ssad::kSor ? 150 : 40;
    for (int64_t k = 0; solver == ssad::kSine && k < p.pixels(); ++k) {
      p.mask[k] = k / w > 0 && k / w < h - 1 && k % w > 0 && k % w < w - 1;
    }
    const std::string what = "solver " + std::to_string(solver) + ", family " +
                             std::to_string(family) + ", borders " + std::to_string(natural) +
                             ", " + std::to_string(h) + " x " + std::to_string(w);
    compare(p, what, &worst);
  };
  for (int family = 0; family < kFamilies; ++family) {
    for (int i = 0; i < 4; ++i) {
      const int natural = (5 * family + 4 * i) % 16;
      check(ssad::kSor, family, natural, 8 + 7 * i, 32 - 9 * i);
      check(ssad::kJacobi, family, natural, 16 * i + 5, 37 - 12 * i);
    }
  }
  for (int64_t side = 1; side <= 66; side += 5) {
    const auto other = static_cast<int64_t>(1 + random() % 66);
    check(ssad::kSine, 0, kAllNatural, side, other);
    check(ssad::kSine, 0, kAllNatural, other, side);
  }
  std::printf("%d problems of other solvers: at most %.2g levels, %d iterations more or less\n",
              problems, worst.difference, worst.more_iterations);
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
  check(2, 1, 1, 40, 90);
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
  ssad::cuda::PoissonPlanes planes = {};
  planes.n = planes.c = planes.w = 1;
  planes.h = 129;
  CHECK(ssad::cuda::poisson_solve(planes, nullptr) != nullptr, "129 pixels fit");
}

// Leaves out each barrier of the block in a solve, one at a time: what is read too early, or
// overwritten, must show, as a fault or in the result.
void check_each_barrier(int64_t h, int64_t w) {
  Problem p = make_problem(5, kAllNatural, 1, 1, h, w, 2);
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

}  // namespace

int main(int count, char** arguments) {
  const int every = count > 1 ? std::atoi(arguments[1]) : 1;
  try {
    check_planted_faults();
    check_planted_traffic();
    check_against_cpu(every < 1 ? 1 : every);
    check_other_solvers(every < 1 ? 1 : every);
    check_orders();
    check_bad_values();
    check_each_barrier(24, 30);
    check_each_barrier(20, 70);
  } catch (const Fault& fault) {
    std::fprintf(stderr, "fault: %s\n", fault.what());
    return 1;
  }
  std::printf("ok\n");
  return 0;
}
