// SPDX-License-Identifier: Apache-2.0
#include "ssad/nsa_keyed.h"

#include <algorithm>
#include <memory>
#include <new>
#include <vector>

#include "nsa_keyed_test.h"
#include "ssad/view.h"

namespace {

using ssad::Dtype;
using ssad::ImageView;
using ssad::NsaGradient;

int64_t among(std::mt19937_64& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

// Plain windows of even sizes, not resized: nothing of the tables of quantiles is needed.
ssad::NsaLaw random_law(std::mt19937_64& random, int64_t h, int64_t w, const double* quantiles) {
  ssad::NsaLaw law = {};
  law.p = random() % 4 ? 1.0 : 0.5;
  law.patches = random() % 2 ? 1 : among(random, 2, 3);
  law.object_share = random() % 2 ? -1.0 : 0.2;
  law.overlap = random() % 2 ? -1.0 : 0.2;
  law.proposals = 4;
  law.factor[0] = 0.2, law.factor[1] = 0.9;
  law.size = ssad::NsaSize::kUniform;
  law.has_ellipses = random() % 3 == 0;
  law.shift = random() % 4 != 0;
  law.same_source = random() % 4 == 0;
  const int64_t sizes[] = {h, w};
  for (int k = 0; k < 2; ++k) {
    const int64_t high = among(random, 3, sizes[k] / 3);
    law.axes[k] = {sizes[k], {among(random, high / 2, high), high}, {0, 0}, {0, sizes[k]}};
    law.side = std::max(law.side, std::min(2 * high, sizes[k]));
  }
  law.quantiles = quantiles;
  return law;
}

struct Result {
  std::vector<uint8_t> out;
  std::vector<float> label;
  std::vector<int8_t> status;
  bool operator==(const Result& other) const {
    return out == other.out && label == other.label && status == other.status;
  }
};

struct Batch {
  int64_t n, m, c, h, w;
  std::vector<uint8_t> images, bank;
  std::vector<int64_t> keys;
  std::unique_ptr<bool[]> masks, bank_masks;  // or null

  ImageView view(std::vector<uint8_t>& pixels, int64_t count) const {
    return {pixels.data(), Dtype::kUInt8, count, c, h, w, c * h * w, h * w, w, 1};
  }

  // From sample `first` on; the bank is there for all.
  Result run(ssad::NsaKeyedProblem problem, int64_t first, int64_t count, int64_t threads) const {
    const int64_t size = c * h * w;
    std::vector<uint8_t> some(images.begin() + first * size,
                              images.begin() + (first + count) * size);
    std::vector<uint8_t> sources = bank;
    Result result = {some, std::vector<float>(static_cast<size_t>(count * h * w), -9.0f),
                     std::vector<int8_t>(static_cast<size_t>(count), 99)};
    problem.images = view(some, count);
    problem.sources = view(sources, m);
    problem.out = view(result.out, count);
    problem.keys = keys.data() + 3 * first;
    problem.masks = masks ? masks.get() + first * h * w : nullptr;
    problem.source_masks = bank_masks.get();
    problem.label = result.label.data();
    problem.status = result.status.data();
    if (!ssad::nsa_keyed(problem, threads)) throw std::bad_alloc();
    return result;
  }
};

struct Draws {
  std::vector<int64_t> source, from, to;
  std::vector<double> ellipse, factor;
  std::unique_ptr<bool[]> apply;
  std::vector<int8_t> status;
};

Draws draw(const Batch& batch, const ssad::NsaKeyedProblem& problem) {
  const auto n = static_cast<size_t>(batch.n), all = n * static_cast<size_t>(problem.law.patches);
  Draws draws = {std::vector<int64_t>(n),       std::vector<int64_t>(4 * all),
                 std::vector<int64_t>(4 * all), std::vector<double>(25 * all),
                 std::vector<double>(n),        std::make_unique<bool[]>(all),
                 std::vector<int8_t>(n)};
  const ssad::NsaMasks masks = {
      batch.bank_masks.get(), batch.masks.get(), batch.m, batch.n, batch.h, batch.w};
  if (!ssad::sample_nsa(
          batch.keys.data(), problem.stream, batch.m, masks, problem.law,
          {draws.source.data(), draws.from.data(), draws.to.data(), draws.ellipse.data(),
           draws.apply.get(), draws.factor.data(), draws.status.data()},
          1)) {
    throw std::bad_alloc();
  }
  return draws;
}

// Nothing changes outside of the boxes that were drawn, and a single copied rectangle is the window
// that it was drawn from.
bool has_drawn(const Batch& batch, const ssad::NsaKeyedProblem& problem, const Result& found) {
  const Draws draws = draw(batch, problem);
  const int64_t c = batch.c, h = batch.h, w = batch.w, patches = problem.law.patches;
  const bool is_copy = problem.gradient == NsaGradient::kSwap && patches == 1 &&
                       !problem.law.has_ellipses && !batch.masks;
  const float most = problem.kind == ssad::LabelKind::kIntensity ? 255.0f : 1.0f;
  for (int64_t i = 0; i < batch.n; ++i) {
    const auto at = static_cast<size_t>(i);
    if (draws.status[at] != ssad::kApplied && found.status[at] != draws.status[at]) return false;
    for (int64_t y = 0; y < h; ++y) {
      for (int64_t x = 0; x < w; ++x) {
        const int64_t* inside = nullptr;
        int64_t patch = 0;
        for (int64_t j = i * patches; j < (i + 1) * patches; ++j) {
          const int64_t* box = draws.to.data() + 4 * j;
          if (draws.apply[static_cast<size_t>(j)] && y >= box[0] && x >= box[1] &&
              y < box[0] + box[2] && x < box[1] + box[3]) {
            inside = box, patch = j;
          }
        }
        const float label = found.label[static_cast<size_t>((i * h + y) * w + x)];
        if (!(label >= 0.0f && label <= most)) return false;
        // Between two patches a median fills corners.
        if (inside == nullptr && patches == 1 && label != 0.0f) return false;
        for (int64_t k = 0; k < c; ++k) {
          const auto pixel = static_cast<size_t>(((i * c + k) * h + y) * w + x);
          if (inside == nullptr) {
            if (found.out[pixel] != batch.images[pixel]) return false;
          } else if (is_copy) {
            const int64_t* from = draws.from.data() + 4 * patch;
            const int64_t row = from[0] + y - inside[0], column = from[1] + x - inside[1];
            const int64_t source = ((draws.source[at] * c + k) * h + row) * w + column;
            if (found.out[pixel] != batch.bank[static_cast<size_t>(source)]) return false;
          }
        }
      }
    }
  }
  return true;
}

}  // namespace

bool check_nsa_keyed(std::mt19937_64& random) {
  const int64_t n = among(random, 1, 4), m = among(random, 1, 3), c = among(random, 1, 3);
  const int64_t h = among(random, 12, 70), w = among(random, 12, 70);
  const auto random_pixels = [&](int64_t count) {
    std::vector<uint8_t> pixels(static_cast<size_t>(count * c * h * w));
    for (auto& pixel : pixels) pixel = static_cast<uint8_t>(random());
    return pixels;
  };
  const auto random_masks = [&](int64_t count) {
    auto masks = std::make_unique<bool[]>(static_cast<size_t>(count * h * w));
    for (int64_t k = 0; k < count * h * w; ++k) masks[static_cast<size_t>(k)] = random() % 4 != 0;
    return masks;
  };
  Batch batch = {n, m, c, h, w, random_pixels(n), random_pixels(m), {}, nullptr, nullptr};
  for (int64_t k = 0; k < 3 * n; ++k) batch.keys.push_back(static_cast<int64_t>(random() >> 1));
  if (random() % 2) batch.masks = random_masks(n), batch.bank_masks = random_masks(m);

  const std::vector<double> quantiles(3 * 1025);
  ssad::NsaKeyedProblem problem = {};
  problem.has_bank = true;
  problem.stream = 5, problem.coin_stream = 6;
  problem.law = random_law(random, h, w, quantiles.data());
  problem.gradient = random() % 3 ? static_cast<NsaGradient>(random() % 8) : NsaGradient::kSwap;
  problem.region = random() % 2 ? ssad::BlendRegion::kMask : ssad::BlendRegion::kRect;
  problem.options = {ssad::kSine, 1e-3, 0., 100};
  problem.kind = static_cast<ssad::LabelKind>(random() % 3);
  problem.steepness = 0.1f, problem.midpoint = 24.0f, problem.threshold = 8.0;
  problem.size = 3, problem.radius = 2;

  const Result whole = batch.run(problem, 0, n, 1);
  if (!(batch.run(problem, 0, n, 2) == whole) || !has_drawn(batch, problem, whole)) return false;
  const int64_t size = c * h * w;
  for (int64_t i = 0; i < n; ++i) {  // a sample does not see the others
    const Result alone = batch.run(problem, i, 1, 1);
    if (alone.status[0] != whole.status[static_cast<size_t>(i)] ||
        !std::equal(alone.out.begin(), alone.out.end(), whole.out.begin() + i * size) ||
        !std::equal(alone.label.begin(), alone.label.end(), whole.label.begin() + i * h * w)) {
      return false;
    }
  }
  return true;
}
