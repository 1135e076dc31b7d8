// SPDX-License-Identifier: Apache-2.0
// Compiled once, without contraction of multiply-adds: ssad_kernels/reference/nsa_law.py has the
// same arithmetic in torch, which must give the same integers, and says which random number
// decides what. There all proposals are looked at; here the first one that is valid ends the
// search.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>

#include "nsa_masks.h"
#include "ssad/nsa.h"
#include "ssad/parallel.h"
#include "ssad/philox.h"
#include "ssad/view.h"

namespace ssad {
namespace {

using namespace SSAD_LEVEL;  // NOLINT(google-build-using-namespace)

constexpr int64_t kPatchBlocks = 4096, kSizeBlock = 1, kHalfBlock = 2, kEllipseBlock = 4;
constexpr int64_t kProposalBlock = 16;
constexpr int64_t kTableSize = 1025;
constexpr double kArea[2] = {0.02, 0.15}, kAspect[2] = {0.3, 3.3};  // of CutPaste
constexpr uint32_t kHalf = 0x80000000u;

double unit(uint32_t bits) { return (static_cast<double>(bits) + 0.5) * 0x1p-32; }

int64_t below(int64_t count, uint32_t bits) {
  return static_cast<int64_t>((static_cast<uint64_t>(count) * bits) >> 32);
}

// The bits of a float64 are its place in the table: see ssad_kernels/reference/quantiles.py.
double interpolate(const double* table, uint32_t tail) {
  const double number = static_cast<double>(tail) + 0.5;
  uint64_t bits;
  std::memcpy(&bits, &number, 8);
  const double* at = table + ((bits >> 47) - (uint64_t{1022} << 5));
  const double part = static_cast<double>(bits & ((uint64_t{1} << 47) - 1)) * 0x1p-47;
  return at[0] + (at[1] - at[0]) * part;
}

double gamma2(const double* tables, uint32_t bits) {
  return bits < kHalf ? interpolate(tables, bits) : interpolate(tables + kTableSize, ~bits);
}

double normal(const double* tables, uint32_t bits) {
  const double* table = tables + 2 * kTableSize;
  return bits < kHalf ? -interpolate(table, bits) : interpolate(table, ~bits);
}

double clamp(double value, double low, double high) { return std::min(std::max(value, low), high); }

struct Box {
  int64_t y, x, h, w;
};

struct Job {
  const int64_t* keys;
  int64_t stream, sources;
  NsaMasks masks;
  const NsaLaw& law;
  NsaDraws out;
  uint64_t* memory;  // of all workers; null for plain rectangles
  int64_t words;     // of one
  bool is_masked;    // object masks are looked at

  uint64_t* of_worker(int64_t worker, int64_t offset) const {
    return memory ? memory + worker * words + offset : nullptr;
  }
  int64_t height() const { return law.axes[0].size; }
  int64_t width() const { return law.axes[1].size; }
  // A worker has both object masks as bits, then the masks of a patch.
  int64_t mask_words() const { return height() * words_of(width()); }
};

// What is drawn for one sample.
class Sampler {
 public:
  Sampler(const Job& job, int64_t worker, int64_t sample)
      : job_(job),
        law_(job.law),
        key_(job.keys + 3 * sample),
        sample_(sample),
        source_{job.of_worker(worker, 0), words_of(job.width())},
        target_{job.of_worker(worker, job.mask_words()), source_.stride},
        patch_(job.of_worker(worker, 2 * job.mask_words()), law_.side,
               std::max(job.height(), job.width())) {}

  void run() {
    const Philox start = block(0);
    const int64_t n = job_.masks.n, i = sample_;
    int64_t image = i;
    if (job_.sources >= 0) {
      image = below(job_.sources, start.v[1]);
    } else if (n > 1 && !law_.same_source) {
      image = (i + 1 + below(n - 1, start.v[1])) % n;
    }
    job_.out.source_index[i] = image;
    job_.out.factor[i] = law_.factor[0] + (law_.factor[1] - law_.factor[0]) * unit(start.v[2]);

    const int64_t boxes = 4 * law_.patches;
    const int64_t reals = law_.has_ellipses ? 5 * kNsaEllipses * law_.patches : 0;
    std::fill_n(job_.out.source_box + i * boxes, boxes, 0);
    std::fill_n(job_.out.target_box + i * boxes, boxes, 0);
    std::fill_n(job_.out.ellipse + i * reals, reals, 0.0);
    std::fill_n(job_.out.apply + i * law_.patches, law_.patches, false);
    job_.out.status[i] = kGated;
    if (!(unit(start.v[0]) < law_.p)) return;
    job_.out.status[i] = kNoPlace;
    if (!fits()) return;

    if (job_.is_masked) {
      const int64_t h = job_.height(), w = job_.width();
      pack(job_.masks.source + image * h * w, w, h, w, source_);
      pack(job_.masks.target + i * h * w, w, h, w, target_);
    }
    for (int64_t j = 0; j < law_.patches; ++j) {
      if (draw(j)) job_.out.status[i] = kApplied;
    }
  }

