// SPDX-License-Identifier: Apache-2.0
#include "nsa_test.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <vector>

#include "ssad/blend.h"
#include "ssad/labels.h"
#include "ssad/nsa.h"

namespace {

using ssad::Dtype;
using ssad::Element;
using ssad::ImageView;

constexpr int64_t kHostile[] = {INT64_MIN, INT64_MAX, -1, int64_t{1} << 40, (1 << 24) - 1};

int64_t among(std::mt19937_64& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

int64_t some_side(std::mt19937_64& random) { return among(random, 1, random() % 2 ? 9 : 70); }

// Bytes 0 and 1 of the exact size, so that a sanitizer sees each one beyond.
std::vector<uint8_t> random_flags(std::mt19937_64& random, int64_t count) {
  std::vector<uint8_t> flags(static_cast<size_t>(count));
  const uint64_t rarity = 1 + random() % 9;
  for (auto& flag : flags) flag = random() % rarity == 0;
  return flags;
}

const bool* as_bool(const std::vector<uint8_t>& flags) {
  return reinterpret_cast<const bool*>(flags.data());
}

template <class T>
ImageView view_of(std::vector<T>& data, Dtype dtype, int64_t n, int64_t c, int64_t h, int64_t w) {
  return {data.data(), dtype, n, c, h, w, c * h * w, h * w, w, 1};
}

// Whether what `run(threads, &out)` writes is the same for one thread and two.
template <class T, class Run>
bool is_same(size_t count, const Run& run) {
  std::vector<T> first(count), second(count);
  std::memset(first.data(), 0x5A, count * sizeof(T));
  if (!run(1, first.data()) || !run(2, second.data())) throw std::bad_alloc();
  return std::memcmp(first.data(), second.data(), count * sizeof(T)) == 0;
}

std::vector<int64_t> random_boxes(std::mt19937_64& random, int64_t count, int64_t h, int64_t w) {
  std::vector<int64_t> boxes;
  for (int64_t i = 0; i < count; ++i) {
    for (const int64_t side : {h, w}) boxes.push_back(among(random, 0, side - 1));
    for (const int64_t side : {h, w}) boxes.push_back(among(random, 0, side));
    if (random() % 9 == 0) boxes[boxes.size() - 1 - random() % 4] = kHostile[random() % 5];
  }
  return boxes;
}

}  // namespace

bool check_medians(std::mt19937_64& random) {
  const int64_t n = 3, c = among(random, 1, 3), h = some_side(random), w = some_side(random);
  const auto count = static_cast<size_t>(n * c * h * w);
  const auto boxes = random_boxes(random, n, h, w);
  const int64_t* chosen = random() % 2 ? boxes.data() : nullptr;
  const int64_t radius = among(random, 1, ssad::kLargestRadius);

  std::vector<float> floats(count);
  for (auto& x : floats) x = random() % 99 == 0 ? NAN : static_cast<float>(random() % 50);
  const auto filter = [&](ImageView view, Element element, bool is_square) {
    return [=](int64_t threads, void* out) {
      return ssad::median_filter({view, element, radius, is_square, chosen, out}, threads);
    };
  };
  auto bytes = random_flags(random, static_cast<int64_t>(count));
  auto sums = std::vector<int16_t>(count);
  for (auto& sum : sums) sum = static_cast<int16_t>(random());
  const auto of_floats = view_of(floats, Dtype::kFloat32, n, c, h, w);
  const auto of_sums = view_of(sums, Dtype::kUInt8, n, c, h, w);
  const auto of_bytes = view_of(bytes, Dtype::kUInt8, n, c, h, w);
  return is_same<float>(count, filter(of_floats, Element::kFloat32, false)) &&
         is_same<int16_t>(count, filter(of_sums, Element::kInt16, false)) &&
         is_same<uint8_t>(count, filter(of_bytes, Element::kUInt8, false)) &&
         is_same<uint8_t>(count, filter(of_bytes, Element::kBool, random() % 2 == 0));
}

bool check_labels(std::mt19937_64& random) {
  const int64_t n = 3, c = among(random, 1, 4), h = some_side(random), w = some_side(random);
  const auto count = static_cast<size_t>(n * c * h * w), pixels = static_cast<size_t>(n * h * w);
  std::vector<uint8_t> before(count), after(count);
  for (auto& x : before) x = static_cast<uint8_t>(random());
  for (auto& x : after) x = static_cast<uint8_t>(random());
  auto region = random_flags(random, n * h * w);
  const std::vector<float> row(static_cast<size_t>(n), 0.25f);
  const auto kind = static_cast<ssad::LabelKind>(random() % 4);
  const ImageView first = view_of(before, Dtype::kUInt8, n, c, h, w);
  const ImageView second = view_of(after, Dtype::kUInt8, n, c, h, w);
  const ImageView inside = view_of(region, Dtype::kUInt8, n, 1, h, w);
  const int64_t size = 2 * among(random, 0, 7) + 1;
  const int64_t radius = among(random, 1, ssad::kLargestRadius);
  const bool has_labels = is_same<float>(pixels, [&](int64_t threads, float* out) {
    return ssad::difference_label({first, second, inside, kind, row.data(), row.data(), row.data(),
                                   static_cast<double>(c), size, radius, out},
                                  threads);
  });
  return has_labels &&
         is_same<uint8_t>(pixels,
                          [&](int64_t threads, uint8_t* out) {
                            return ssad::object_mask(
                                {first, 100, 200, false, size, reinterpret_cast<bool*>(out)},
                                threads);
                          }) &&
         is_same<uint8_t>(pixels, [&](int64_t threads, uint8_t* out) {
           return ssad::object_mask({first, 0, 0, true, size, reinterpret_cast<bool*>(out)},
                                    threads);
         });
}

bool check_nsa(std::mt19937_64& random) {
  const int64_t n = 4, m = 3, patches = among(random, 1, 3), e = random() % 2 ? 5 : 0;
  const int64_t h = some_side(random), w = some_side(random), side = some_side(random);
  const auto source = random_flags(random, m * h * w), target = random_flags(random, n * h * w);
  const bool is_masked = random() % 2;
  const ssad::NsaMasks masks = {
      is_masked ? as_bool(source) : nullptr, is_masked ? as_bool(target) : nullptr, m, n, h, w};
  std::vector<int64_t> index;
  for (int64_t i = 0; i < n; ++i) index.push_back(among(random, -1, m));
  const auto from = random_boxes(random, n * patches, h, w);
  const auto to = random_boxes(random, n * patches, h, w);
  std::vector<double> ellipse(static_cast<size_t>(n * patches * e * 5));
  const double odd[] = {NAN, INFINITY, -1e300, 1e300, 0.0};
  for (auto& x : ellipse) {
    x = random() % 29 == 0 ? odd[random() % 5] : static_cast<double>(random() % 40);
  }
  const std::vector<uint8_t> apply(static_cast<size_t>(n * patches), 1);
  const ssad::NsaParams params = {index.data(), from.data(), to.data(), ellipse.data(),
                                  as_bool(apply)};
  const bool is_reference = random() % 2, pastes_label = random() % 2;
  const bool has_pastes = e > 0 || (pastes_label && is_masked);
  const auto region = static_cast<size_t>(n * h * w);
  const size_t all = region + (has_pastes ? static_cast<size_t>(n * patches * side * side) : 0);
  return is_same<uint8_t>(all, [&](int64_t threads, uint8_t* out) {
    bool* to_region = reinterpret_cast<bool*>(out);
    return ssad::nsa_regions(params, patches, e, masks, side, is_reference, pastes_label, to_region,
                             has_pastes ? to_region + region : nullptr, threads);
  });
}
