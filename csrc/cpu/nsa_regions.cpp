// SPDX-License-Identifier: Apache-2.0
// Compiled once, without contraction: see ssad_kernels/reference/nsa.py for the same in torch.
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "nsa_masks.h"
#include "ssad/nsa.h"
#include "ssad/parallel.h"

namespace ssad {
namespace {

using namespace SSAD_LEVEL;  // NOLINT(google-build-using-namespace)

struct Job {
  NsaParams params;
  int64_t patches, ellipses;
  NsaMasks masks;
  int64_t side;     // of the masks to paste
  int64_t largest;  // patch
  bool is_reference, pastes_label;
  bool* region;
  bool* paste;
  uint64_t* memory;  // of all workers; null for plain rectangles
  int64_t words;     // of one

  bool is_masked() const { return masks.source != nullptr; }
  int64_t window_words() const { return masks.h * words_of(masks.w); }
  uint64_t* of_worker(int64_t worker, int64_t offset) const {
    return memory ? memory + worker * words + offset : nullptr;
  }
};

// Whether a box has a pixel and lies in an image; no sum overflows.
bool is_within(const int64_t* box, int64_t height, int64_t width, int64_t side) {
  const int64_t y = box[0], x = box[1], h = box[2], w = box[3];
  return y >= 0 && x >= 0 && h >= 1 && w >= 1 && h <= side && w <= side && h <= height &&
         w <= width && y <= height - h && x <= width - w;
}

struct Worker {
  const Job& job;
  Bits window, seen;
  PatchMasks patch;

  Worker(const Job& all, int64_t number)
      : job(all),
        window{all.of_worker(number, 0), words_of(all.masks.w)},
        seen{all.of_worker(number, all.window_words()), window.stride},
        patch(all.of_worker(number, 2 * all.window_words()), all.largest,
              std::max(all.masks.h, all.masks.w)) {}

  // M_s, and where there is an object at all.
  void find_objects(int64_t i, const int64_t* from, const int64_t* to, const bool* region) {
    const int64_t w = job.masks.w, pixels = job.masks.h * w;
    const int64_t h2 = to[2], w2 = to[3];
    const bool* source = job.masks.source + job.params.source_index[i] * pixels;
    pack(source + from[0] * w + from[1], w, from[2], from[3], window);
    resize_mask(window, 0, 0, {from[2], from[3]}, {h2, w2}, patch);
    const int64_t corner = to[0] * w + to[1];
    pack(job.masks.target + i * pixels + corner, w, h2, w2, window);
    if (!job.is_reference) pack(region + corner, w, h2, w2, seen);
    for (int64_t y = 0; y < h2; ++y) {
      uint64_t* objects = patch.objects.row(y);
      for (int64_t k = 0; k < patch.objects.stride; ++k) {
        objects[k] = 64 * k < w2 ? patch.own.row(y)[k] | window.row(y)[k] : 0;
        if (!job.is_reference && 64 * k < w2) objects[k] |= seen.row(y)[k];
      }
    }
  }

  // The label of a patch: in place of what was there, or added.
  void write_label(const int64_t* to, bool* region) const {
    for (int64_t y = 0; y < to[2]; ++y) {
      bool* row = region + (to[0] + y) * job.masks.w + to[1];
      const uint64_t* label = patch.label.row(y);
      if (job.is_reference) {
        unpack(label, to[3], row);
        continue;
      }
      for (int64_t x = 0; x < to[3]; x += 64) {
        const int64_t count = std::min<int64_t>(to[3] - x, 64);
        bool before[64];
        std::memcpy(before, row + x, static_cast<size_t>(count));
        const uint64_t both = label[x >> 6] | pack_up_to_64(before, count);
        unpack(&both, count, row + x);
      }
    }
  }