 private:
  Philox block(int64_t number) const { return keyed_philox(key_, job_.stream, number); }

  bool fits() const {
    const auto has_sizes = [](const NsaAxis& axis) { return axis.half[0] <= axis.half[1]; };
    return law_.size == NsaSize::kCutPaste || (has_sizes(law_.axes[0]) && has_sizes(law_.axes[1]));
  }

  // Half sizes, but whole ones for CutPaste.
  Size size_of(const Philox& words, int64_t first) const {
    int64_t size[2];
    if (law_.size == NsaSize::kCutPaste) {
      const double pixels =
          (kArea[0] + (kArea[1] - kArea[0]) * unit(words.v[0])) *
          (static_cast<double>(job_.height()) * static_cast<double>(job_.width()));
      const bool is_flat = block(first + kHalfBlock).v[0] < kHalf;
      const double low = is_flat ? kAspect[0] : 1.0, high = is_flat ? 1.0 : kAspect[1];
      const double aspect = low + (high - low) * unit(words.v[1]);
      const double sides[2] = {std::sqrt(pixels * aspect), std::sqrt(pixels / aspect)};
      for (int k = 0; k < 2; ++k) {
        size[k] = std::max<int64_t>(static_cast<int64_t>(std::floor(sides[k] + 0.5)), 1);
      }
      return {size[0], size[1]};
    }
    for (int k = 0; k < 2; ++k) {
      const NsaAxis& axis = law_.axes[k];
      if (law_.size == NsaSize::kGamma) {
        const double share = law_.offset + law_.scale * gamma2(law_.quantiles, words.v[k]);
        size[k] = static_cast<int64_t>(std::floor(clamp(share * static_cast<double>(axis.size),
                                                        static_cast<double>(axis.half[0]),
                                                        static_cast<double>(axis.half[1]))));
      } else {
        const uint32_t word = words.v[law_.size == NsaSize::kSquare ? 0 : k];
        size[k] = axis.half[0] + below(std::max<int64_t>(axis.half[1] - axis.half[0], 1), word);
      }
    }
    return {size[0], size[1]};
  }

  // From and length of a proposal's window along an axis.
  void cut(const NsaAxis& axis, int64_t size, uint32_t word, int64_t* start,
           int64_t* length) const {
    if (law_.size == NsaSize::kCutPaste) {
      *start = below(std::max<int64_t>(axis.size - size + 1, 1), word);
      *length = size <= axis.size ? size : 0;
      return;
    }
    const int64_t range = axis.centre[1] - axis.centre[0];
    const int64_t centre = axis.centre[0] + below(std::max<int64_t>(range, 1), word);
    *start = std::max<int64_t>(centre - size, 0);
    *length = range > 0 ? std::min(centre + size, axis.size) - *start : 0;
  }

  bool find_source(Size size, int64_t first, Box* box) const {
    const bool is_tested = job_.is_masked && law_.object_share >= 0.0;
    const int64_t proposals = is_searched() ? law_.proposals : 1;
    for (int64_t k = 0; k < proposals; ++k) {
      const Philox words = block(first + kProposalBlock + k);
      cut(law_.axes[0], size.h, words.v[0], &box->y, &box->h);
      cut(law_.axes[1], size.w, words.v[1], &box->x, &box->w);
      if (box->h < 1 || box->w < 1) continue;
      if (!is_tested) return true;
      const int64_t count = count_window(source_, box->y, box->x, box->h, box->w);
      const double share = static_cast<double>(count) / static_cast<double>(box->h * box->w);
      if (share > law_.object_share) return true;
    }
    return false;
  }

