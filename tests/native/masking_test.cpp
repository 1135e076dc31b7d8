// SPDX-License-Identifier: Apache-2.0
#include "masking_test.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <vector>

#include "ssad/masking.h"

namespace {

int64_t among(std::mt19937_64& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

// Any byte but 0 is visible. Of the exact size, so that a sanitizer sees each one beyond.
std::vector<uint8_t> random_masks(std::mt19937_64& random, int64_t count) {
  std::vector<uint8_t> masks(static_cast<size_t>(count));
  for (auto& mask : masks) mask = static_cast<uint8_t>(random() % 2 ? among(random, 1, 255) : 0);
  return masks;
}

template <class T>
std::vector<T> random_numbers(std::mt19937_64& random, int64_t count) {
  std::vector<T> numbers(static_cast<size_t>(count));
  for (auto& number : numbers) number = static_cast<T>(among(random, 0, 127));
  return numbers;
}

// Bits, of elements of any size.
template <class U>
bool check_masked(std::mt19937_64& random) {
  const int64_t n = among(random, 0, 2), parts = among(random, 1, 3), c = among(random, 1, 4);
  const int64_t pixels = among(random, 1, 90);
  const bool is_interleaved = c > 1 && random() % 2 == 0;
  const auto images = random_numbers<U>(random, n * c * pixels);
  const auto masks = random_masks(random, n * parts * pixels);
  for (const int64_t threads : {1, 2}) {
    std::vector<U> out(images.size() * static_cast<size_t>(parts), U{77});
    ssad::mask_images(
        {images.data(), masks.data(), out.data(), sizeof(U), n, parts, c, pixels, is_interleaved},
        threads);
    for (int64_t k = 0; k < static_cast<int64_t>(out.size()); ++k) {
      const int64_t plane = k / (c * pixels), within = k % (c * pixels);
      const int64_t pixel = is_interleaved ? within / c : within % pixels;
      const U own = images[static_cast<size_t>(plane / parts * c * pixels + within)];
      const bool is_visible = masks[static_cast<size_t>(plane * pixels + pixel)] != 0;
      if (out[static_cast<size_t>(k)] != (is_visible ? own : U{0})) return false;
    }
  }
  return true;
}

template <class T>
bool check_refined(std::mt19937_64& random, ssad::Dtype dtype) {
  const int64_t n = among(random, 0, 2), parts = among(random, 1, 3);
  const int64_t h = among(random, 1, 30), w = among(random, 1, 40);
  const auto scores = random_numbers<T>(random, n * h * w);
  const auto masks = random_masks(random, n * parts * h * w);
  std::vector<int64_t> cell(static_cast<size_t>(n), among(random, 1, 50));
  const std::vector<double> threshold(static_cast<size_t>(n), 63.5);
  const double share = random() % 2 ? -1.0 : 0.5;
  for (const int64_t threads : {1, 2}) {
    const auto refined = std::make_unique<bool[]>(masks.size());
    std::vector<int64_t> hidden(static_cast<size_t>(n), 77);
    if (!ssad::refine_cells({scores.data(), masks.data(), cell.data(), threshold.data(),
                             refined.get(), hidden.data(), dtype, n, parts, h, w, share},
                            threads)) {
      throw std::bad_alloc();
    }
    for (int64_t i = 0; i < n; ++i) {
      const int64_t side = cell[static_cast<size_t>(i)];
      int64_t count = 0;
      for (int64_t top = 0; top < h; top += side) {
        for (int64_t left = 0; left < w; left += side) {
          const int64_t bottom = std::min(top + side, h), right = std::min(left + side, w);
          double sum = 0.0, below = 0.0;
          for (int64_t y = top; y < bottom; ++y) {
            for (int64_t x = left; x < right; ++x) {
              const auto score =
                  static_cast<double>(scores[static_cast<size_t>((i * h + y) * w + x)]);
              sum += score, below += score < 63.5;
            }
          }
          const auto area = static_cast<double>((bottom - top) * (right - left));
          const bool is_normal = share < 0.0 ? sum < 63.5 * area : below > share * area;
          bool is_hidden = false;
          for (int64_t part = 0; part < parts; ++part) {
            for (int64_t y = top; y < bottom; ++y) {
              for (int64_t x = left; x < right; ++x) {
                const auto at = static_cast<size_t>(((i * parts + part) * h + y) * w + x);
                if (refined[at] != (is_normal || masks[at] != 0)) return false;
                is_hidden |= !refined[at];
              }
            }
          }
          count += is_hidden;
        }
      }
      if (hidden[static_cast<size_t>(i)] != count) return false;
    }
  }
  return true;
}

}  // namespace

bool check_cell_masks(std::mt19937_64& random) {
  const bool is_full = random() % 8 == 0;  // a bit for each set, and none of them short
  const int64_t n = among(random, 0, 3), h = is_full ? 8 : among(random, 1, 40);
  const int64_t w = is_full ? 4 : among(random, 1, 70);
  const auto kind = static_cast<ssad::CellMaskKind>(among(random, 0, 2));
  const bool is_board = kind == ssad::CellMaskKind::kCheckerboard;
  const bool is_random = kind == ssad::CellMaskKind::kBernoulli;
  const int64_t most = random() % 3 ? 4 : 32;
  const int64_t parts = is_board ? 2 : is_full ? 32 : among(random, 1, most);
  const uint64_t below = random() % 2 ? 0 : uint64_t{1} << 32;  // nothing is hidden, or everything
  std::vector<int64_t> keys(static_cast<size_t>(3 * n)), cell(static_cast<size_t>(n));
  for (auto& key : keys) key = static_cast<int64_t>(random());
  for (auto& side : cell) side = is_full ? 1 : among(random, -2, 50);
  for (const int64_t threads : {1, 2}) {
    const auto out = std::make_unique<bool[]>(static_cast<size_t>(n * parts * h * w));
    if (!ssad::cell_masks({keys.data(), cell.data(), out.get(), n, 10, h, w, parts, 1, kind, below},
                          threads)) {
      throw std::bad_alloc();
    }
    for (int64_t pixel = 0; pixel < n * h * w; ++pixel) {
      const bool* mask = out.get() + pixel / (h * w) * parts * h * w + pixel % (h * w);
      int64_t hidden = 0;
      for (int64_t part = 0; part < parts; ++part) hidden += !mask[part * h * w];
      if (hidden != (!is_random ? 1 : below == 0 ? 0 : parts)) return false;
    }
  }
  return true;
}

bool check_mask_images(std::mt19937_64& random) {
  return check_masked<uint8_t>(random) && check_masked<uint16_t>(random) &&
         check_masked<uint32_t>(random) && check_masked<uint64_t>(random);
}

bool check_composite(std::mt19937_64& random) {
  const int64_t n = among(random, 0, 2), parts = among(random, 1, 4), c = among(random, 1, 3);
  const int64_t pixels = among(random, 1, 1200);
  const auto outputs = random_numbers<float>(random, n * parts * c * pixels);
  const auto images = random_numbers<float>(random, n * c * pixels);
  const auto masks = random_masks(random, n * parts * pixels);
  for (const int64_t threads : {1, 2}) {
    std::vector<float> out(images.size(), -1.0f);
    ssad::composite({outputs.data(), masks.data(), images.data(), out.data(), ssad::Dtype::kFloat32,
                     n, parts, c, pixels},
                    threads);
    for (int64_t k = 0; k < static_cast<int64_t>(out.size()); ++k) {
      const int64_t image = k / (c * pixels), within = k % (c * pixels);
      float sum = 0.0f, count = 0.0f;
      for (int64_t part = image * parts; part < (image + 1) * parts; ++part) {
        if (masks[static_cast<size_t>(part * pixels + within % pixels)] != 0) continue;
        sum += outputs[static_cast<size_t>(part * c * pixels + within)];
        ++count;
      }
      const float own = images[static_cast<size_t>(k)];
      const float expected = count > 0.0f ? sum / count : own;
      if (!(std::abs(out[static_cast<size_t>(k)] - expected) < 1e-4f)) return false;
    }
  }
  return true;
}

bool check_refine_cells(std::mt19937_64& random) {
  return check_refined<float>(random, ssad::Dtype::kFloat32) &&
         check_refined<double>(random, ssad::Dtype::kFloat64);
}
