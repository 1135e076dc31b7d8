// SPDX-License-Identifier: Apache-2.0
#include "similarity_test.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <vector>

#include "ssad/similarity.h"

namespace {

using ssad::Dtype;
using ssad::GmsKind;
using ssad::ImageView;

int64_t among(std::mt19937_64& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

// The squared slopes of one plane of one channel; (y, x) is where their window begins.
double square_at(const double* plane, int64_t h, int64_t w, int64_t y, int64_t x) {
  double median[3][3];
  for (int64_t i = 0; i < 9; ++i) {
    std::vector<double> window;
    for (int64_t k = 0; k < 9; ++k) {
      const int64_t v = y + i / 3 + k / 3 - 1, u = x + i % 3 + k % 3 - 1;
      window.push_back(v < 0 || v >= h || u < 0 || u >= w ? 0.0 : plane[v * w + u]);
    }
    std::nth_element(window.begin(), window.begin() + 4, window.end());
    median[i / 3][i % 3] = window[4];
  }
  double dx = 0.0, dy = 0.0;
  for (int64_t k = 0; k < 3; ++k) {
    dx += (median[k][2] - median[k][0]) / 3, dy += (median[2][k] - median[0][k]) / 3;
  }
  return dx * dx + dy * dy + std::pow(2.0, -52);
}

// The loss of one scale and one channel.
bool check_values(std::mt19937_64& random) {
  const int64_t h = among(random, 3, 40), w = among(random, 3, 40);
  std::vector<double> a(static_cast<size_t>(h * w)), b(a.size());
  for (double& value : a) value = static_cast<double>(among(random, 0, 9)) / 9.0;
  for (double& value : b) value = static_cast<double>(among(random, 0, 9)) / 9.0;
  double sum = 0.0;
  for (int64_t y = 0; y < h - 2; ++y) {
    for (int64_t x = 0; x < w - 2; ++x) {
      const double p = square_at(a.data(), h, w, y, x), q = square_at(b.data(), h, w, y, x);
      sum += 1.0 - (2.0 * std::sqrt(p * q) + 0.01) / (p + q + 0.01);
    }
  }
  const auto view = [&](std::vector<double>& from) -> ImageView {
    return {from.data(), Dtype::kFloat64, 1, 1, h, w, h * w, h * w, w, 1};
  };
  double loss = 0.0;
  if (!ssad::gms({GmsKind::kLoss, view(a), view(b), 1, 0.01, nullptr, &loss}, 1)) {
    throw std::bad_alloc();
  }
  return std::abs(loss - sum / static_cast<double>((h - 2) * (w - 2))) < 1e-10;
}

// All kinds of results, by one thread and by three; `T` is stored, `R` computed.
template <class T, class R>
bool check_threads(std::mt19937_64& random, Dtype dtype) {
  const int64_t scales = among(random, 1, 4), least = 3 << (scales - 1);
  const int64_t n = among(random, 1, 3), c = among(random, 1, 4);
  const int64_t h = among(random, least, random() % 9 == 0 ? 600 : 70);
  const int64_t w = among(random, least, 70), pixels = n * c * h * w;
  std::vector<T> a(static_cast<size_t>(pixels)), b(a.size());
  for (T& value : a) value = static_cast<T>(among(random, 0, 1));
  for (T& value : b) value = static_cast<T>(among(random, 0, 1));
  const auto view = [&](std::vector<T>& from) -> ImageView {
    return {from.data(), dtype, n, c, h, w, c * h * w, h * w, w, 1};
  };
  std::vector<R> gradient(static_cast<size_t>(pixels), R{1});
  const std::vector<double> taps = {0.25, 0.5, 0.25};
  const auto run = [&](int64_t threads) {
    std::vector<R> map(static_cast<size_t>(n * h * w)), loss(static_cast<size_t>(n));
    std::vector<R> of_loss(map.size()), structure(a.size()), of_structure(a.size());
    const bool done =
        ssad::gms({GmsKind::kMap, view(a), view(b), scales, 0.01, nullptr, map.data()}, threads) &&
        ssad::gms({GmsKind::kLoss, view(a), view(b), scales, 0.01, nullptr, loss.data()},
                  threads) &&
        ssad::gms(
            {GmsKind::kGradient, view(a), view(b), scales, 0.01, gradient.data(), of_loss.data()},
            threads) &&
        ssad::ssim({view(a), view(b), taps.data(), 3, nullptr, structure.data()}, threads) &&
        ssad::ssim({view(a), view(b), taps.data(), 3, gradient.data(), of_structure.data()},
                   threads);
    if (!done) throw std::bad_alloc();
    for (const auto* more : {&loss, &of_loss, &structure, &of_structure}) {
      map.insert(map.end(), more->begin(), more->end());
    }
    return map;
  };
  const std::vector<R> one = run(1), three = run(3);
  return std::memcmp(one.data(), three.data(), one.size() * sizeof(R)) == 0;
}

}  // namespace

bool check_similarity(std::mt19937_64& random) {
  return check_values(random) && check_threads<uint8_t, float>(random, Dtype::kUInt8) &&
         check_threads<uint16_t, float>(random, Dtype::kFloat16) &&
         check_threads<uint16_t, float>(random, Dtype::kBFloat16) &&
         check_threads<float, float>(random, Dtype::kFloat32) &&
         check_threads<double, double>(random, Dtype::kFloat64);
}