  Size resized(const Box& box, uint32_t word) const {
    if (!law_.has_resize || law_.size == NsaSize::kCutPaste || !law_.shift) return {box.h, box.w};
    const auto bounded = [this](double value, int axis) {
      const int64_t* full = law_.axes[axis].full;
      return clamp(value, static_cast<double>(full[0]), static_cast<double>(full[1]));
    };
    const double factor =
        clamp(1.0 + law_.spread * normal(law_.quantiles, word), law_.resize[0], law_.resize[1]);
    const auto height = static_cast<double>(box.h), width = static_cast<double>(box.w);
    double tall = bounded(factor * height, 0);
    const double wide = bounded(std::floor(tall * width / height), 1);
    tall = bounded(std::floor(wide * height / width), 0);
    return {static_cast<int64_t>(tall), static_cast<int64_t>(wide)};
  }

  void draw_ellipses(Size half, const Box& box, Size to, int64_t first, double* rows) const {
    const double target[2] = {static_cast<double>(to.h), static_cast<double>(to.w)};
    const double before[2] = {static_cast<double>(box.h), static_cast<double>(box.w)};
    const int64_t halves[2] = {half.h, half.w};
    for (int64_t e = 0; e < kNsaEllipses; ++e, rows += 5) {
      const Philox words = block(first + kEllipseBlock + 2 * e);
      for (int k = 0; k < 2; ++k) {
        rows[k] = unit(words.v[k]) * target[k];
        const int64_t low = law_.axes[k].half[0];
        const int64_t count = std::max(halves[k] / 2, low + 1) - low;
        rows[2 + k] =
            static_cast<double>(low + below(count, words.v[2 + k])) * target[k] / before[k];
      }
      const double angle = 180.0 * unit(block(first + kEllipseBlock + 2 * e + 1).v[0]);
      rows[4] = static_cast<double>(static_cast<float>(angle));
    }
  }

  bool is_searched() const {
    return job_.is_masked && (law_.object_share >= 0.0 || law_.overlap >= 0.0);
  }

  // The corner of the target box, from proposals; the masks P and M_s are there if it is searched.
  bool find_target(const Box& from, Size to, int64_t first, Box* box) {
    const int64_t rooms[2] = {job_.height() - 2 * (to.h / 2) - 2,
                              job_.width() - 2 * (to.w / 2) - 2};
    if (law_.shift && (rooms[0] <= 0 || rooms[1] <= 0)) return false;
    int64_t whole = 0;
    if (is_searched()) {
      whole = count_window(patch_.own, 0, 0, to.h, to.w);
      const double share = static_cast<double>(whole) / static_cast<double>(to.h * to.w);
      if (law_.object_share >= 0.0 && !(share > law_.object_share)) return false;
    }
    const bool is_tested = is_searched() && law_.overlap >= 0.0;
    if (is_tested) {  // label has no other use yet: M_s and P
      for (int64_t k = 0; k < to.h * patch_.own.stride; ++k) {
        patch_.label.data[k] = patch_.own.data[k] & patch_.shape.data[k];
      }
    }
    const int64_t proposals = is_tested && law_.shift ? law_.proposals : 1;
    for (int64_t k = 0; k < proposals; ++k) {
      *box = {from.y, from.x, to.h, to.w};
      if (law_.shift) {
        const Philox words = block(first + kProposalBlock + k);
        box->y = 1 + below(rooms[0], words.v[2]);
        box->x = 1 + below(rooms[1], words.v[3]);
      }
      if (!is_tested) return true;
      const auto meets = static_cast<double>(overlap(*box));
      if (meets / static_cast<double>(std::max<int64_t>(whole, 1)) > law_.overlap) return true;
    }
    return false;
  }

  int64_t overlap(const Box& box) const {
    int64_t count = 0;
    for (int64_t y = 0; y < box.h; ++y) {
      const uint64_t* own = patch_.label.row(y);
      const uint64_t* target = target_.row(box.y + y);
      for (int64_t x = 0; x < box.w; x += 64) {
        count += popcount(window_of(target, box.x + x) & own[x >> 6]);
      }
    }
    return count;
  }