  void write_paste(const int64_t* to, bool* paste) const {
    if (job.pastes_label) {
      for (int64_t y = 0; y < to[2]; ++y) unpack(patch.label.row(y), to[3], paste + y * job.side);
      return;
    }
    uint64_t* line = window.data;
    for (int64_t y = 1; y < to[2] - 1; ++y) {
      for (int64_t k = 0; 64 * k < to[3]; ++k) {
        const int64_t left = to[3] - 1 - 64 * k;
        const uint64_t inner = (left > 0 ? low_bits(left) : 0) & ~uint64_t{k == 0};
        line[k] = (patch.label.row(y)[k] | ~patch.objects.row(y)[k]) & inner;
      }
      unpack(line, to[3], paste + y * job.side);
    }
  }

  void run(int64_t i) {
    const int64_t h = job.masks.h, w = job.masks.w;
    bool* region = job.region + i * h * w;
    std::memset(region, 0, static_cast<size_t>(h * w));
    const int64_t square = job.side * job.side;
    if (job.paste) {
      std::memset(job.paste + i * job.patches * square, 0,
                  static_cast<size_t>(job.patches * square));
    }
    const int64_t image = job.params.source_index[i];
    if (job.is_masked() && (image < 0 || image >= job.masks.m)) return;
    for (int64_t j = 0; j < job.patches; ++j) {
      const int64_t row = i * job.patches + j;
      const int64_t* from = job.params.source_box + 4 * row;
      const int64_t* to = job.params.target_box + 4 * row;
      if (!job.params.apply[row] || !is_within(to, h, w, job.largest)) continue;
      if (job.is_masked() && !is_within(from, h, w, std::max(h, w))) continue;
      const Size size = {to[2], to[3]};
      if (job.ellipses == 0) {
        const int64_t inner = std::max<int64_t>(size.h - 2, 0) * std::max<int64_t>(size.w - 2, 0);
        if (inner < kNsaMinPixels) continue;
        if (!job.is_masked()) {
          for (int64_t y = 0; y < size.h; ++y) {
            std::memset(region + (to[0] + y) * w + to[1], 1, static_cast<size_t>(size.w));
          }
          continue;
        }
      }
      const double* ellipses = job.params.ellipse + 5 * job.ellipses * row;
      fill_shape(ellipses, job.ellipses, size, job.is_reference, patch.shape);
      if (job.is_masked()) {
        find_objects(i, from, to, region);
      } else {
        fill_rectangle(patch.objects, size);
      }
      if (finish_masks(patch, size) < kNsaMinPixels) continue;
      write_label(to, region);
      if (job.paste) write_paste(to, job.paste + row * square);
    }
  }
};

}  // namespace

bool nsa_regions(const NsaParams& params, int64_t patches, int64_t ellipses, const NsaMasks& masks,
                 int64_t side, bool is_reference, bool pastes_label, bool* region, bool* paste,
                 int64_t threads) {
  const int64_t longest = std::max(masks.h, masks.w);
  Job job = {params,       patches,      ellipses, masks, side,    std::min(side, longest),
             is_reference, pastes_label, region,   paste, nullptr, 0};
  const auto n = static_cast<double>(masks.n), pixels = static_cast<double>(masks.h * masks.w);
  const double pastes = paste ? static_cast<double>(patches * side * side) * 0.1 : 0.0;
  const bool is_plain = ellipses == 0 && !job.is_masked();
  const double work = pixels * (is_plain ? 0.05 : 0.4) + pastes;
  threads = std::min(useful_threads(threads, n * work), std::max<int64_t>(masks.n, 1));
  std::unique_ptr<uint64_t[]> memory;
  if (!is_plain) {
    job.words = 2 * job.window_words() + PatchMasks::words(job.largest, longest);
    memory.reset(new (std::nothrow) uint64_t[threads * job.words]);
    if (!memory) return false;
    job.memory = memory.get();
  }
  parallel_for(
      masks.n, threads,
      [](void* context, int64_t worker, int64_t i) {
        Worker(*static_cast<const Job*>(context), worker).run(i);
      },
      &job);
  return true;
}

}  // namespace ssad
