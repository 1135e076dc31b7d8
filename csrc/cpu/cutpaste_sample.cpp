// SPDX-License-Identifier: Apache-2.0
// Compiled once, without contraction of multiply-adds: see ssad_kernels/reference/cutpaste.py for
// the same arithmetic in torch, which must give the same integers.
#include <cmath>
#include <memory>
#include <new>

#include "ssad/cutpaste.h"
#include "ssad/philox.h"
#include "ssad/rotation.h"

namespace ssad {
namespace {

using SSAD_LEVEL::canvas_side;
using SSAD_LEVEL::keyed_philox;
using SSAD_LEVEL::Philox;
using SSAD_LEVEL::Rotation;
using SSAD_LEVEL::rotation;

// Which of a sample's 16 random numbers decides what. A slot is never reused, so that changing one
// option leaves all other draws as they were.
enum Slot {
  kGateSlot,
  kAreaSlot,
  kSideSlot,
  kAspectSlot,
  kAngleSlot,
  kSourceYSlot,
  kSourceXSlot,
  kTargetYSlot,
  kTargetXSlot,
  kJitterSlot,  // and the three after it
  kOrderSlot = 13,
  kSourceSlot = 14,
};

double uniform(uint32_t bits) { return (static_cast<double>(bits) + 0.5) * 0x1p-32; }

double between(double low, double high, uint32_t bits) {
  return low + (high - low) * uniform(bits);
}

int64_t below(int64_t count, uint32_t bits) {
  return static_cast<int64_t>((static_cast<uint64_t>(count) * bits) >> 32);
}

int64_t round_side(double side) {
  const auto pixels = static_cast<int64_t>(std::floor(side + 0.5));
  return pixels < 1 ? 1 : pixels;
}

// The `rank`-th permutation of 0..3 in lexicographic order.
void permutation(int64_t rank, int64_t* order) {
  int64_t left[4] = {0, 1, 2, 3};
  const int64_t weight[4] = {6, 2, 1, 1};
  for (int i = 0; i < 4; ++i) {
    const int64_t pick = rank / weight[i];
    rank %= weight[i];
    order[i] = left[pick];
    for (int64_t k = pick; k < 3 - i; ++k) left[k] = left[k + 1];
  }
}

}  // namespace

void sample_cut_paste(const int64_t* keys, int64_t n, int64_t stream, int64_t height, int64_t width,
                      const CutPasteLaw& law, const CutPasteDraws& out) {
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits[16];
    for (int block = 0; block < 4; ++block) {
      const Philox four = keyed_philox(keys + 3 * i, stream, block);
      for (int k = 0; k < 4; ++k) bits[4 * block + k] = four.v[k];
    }
    int64_t h, w;
    if (law.scar) {
      h = law.length[0] + below(law.length[1] - law.length[0] + 1, bits[kAreaSlot]);
      w = law.width[0] + below(law.width[1] - law.width[0] + 1, bits[kAspectSlot]);
    } else {
      const double pixels = between(law.area[0], law.area[1], bits[kAreaSlot]) *
                            (static_cast<double>(height) * static_cast<double>(width));
      const bool flat = bits[kSideSlot] < 0x80000000u;
      const double aspect =
          between(flat ? law.aspect[0] : 1.0, flat ? 1.0 : law.aspect[1], bits[kAspectSlot]);
      h = round_side(std::sqrt(pixels * aspect));
      w = round_side(std::sqrt(pixels / aspect));
    }
    const auto angle = static_cast<float>(between(law.angle[0], law.angle[1], bits[kAngleSlot]));
    const Rotation turn = rotation(angle);
    const int64_t canvas_h = canvas_side(h, w, turn);
    const int64_t canvas_w = canvas_side(w, h, turn);
    const bool fits = h <= height && w <= width && canvas_h <= height && canvas_w <= width;

    int64_t* box = out.source_box + 4 * i;
    box[0] = fits ? below(height - h + 1, bits[kSourceYSlot]) : 0;
    box[1] = fits ? below(width - w + 1, bits[kSourceXSlot]) : 0;
    box[2] = h, box[3] = w;
    // A patch that fits nowhere is aimed beyond the image, which the op reports as "no place".
    out.target[2 * i] = fits ? below(height - canvas_h + 1, bits[kTargetYSlot]) : height;
    out.target[2 * i + 1] = fits ? below(width - canvas_w + 1, bits[kTargetXSlot]) : width;
    out.angle[i] = angle;
    for (int k = 0; k < 4; ++k) {
      const double centre = k == kHue ? 0.0 : 1.0;
      const double low = centre - law.jitter[k];
      out.jitter[4 * i + k] = static_cast<float>(between(
          k != kHue && low < 0.0 ? 0.0 : low, centre + law.jitter[k], bits[kJitterSlot + k]));
    }
    permutation(below(24, bits[kOrderSlot]), out.order + 4 * i);
    const int64_t step = law.other_source && n > 1 ? 1 + below(n - 1, bits[kSourceSlot]) : 0;
    out.source_index[i] = (i + step) % n;
    out.apply[i] = uniform(bits[kGateSlot]) < law.p;
  }
}

void sample_hard(const int64_t* keys, int64_t n, int64_t coin_stream, int64_t height, int64_t width,
                 const CutPasteLaw& law, int64_t* order, int64_t* turns, int64_t* shift) {
  for (int64_t i = 0; i < n; ++i) {
    const Philox coins = keyed_philox(keys + 3 * i, coin_stream, 0);
    const Philox last = keyed_philox(keys + 3 * i, coin_stream, 1);
    const int64_t quarters = height == width ? 1 + below(3, coins.v[1]) : 2;
    turns[i] = uniform(coins.v[0]) < law.turn_p ? quarters : 0;
    const int64_t halves = uniform(coins.v[2]) < law.permute_p ? 1 + below(3, coins.v[3]) : 0;
    shift[2 * i] = (halves & 1) * (height / 2);
    shift[2 * i + 1] = (halves >> 1) * (width / 2);
    if (uniform(last.v[0]) < law.jitter_p) continue;
    for (int k = 0; k < 4; ++k) order[4 * i + k] = -1;
  }
}

bool cut_paste_keyed(const ImageView& from, const ImageView& to, const int64_t* keys,
                     const int64_t (&streams)[2], const CutPasteLaw& law, bool* mask,
                     int8_t* status, int64_t threads) {
  const int64_t n = from.n;
  std::unique_ptr<int64_t[]> integers(new (std::nothrow) int64_t[14 * n]);
  std::unique_ptr<float[]> reals(new (std::nothrow) float[5 * n]);
  std::unique_ptr<bool[]> apply(new (std::nothrow) bool[n]);
  if (!integers || !reals || !apply) return false;
  const CutPasteDraws draws = {integers.get(), integers.get() + n, integers.get() + 5 * n,
                               reals.get(),    reals.get() + n,    integers.get() + 7 * n,
                               apply.get()};
  sample_cut_paste(keys, n, streams[0], from.h, from.w, law, draws);
  CutPasteParams params = {draws.source_index, draws.source_box, draws.target,
                           draws.angle,        draws.jitter,     draws.order,
                           draws.apply,        nullptr,          nullptr};
  if (law.is_hard()) {
    int64_t* turns = integers.get() + 11 * n;
    int64_t* shift = integers.get() + 12 * n;
    sample_hard(keys, n, streams[1], from.h, from.w, law, draws.order, turns, shift);
    params.turns = turns, params.shift = shift;
  }
  return cut_paste(from, to, params, mask, status, threads);
}

}  // namespace ssad