  // The rest of the patch's masks, once it has a place; false if there is too little to blend.
  bool finish(const Box& box) {
    const int64_t inner = std::max<int64_t>(box.h - 2, 0) * std::max<int64_t>(box.w - 2, 0);
    if (!law_.has_ellipses && inner < kNsaMinPixels) return false;
    if (!law_.has_ellipses && (!job_.is_masked || law_.is_reference)) return true;
    for (int64_t y = 0; y < box.h; ++y) {
      const uint64_t* own = patch_.own.row(y);
      uint64_t* objects = patch_.objects.row(y);
      for (int64_t x = 0; x < box.w; x += 64) {
        const uint64_t seen =
            job_.is_masked ? window_of(target_.row(box.y + y), box.x + x) & low_bits(box.w - x) : 0;
        objects[x >> 6] = own[x >> 6] | seen;
      }
      for (int64_t k = (box.w + 63) / 64; k < patch_.objects.stride; ++k) objects[k] = 0;
    }
    if (finish_masks(patch_, {box.h, box.w}) < kNsaMinPixels) return false;
    if (job_.is_masked && !law_.is_reference) add_label(box);
    return true;
  }

  // The target has got an object where the label is.
  void add_label(const Box& box) {
    const int64_t shift = box.x & 63;
    for (int64_t y = 0; y < box.h; ++y) {
      uint64_t* target = target_.row(box.y + y) + (box.x >> 6);
      const uint64_t* label = patch_.label.row(y);
      for (int64_t k = 0; 64 * k < box.w; ++k) {
        target[k] |= label[k] << shift;
        const uint64_t carry = shift == 0 ? 0 : label[k] >> (64 - shift);
        if (carry != 0) target[k + 1] |= carry;
      }
    }
  }

  bool draw(int64_t j) {
    const int64_t first = kPatchBlocks * j;
    const Philox words = block(first + kSizeBlock);
    if (j > 0 && words.v[3] >= kHalf) return false;
    const Size size = size_of(words, first);
    const bool is_whole = law_.size == NsaSize::kCutPaste;
    const Size half = is_whole ? Size{size.h / 2, size.w / 2} : size;
    Box from, box;
    if (!find_source(size, first, &from)) return false;
    const Size to = resized(from, words.v[2]);

    const int64_t count = law_.has_ellipses ? kNsaEllipses : 0;
    double ellipses[5 * kNsaEllipses];
    if (count > 0) draw_ellipses(half, from, to, first, ellipses);
    if (job_.is_masked || count > 0) {
      fill_shape(ellipses, count, to, law_.is_reference, patch_.shape);
      if (job_.is_masked) {
        resize_mask(source_, from.y, from.x, {from.h, from.w}, to, patch_);
      } else {
        fill_rectangle(patch_.own, to);
      }
    }
    if (!find_target(from, to, first, &box) || !finish(box)) return false;

    const int64_t row = sample_ * law_.patches + j;
    std::memcpy(job_.out.source_box + 4 * row, &from, sizeof(from));
    std::memcpy(job_.out.target_box + 4 * row, &box, sizeof(box));
    std::copy_n(ellipses, 5 * count, job_.out.ellipse + 5 * count * row);
    job_.out.apply[row] = true;
    return true;
  }

  const Job& job_;
  const NsaLaw& law_;
  const int64_t* key_;
  int64_t sample_;
  Bits source_, target_;
  PatchMasks patch_;
};

}  // namespace

bool sample_nsa(const int64_t* keys, int64_t stream, int64_t sources, const NsaMasks& masks,
                const NsaLaw& law, const NsaDraws& out, int64_t threads) {
  const bool is_tested = law.object_share >= 0.0 || law.overlap >= 0.0;
  Job job = {keys,    stream, sources,
             masks,   law,    out,
             nullptr, 0,      masks.source != nullptr && (is_tested || law.has_ellipses)};
  const auto n = static_cast<double>(masks.n);
  const auto side = static_cast<double>(law.side);
  const double masked = static_cast<double>(masks.h * masks.w) * 0.3 + side * side * 4.0;
  const double work =
      300.0 + (job.is_masked ? masked : 0.0) + (law.has_ellipses ? side * side * 10.0 : 0.0);
  threads = std::min(useful_threads(threads, n * work), std::max<int64_t>(masks.n, 1));
  std::unique_ptr<uint64_t[]> memory;
  if (job.is_masked || law.has_ellipses) {
    const int64_t most = std::max(masks.h, masks.w);
    job.words = 2 * job.mask_words() + PatchMasks::words(law.side, most);
    memory.reset(new (std::nothrow) uint64_t[threads * job.words]);
    if (!memory) return false;
    job.memory = memory.get();
  }
  parallel_for(
      masks.n, threads,
      [](void* context, int64_t worker, int64_t i) {
        Sampler(*static_cast<const Job*>(context), worker, i).run();
      },
      &job);
  return true;
}

}  // namespace ssad
