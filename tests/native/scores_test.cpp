// SPDX-License-Identifier: Apache-2.0
#include "scores_test.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "ssad/ranking.h"

namespace {

int64_t among(std::mt19937_64& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

// Any byte but 0 is true. Of the exact size, so that a sanitizer sees each one beyond.
std::unique_ptr<uint8_t[]> random_flags(std::mt19937_64& random, int64_t count, int64_t rarity) {
  auto flags = std::make_unique<uint8_t[]>(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const bool is_set = among(random, 1, rarity) == 1;
    flags[static_cast<size_t>(i)] = static_cast<uint8_t>(is_set ? among(random, 1, 255) : 0);
  }
  return flags;
}

// A NaN is above all numbers and equals itself.
template <class T>
bool is_above(T a, T b) {
  return std::isnan(a) ? !std::isnan(b) : a > b;
}

// Many ties, zeros of both signs, and all that is not finite.
template <class T>
std::vector<T> random_scores(std::mt19937_64& random, int64_t count) {
  const T odd[] = {T(-0.0), T(0.0), std::numeric_limits<T>::infinity(),
                   -std::numeric_limits<T>::infinity(), std::numeric_limits<T>::quiet_NaN()};
  const int64_t levels = random() % 2 ? 5 : 1 << 20;
  std::vector<T> scores(static_cast<size_t>(count));
  for (auto& score : scores) {
    score = random() % 20 == 0 ? odd[random() % 5] : static_cast<T>(among(random, -levels, levels));
  }
  return scores;
}

template <class T>
bool check_counts(std::mt19937_64& random, ssad::Dtype dtype) {
  const int64_t n = among(random, 0, 30), m = among(random, 0, random() % 3 ? 200 : 30000);
  const auto scores = random_scores<T>(random, n), others = random_scores<T>(random, m);
  const auto ignored = random_flags(random, m, among(random, 1, 4));
  const uint8_t* skipped = random() % 2 ? ignored.get() : nullptr;
  const int64_t most = random() % 2 ? among(random, 1, 50) : INT64_MAX;
  for (const int64_t threads : {1, 2}) {
    std::vector<int64_t> counts(static_cast<size_t>(2 * n), -7);
    if (!ssad::count_above(
            {scores.data(), n, others.data(), m, skipped, dtype, most, counts.data()}, threads)) {
      throw std::bad_alloc();
    }
    for (size_t i = 0; i < scores.size(); ++i) {
      int64_t above = 0, at_least = 0;
      for (size_t k = 0; k < others.size(); ++k) {
        if (skipped != nullptr && skipped[k] != 0) continue;
        above += is_above(others[k], scores[i]);
        at_least += !is_above(scores[i], others[k]);
      }
      if (above >= most) above = at_least = most;
      if (counts[2 * i] != above || counts[2 * i + 1] != at_least) return false;
    }
  }
  return true;
}

// Spreads from pixel to pixel; components are met in the order of their first pixels.
int64_t flood(const uint8_t* mask, int64_t h, int64_t w, std::vector<int32_t>* labels) {
  int32_t found = 0;
  std::vector<std::pair<int64_t, int64_t>> open;
  labels->assign(static_cast<size_t>(h * w), 0);
  for (int64_t start = 0; start < h * w; ++start) {
    if (mask[start] == 0 || (*labels)[static_cast<size_t>(start)] != 0) continue;
    (*labels)[static_cast<size_t>(start)] = ++found;
    open.assign(1, {start / w, start % w});
    while (!open.empty()) {
      const auto [y, x] = open.back();
      open.pop_back();
      for (int64_t v = std::max<int64_t>(y - 1, 0); v <= std::min(y + 1, h - 1); ++v) {
        for (int64_t u = std::max<int64_t>(x - 1, 0); u <= std::min(x + 1, w - 1); ++u) {
          int32_t& label = (*labels)[static_cast<size_t>(v * w + u)];
          if (mask[v * w + u] == 0 || label != 0) continue;
          label = found;
          open.emplace_back(v, u);
        }
      }
    }
  }
  return found;
}

}  // namespace

bool check_count_above(std::mt19937_64& random) {
  return check_counts<float>(random, ssad::Dtype::kFloat32) &&
         check_counts<double>(random, ssad::Dtype::kFloat64);
}

bool check_components(std::mt19937_64& random) {
  const int64_t n = among(random, 0, 4), h = among(random, 1, 40);
  const int64_t w = among(random, 1, random() % 2 ? 9 : 70);
  const auto masks = random_flags(random, n * h * w, among(random, 1, 5));
  for (const int64_t threads : {1, 2}) {
    std::vector<int32_t> labels(static_cast<size_t>(n * h * w), 77), expected;
    std::vector<int64_t> counts(static_cast<size_t>(n), 77);
    if (!ssad::connected_components({masks.get(), n, h, w, labels.data(), counts.data()},
                                    threads)) {
      throw std::bad_alloc();
    }
    for (int64_t i = 0; i < n; ++i) {
      const int64_t found = flood(masks.get() + i * h * w, h, w, &expected);
      if (counts[static_cast<size_t>(i)] != found) return false;
      if (!std::equal(expected.begin(), expected.end(), labels.begin() + i * h * w)) return false;
    }
  }
  return true;
}
