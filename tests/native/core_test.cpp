// SPDX-License-Identifier: Apache-2.0
// The core on its own, for sanitizers: random and hostile parameters, every dtype and layout, one
// and two threads. Exits with 1 on a wrong result, 2 if the processor lacks the level asked for.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <stdexcept>
#include <vector>

#include "blend_test.h"
#include "kernels.h"
#include "masking_test.h"
#include "nsa_keyed_test.h"
#include "nsa_test.h"
#include "perlin_test.h"
#include "poisson_sine.h"
#include "scores_test.h"
#include "similarity_test.h"
#include "ssad/cutpaste.h"
#include "ssad/poisson.h"
#include "upsample_test.h"

namespace {

using ssad::Dtype;

struct Params {
  std::vector<int64_t> source_index, source_box, target, order, turns, shift;
  std::vector<float> angle, jitter;
  std::unique_ptr<bool[]> apply;
  bool is_moved;

  ssad::CutPasteParams view() const {
    return {source_index.data(),
            source_box.data(),
            target.data(),
            angle.data(),
            jitter.data(),
            order.data(),
            apply.get(),
            is_moved ? turns.data() : nullptr,
            is_moved ? shift.data() : nullptr};
  }
};

Params random_params(std::mt19937_64& random, int64_t n, int64_t h, int64_t w) {
  const auto among = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  const int64_t hostile[] = {INT64_MIN, INT64_MAX, -1, int64_t{1} << 40, (1 << 24) - 1};
  const float bad[] = {0.0f, -3.0f, 1e30f, NAN, INFINITY};
  Params p;
  p.apply = std::make_unique<bool[]>(n);
  p.is_moved = among(0, 1);
  for (int64_t i = 0; i < n; ++i) {
    p.source_index.push_back(among(-1, n));
    for (const int64_t limit : {h, w}) p.source_box.push_back(among(-limit, limit));
    for (const int64_t limit : {h, w}) p.source_box.push_back(among(-1, limit + 3));
    for (const int64_t limit : {h, w}) p.target.push_back(among(-limit, limit));
    p.angle.push_back(among(0, 1) ? 0.0f : static_cast<float>(among(-720, 720)) * 0.37f);
    for (int k = 0; k < 4; ++k) {
      p.jitter.push_back(0.5f + 0.01f * static_cast<float>(among(0, 100)));
      p.order.push_back(among(-1, 5));
    }
    p.apply[i] = among(0, 9) > 0;
    p.turns.push_back(among(-9, 9));
    for (const int64_t limit : {h, w}) p.shift.push_back(among(-2 * limit, 2 * limit));
    if (among(0, 9) == 0) p.shift[2 * i + among(0, 1)] = hostile[among(0, 4)];
    if (among(0, 9) == 0) p.source_box[4 * i + among(0, 3)] = hostile[among(0, 4)];
    if (among(0, 9) == 0) p.target[2 * i + among(0, 1)] = hostile[among(0, 4)];
    if (among(0, 9) == 0) p.jitter[4 * i + among(0, 3)] = bad[among(0, 4)];
    if (among(0, 9) == 0) p.angle[i] = bad[among(0, 4)];
  }
  return p;
}

struct Result {
  std::vector<unsigned char> images, mask;
  std::vector<int8_t> status;
  bool operator==(const Result& other) const {
    return images == other.images && mask == other.mask && status == other.status;
  }
};

Result run(const std::vector<unsigned char>& start, Dtype dtype, int64_t n, int64_t c, int64_t h,
           int64_t w, bool packed, const Params& params, int64_t threads, bool is_copy) {
  Result result = {start, std::vector<unsigned char>(n * h * w, 7), std::vector<int8_t>(n, 99)};
  ssad::ImageView view = {result.images.data(), dtype, n, c, h, w, c * h * w, h * w, w, 1};
  if (packed) view.stride_c = 1, view.stride_y = w * c, view.stride_x = c;
  ssad::ImageView from = view;
  std::vector<unsigned char> source = start;
  if (is_copy) {
    from.data = source.data();
    for (auto& byte : result.images) byte = 0x55;
  }
  auto* mask = reinterpret_cast<bool*>(result.mask.data());
  if (!ssad::cut_paste(from, view, params.view(), mask, result.status.data(), threads)) {
    throw std::bad_alloc();
  }
  return result;
}

bool check(std::mt19937_64& random, Dtype dtype, int64_t n, int64_t c, int64_t h, int64_t w,
           bool packed) {
  std::vector<unsigned char> start(n * c * h * w * ssad::element_size(dtype));
  for (auto& byte : start) byte = static_cast<unsigned char>(random() & 0x3F);  // no NaN
  const Params params = random_params(random, n, h, w);
  const Result once = run(start, dtype, n, c, h, w, packed, params, 1, false);
  const Result again = run(start, dtype, n, c, h, w, packed, params, 2, false);
  const Result copy = run(start, dtype, n, c, h, w, packed, params, 2, true);
  if (!(once == again) || !(once == copy)) return false;
  const int64_t pixel = ssad::element_size(dtype);
  for (int64_t i = 0; i < n * h * w; ++i) {  // what the mask does not name is untouched
    if (once.mask[i] == 1) continue;
    if (once.mask[i] != 0) return false;
    for (int64_t k = 0; k < c; ++k) {
      const int64_t image = i / (h * w), at = i % (h * w);
      const int64_t element = packed ? i * c + k : (image * c + k) * h * w + at;
      if (std::memcmp(&start[element * pixel], &once.images[element * pixel], pixel)) return false;
    }
  }
  return true;
}

struct Solved {
  std::vector<float> u, residual;
  std::vector<int8_t> status;
  std::vector<int32_t> iterations;
};

Solved solve(const std::vector<float>& rhs, const bool* mask, const std::vector<float>& boundary,
             int64_t n, int64_t c, int64_t h, int64_t w, ssad::PoissonSolver solver,
             int64_t threads) {
  const auto planes = static_cast<size_t>(n * c);
  Solved s = {std::vector<float>(rhs.size()), std::vector<float>(planes),
              std::vector<int8_t>(planes, 99), std::vector<int32_t>(planes)};
  const ssad::PoissonProblem problem = {Dtype::kFloat32,
                                        n,
                                        c,
                                        h,
                                        w,
                                        rhs.data(),
                                        mask,
                                        boundary.data(),
                                        {solver, 1e-4, 0., 200},
                                        s.u.data(),
                                        s.status.data(),
                                        s.iterations.data(),
                                        s.residual.data()};
  if (!ssad::poisson_solve(problem, threads)) throw std::bad_alloc();
  return s;
}

bool is_same(const Solved& a, const Solved& b) {
  return std::memcmp(a.u.data(), b.u.data(), a.u.size() * sizeof(float)) == 0 &&
         a.status == b.status && a.iterations == b.iterations;
}

// Without a mask: every pixel but the outermost ones.
bool check_rectangle(const std::vector<float>& rhs, const std::vector<float>& boundary, int64_t n,
                     int64_t c, int64_t h, int64_t w) {
  for (const auto solver : {ssad::kSine, ssad::kMultigrid}) {
    const Solved once = solve(rhs, nullptr, boundary, n, c, h, w, solver, 1);
    const Solved again = solve(rhs, nullptr, boundary, n, c, h, w, solver, 2);
    if (!is_same(once, again)) return false;
    for (int64_t at = 0; at < n * c * h * w; ++at) {
      const int64_t y = at / w % h, x = at % w;
      if (y > 0 && y < h - 1 && x > 0 && x < w - 1) continue;
      if (std::memcmp(&once.u[at], &boundary[at], sizeof(float))) return false;
    }
    if (solver != ssad::kSine) continue;
    for (int64_t i = 0; i < n * c; ++i) {
      const bool is_hostile = once.status[i] == ssad::kNotFinite || once.residual[i] > 1e10f;
      if (!is_hostile && (once.status[i] != ssad::kApplied || once.residual[i] > 1e-3f)) {
        return false;
      }
    }
  }
  return true;
}

// Masks of every density; now and then a value that is not finite or huge.
bool check_poisson(std::mt19937_64& random, int64_t n, int64_t c, int64_t h, int64_t w) {
  const auto uniform = [&] { return static_cast<float>(random() % 1024) / 1024.0f; };
  const auto mask = std::make_unique<bool[]>(n * h * w);
  for (int64_t i = 0; i < n; ++i) {
    const float density = static_cast<float>(random() % 5) / 4.0f;
    for (int64_t k = 0; k < h * w; ++k) mask[i * h * w + k] = uniform() < density;
  }
  std::vector<float> rhs(n * c * h * w), boundary(rhs.size());
  for (auto& value : rhs) value = uniform() - 0.5f;
  for (auto& value : boundary) value = uniform();
  const float bad[] = {NAN, INFINITY, 3e38f, -1e-40f};
  boundary[random() % boundary.size()] = bad[random() % 4];
  for (const auto solver : {ssad::kMultigrid, ssad::kSor, ssad::kJacobi}) {
    const Solved once = solve(rhs, mask.get(), boundary, n, c, h, w, solver, 1);
    const Solved again = solve(rhs, mask.get(), boundary, n, c, h, w, solver, 2);
    if (!is_same(once, again)) return false;
    for (int64_t i = 0; i < n * c; ++i) {
      const bool is_solved = once.status[i] == ssad::kApplied;
      const bool may_fail = solver != ssad::kMultigrid && once.status[i] == ssad::kNotConverged;
      const bool is_hostile = once.status[i] == ssad::kNotFinite || once.residual[i] > 1e10f;
      if (!is_solved && !may_fail && !is_hostile) return false;
      for (int64_t k = 0; k < h * w; ++k) {
        const int64_t at = i * h * w + k;
        if (mask[i / c * h * w + k]) continue;
        if (std::memcmp(&once.u[at], &boundary[at], sizeof(float))) return false;
      }
    }
  }
  if (!check_rectangle(rhs, boundary, n, c, h, w)) return false;
  for (auto& value : rhs) value = 0.0f;
  return check_rectangle(rhs, boundary, n, c, h, w);
}

// The tables of one size after another in the same memory give the bits of fresh ones.
template <class T>
bool check_reuse(std::mt19937_64& random) {
  using ssad::SSAD_LEVEL::Sine;
  constexpr int64_t kMost = 70;
  const int64_t bytes = ssad::SSAD_LEVEL::sine_workspace_bytes(kMost, kMost, sizeof(T));
  const auto allocate = [&] {
    void* memory = ::operator new(static_cast<size_t>(bytes), std::align_val_t{64});
    std::memset(memory, 0xFF, static_cast<size_t>(bytes));  // NaN
    return static_cast<char*>(memory);
  };
  char* const old_memory = allocate();
  Sine<T> kept;
  bool is_good = true;
  for (int round = 0; round < 60; ++round) {
    const int64_t a = 1 + static_cast<int64_t>(random() % kMost), b = 1 + random() % kMost;
    const int64_t h = a > b ? a : b, w = a > b ? b : a;
    char* const new_memory = allocate();
    Sine<T> fresh;
    for (int channel = 0; channel < 2; ++channel) {
      prepare_sine(&kept, h, w, old_memory);
      prepare_sine(&fresh, h, w, new_memory);
      const bool frame_only = random() % 2 == 0;
      for (int64_t y = 0; y < h; ++y) {
        for (int64_t x = 0; x < w; ++x) {
          const bool is_frame = y == 0 || y == h - 1 || x == 0 || x == w - 1;
          const bool is_zero = frame_only && !is_frame;
          const T value = is_zero ? T{0} : static_cast<T>(random() % 256);
          kept.row(y)[x] = fresh.row(y)[x] = value;
        }
      }
      solve_sine(kept, frame_only);
      solve_sine(fresh, frame_only);
      for (int64_t y = 0; y < h; ++y) {
        const size_t row = static_cast<size_t>(w) * sizeof(T);
        is_good &= std::memcmp(kept.row(y), fresh.row(y), row) == 0;
        for (int64_t x = 0; x < w; ++x) is_good &= std::isfinite(kept.row(y)[x]);
      }
    }
    ::operator delete(new_memory, std::align_val_t{64});
  }
  ::operator delete(old_memory, std::align_val_t{64});
  return is_good;
}

}  // namespace

