// SPDX-License-Identifier: Apache-2.0
// Compiled once: integers alone. The runs of each row are joined with those of the row above.
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "ssad/parallel.h"
#include "ssad/ranking.h"

namespace ssad {
namespace {

constexpr double kNanosecondsPerPixel = 0.5;

struct Run {
  int32_t begin, end;  // pixels of the image
  int32_t parent;      // a run of the same component, at most its own number
};

struct Job {
  const ComponentsProblem& problem;
  Run* memory;   // of all workers
  int64_t most;  // runs of an image
};

// The first pixel from x on that is (not) set; whole words where there is nothing to see. Any byte
// but zero is set.
int64_t find_change(const uint8_t* mask, int64_t x, int64_t end, bool is_set) {
  const uint64_t plain = is_set ? 0x0101010101010101u : 0u;
  while (x + 8 <= end) {
    uint64_t word;
    std::memcpy(&word, mask + x, sizeof(word));
    if (word != plain) break;
    x += 8;
  }
  while (x < end && (mask[x] != 0) == is_set) ++x;
  return x;
}

int32_t root_of(Run* runs, int32_t run) {
  while (runs[run].parent != run) run = runs[run].parent = runs[runs[run].parent].parent;
  return run;
}

// The smaller number becomes the root: it is that of the run with the first pixel.
void join(Run* runs, int32_t a, int32_t b) {
  a = root_of(runs, a);
  b = root_of(runs, b);
  runs[std::max(a, b)].parent = std::min(a, b);
}

void label_image(const Job& job, int64_t worker, int64_t image) {
  const int64_t h = job.problem.h, w = job.problem.w;
  const uint8_t* mask = job.problem.masks + image * h * w;
  int32_t* labels = job.problem.labels + image * h * w;
  Run* runs = job.memory + worker * job.most;
  int32_t count = 0, above = 0;
  for (int64_t y = 0; y < h; ++y) {
    const int32_t first = count;  // of this row
    const int64_t row_end = (y + 1) * w;
    for (int64_t x = find_change(mask, y * w, row_end, false); x < row_end;) {
      const int64_t end = find_change(mask, x, row_end, true);
      runs[count] = {static_cast<int32_t>(x), static_cast<int32_t>(end), count};
      while (above < first && runs[above].end + w < x) ++above;
      for (int32_t i = above; i < first && runs[i].begin + w <= end; ++i) join(runs, i, count);
      ++count;
      x = find_change(mask, end, row_end, false);
    }
    above = first;
  }
  std::memset(labels, 0, h * w * sizeof(*labels));
  int32_t found = 0;
  for (int32_t i = 0; i < count; ++i) {
    Run& run = runs[i];
    // A parent comes before its children, so it has its label by now.
    run.parent = run.parent == i ? ++found : runs[run.parent].parent;
    std::fill(labels + run.begin, labels + run.end, run.parent);
  }
  job.problem.counts[image] = found;
}

}  // namespace

bool connected_components(const ComponentsProblem& problem, int64_t threads) {
  const int64_t most = problem.h * ((problem.w + 1) / 2);
  const double work = static_cast<double>(problem.n * problem.h * problem.w) * kNanosecondsPerPixel;
  const int64_t used = useful_threads(std::max<int64_t>(1, std::min(threads, problem.n)), work);
  const std::unique_ptr<Run[]> memory(new (std::nothrow) Run[used * most]);
  if (!memory) return false;
  Job job{problem, memory.get(), most};
  parallel_for(
      problem.n, used,
      [](void* context, int64_t worker, int64_t image) {
        label_image(*static_cast<const Job*>(context), worker, image);
      },
      &job);
  return true;
}

}  // namespace ssad
