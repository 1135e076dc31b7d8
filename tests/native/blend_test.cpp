// SPDX-License-Identifier: Apache-2.0
#include "blend_test.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "ssad/blend.h"

namespace {

using ssad::BlendRegion;
using ssad::Dtype;
using ssad::MaskKind;

// Arrays of their exact size, so that a sanitizer sees each element beyond.
struct Batch {
  Dtype dtype;
  int64_t n, c, h, w;
  std::vector<char> data;

  Batch(std::mt19937_64& random, Dtype type, int64_t n_, int64_t c_, int64_t h_, int64_t w_)
      : dtype(type), n(n_), c(c_), h(h_), w(w_) {
    const auto count = static_cast<size_t>(n * c * h * w);
    data.resize(count * static_cast<size_t>(ssad::element_size(type)));
    for (size_t k = 0; k < count; ++k) {
      const auto level = static_cast<uint8_t>(random());
      const bool is_odd = random() % 997 == 0;
      const float value = is_odd ? NAN : static_cast<float>(level) / 255.0f;
      const double twice = value;
      const auto half = static_cast<uint16_t>(is_odd ? 0x7FC0 : 0x3800 + level);
      switch (type) {
        case Dtype::kUInt8: data[k] = static_cast<char>(level); break;
        case Dtype::kFloat32: std::memcpy(&data[4 * k], &value, 4); break;
        case Dtype::kFloat64: std::memcpy(&data[8 * k], &twice, 8); break;
        default: std::memcpy(&data[2 * k], &half, 2);
      }
    }
  }

  ssad::ImageView view(bool is_packed) {
    if (is_packed) return {data.data(), dtype, n, c, h, w, c * h * w, 1, w * c, c};
    return {data.data(), dtype, n, c, h, w, c * h * w, h * w, w, 1};
  }
};

template <class T>
T among(std::mt19937_64& random, T low, T high) {
  return std::uniform_int_distribution<T>(low, high)(random);
}

}  // namespace

bool check_blend(std::mt19937_64& random) {
  const Dtype dtypes[] = {Dtype::kUInt8, Dtype::kFloat16, Dtype::kBFloat16, Dtype::kFloat32,
                          Dtype::kFloat64};
  const int64_t hostile[] = {INT64_MIN, INT64_MAX, -1, int64_t{1} << 40, (1 << 24) - 1};
  const auto region = static_cast<BlendRegion>(random() % 3);
  const Dtype dtype = region == BlendRegion::kOpenCv ? Dtype::kUInt8 : dtypes[random() % 5];
  const auto side = [&] { return among<int64_t>(random, 1, random() % 2 ? 9 : 60); };
  const int64_t n = 5, c = among<int64_t>(random, 1, 4), h = side(), w = side();
  Batch target(random, dtype, n, c, h, w), source(random, dtype, n, c, side(), side());
  const auto kind = static_cast<MaskKind>(random() % 4);
  const int64_t mask_h = source.h + among<int64_t>(random, 0, 3);
  const int64_t mask_w = source.w + among<int64_t>(random, 0, 3);
  const auto pixels = static_cast<size_t>(n * mask_h * mask_w);
  std::vector<uint8_t> bytes(pixels);
  std::vector<float> values(pixels);
  const uint64_t holes = 1 + random() % 9;
  for (size_t k = 0; k < pixels; ++k) {
    const bool is_set = random() % holes != 0;
    bytes[k] = is_set ? static_cast<uint8_t>(kind == MaskKind::kBool ? 1 : random()) : 0;
    values[k] = is_set ? static_cast<float>(random() % 1000) * 0.001f : 0.0f;
  }
  std::vector<int64_t> top_left, sizes, index, box, gradient;
  std::vector<double> gain;
  for (int64_t i = 0; i < n; ++i) {
    for (const int64_t limit : {h, w}) top_left.push_back(among<int64_t>(random, -limit, limit));
    for (const int64_t limit : {source.h, source.w}) {
      sizes.push_back(among<int64_t>(random, 0, limit + 1));
      box.push_back(among<int64_t>(random, 0, limit / 2));
    }
    for (const int64_t limit : {source.h, source.w}) {
      box.push_back(among<int64_t>(random, 0, limit - limit / 2));
    }
    index.push_back(among<int64_t>(random, -1, 9) % (n + 1));
    gradient.push_back(among<int64_t>(random, -1, 11) % 5);
    gain.push_back(random() % 9 == 0 ? NAN : 0.5 + 0.1 * static_cast<double>(random() % 10));
    if (random() % 9 == 0) top_left[2 * i + random() % 2] = hostile[random() % 5];
    if (random() % 9 == 0) sizes[2 * i + random() % 2] = hostile[random() % 5];
    if (random() % 9 == 0) box[4 * i + random() % 4] = hostile[random() % 5];
  }
  const bool has_sizes = random() % 2, has_box = random() % 2, has_gain = random() % 2;
  auto solver = static_cast<ssad::PoissonSolver>(random() % 4);
  if (solver == ssad::kSine && region == BlendRegion::kMask && kind != MaskKind::kNone) {
    solver = ssad::kMultigrid;
  }
  if (region == BlendRegion::kOpenCv) solver = ssad::kSine;
  const bool is_packed = random() % 2;

  const std::vector<char> before = target.data;
  std::vector<char> expected;
  for (const int64_t threads : {1, 2}) {
    target.data = before;
    std::vector<int8_t> status(static_cast<size_t>(n), 99);
    const ssad::BlendProblem problem = {
        target.view(is_packed),
        source.view(!is_packed),
        kind == MaskKind::kNone      ? nullptr
        : kind == MaskKind::kFloat32 ? static_cast<const void*>(values.data())
                                     : bytes.data(),
        kind,
        mask_h,
        mask_w,
        {top_left.data(), has_sizes ? sizes.data() : nullptr, index.data(),
         has_box ? box.data() : nullptr, gradient.data(), has_gain ? gain.data() : nullptr,
         has_gain ? gain.data() : nullptr},
        region,
        {solver, 1e-4, 0.0, 100},
        status.data()};
    if (!ssad::poisson_blend(problem, threads)) throw std::bad_alloc();
    const size_t image = before.size() / static_cast<size_t>(n);
    for (int64_t i = 0; i < n; ++i) {
      if (status[i] < 0 || status[i] > ssad::kClipped) return false;
      const bool is_applied = status[i] == ssad::kApplied || status[i] == ssad::kClipped;
      const size_t at = static_cast<size_t>(i) * image;
      if (!is_applied && std::memcmp(&target.data[at], &before[at], image) != 0) return false;
    }
    if (threads == 2 && target.data != expected) return false;
    expected = target.data;
  }
  return true;
}