int main() {
  try {
    std::printf("level %s\n", ssad::kernels().level);
  } catch (const std::runtime_error& error) {
    std::printf("%s\n", error.what());
    return 2;
  }
  std::mt19937_64 random(1);
  for (int round = 0; round < 40; ++round) {
    for (const Dtype dtype :
         {Dtype::kUInt8, Dtype::kFloat16, Dtype::kBFloat16, Dtype::kFloat32, Dtype::kFloat64}) {
      const auto size = [&] { return static_cast<int64_t>(1 + random() % 70); };
      const int64_t c = 1 + static_cast<int64_t>(random() % 4);
      const bool packed = random() % 2 == 0;
      if (!check(random, dtype, 6, c, size(), size(), packed)) {
        std::printf("wrong: round %d dtype %d\n", round, static_cast<int>(dtype));
        return 1;
      }
    }
  }
  for (int round = 0; round < 60; ++round) {
    const auto size = [&] { return static_cast<int64_t>(1 + random() % (round % 2 ? 70 : 9)); };
    if (!check_poisson(random, 5, 1 + static_cast<int64_t>(random() % 3), size(), size())) {
      std::printf("wrong: poisson, round %d\n", round);
      return 1;
    }
  }
  for (int round = 0; round < 400; ++round) {
    if (!check_blend(random)) {
      std::printf("wrong: blend, round %d\n", round);
      return 1;
    }
  }
  for (int round = 0; round < 30; ++round) {
    if (!check_medians(random) || !check_labels(random) || !check_nsa(random)) {
      std::printf("wrong: medians, labels or regions, round %d\n", round);
      return 1;
    }
  }
  for (int round = 0; round < 60; ++round) {
    if (!check_nsa_keyed(random)) {
      std::printf("wrong: keyed anomalies, round %d\n", round);
      return 1;
    }
  }
  for (int round = 0; round < 100; ++round) {
    if (!check_count_above(random) || !check_components(random)) {
      std::printf("wrong: counts or components, round %d\n", round);
      return 1;
    }
  }
  for (int round = 0; round < 100; ++round) {
    if (!check_upsample(random)) {
      std::printf("wrong: upsampling, round %d\n", round);
      return 1;
    }
  }
  for (int round = 0; round < 100; ++round) {
    if (!check_cell_masks(random) || !check_mask_images(random) || !check_composite(random) ||
        !check_refine_cells(random)) {
      std::printf("wrong: masks of cells, round %d\n", round);
      return 1;
    }
  }
  for (int round = 0; round < 100; ++round) {
    if (!check_perlin(random)) {
      std::printf("wrong: noise, round %d\n", round);
      return 1;
    }
  }
  for (int round = 0; round < 40; ++round) {
    if (!check_similarity(random)) {
      std::printf("wrong: similarity, round %d\n", round);
      return 1;
    }
  }
  if (!check_reuse<float>(random) || !check_reuse<double>(random)) {
    std::printf("wrong: sine tables\n");
    return 1;
  }
  // Enough work for a second thread to be started.
  if (!check(random, Dtype::kFloat32, 128, 3, 128, 128, false)) return 1;
  std::printf("ok\n");
  return 0;
}
