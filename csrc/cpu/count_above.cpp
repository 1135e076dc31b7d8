// SPDX-License-Identifier: Apache-2.0
// Compiled once: integers alone. The scores are sorted, and what they are ranked among in chunks;
// both are then walked through together. Tables of where the scores lie, instead, are slow to look
// up: they miss the cache, or the guess of a branch.
#include <algorithm>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "ssad/parallel.h"
#include "ssad/ranking.h"

namespace ssad {
namespace {

// The least fits the cache. The scores are gone through once per chunk, so with many of them there
// are fewer chunks.
constexpr int64_t kLeastChunk = 1 << 18, kChunkPerScore = 4;
constexpr double kNanoseconds = 10.0;  // to sort one

// Integers that are in the order of the floats; -0 equals 0, and a NaN is above all.
uint32_t key_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if ((bits << 1) > 0xff000000u) return UINT32_MAX;
  if ((bits << 1) == 0) return 0x80000000u;
  return bits ^ (static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31) | 0x80000000u);
}

uint64_t key_of(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if ((bits << 1) > uint64_t{0x7ff} << 53) return UINT64_MAX;
  if ((bits << 1) == 0) return uint64_t{1} << 63;
  return bits ^ (static_cast<uint64_t>(static_cast<int64_t>(bits) >> 63) | uint64_t{1} << 63);
}

constexpr int kDigitBits = 11, kDigits = 1 << kDigitBits;
constexpr int64_t kSample = 1 << 17;  // from which the largest are guessed
constexpr double kMargin = 1.05;
constexpr double kWorthwhile = 0.7;  // of what would be sorted without a guess

template <class Key>
struct Ranked {
  Key key;
  int64_t index;
};

template <class Key>
Key key_in(Key key) {
  return key;
}

template <class Key>
Key key_in(const Ranked<Key>& item) {
  return item.key;
}

// Sorts `count` items by their keys, with as much room besides; returns where they then are.
template <class Item>
Item* radix_sort(Item* items, Item* room, int64_t count) {
  constexpr int kBits = 8 * sizeof(key_in(*items));
  constexpr int kPasses = (kBits + kDigitBits - 1) / kDigitBits;
  const auto digit = [](const Item& item, int pass) {
    return key_in(item) >> (pass * kDigitBits) & (kDigits - 1);
  };
  int64_t starts[kPasses][kDigits] = {};
  for (int64_t i = 0; i < count; ++i) {
    for (int pass = 0; pass < kPasses; ++pass) ++starts[pass][digit(items[i], pass)];
  }
  for (int pass = 0; pass < kPasses && count > 0; ++pass) {
    if (starts[pass][digit(items[0], pass)] == count) continue;  // all alike
    int64_t start = 0;
    for (int64_t& place : starts[pass]) start += std::exchange(place, start);
    for (int64_t i = 0; i < count; ++i) room[starts[pass][digit(items[i], pass)]++] = items[i];
    std::swap(items, room);
  }
  return items;
}

struct Counts {
  int64_t above, at_least;
};

// One worker's.
template <class Key>
struct Tally {
  int64_t high = 0;  // how many are not below the guess
  std::vector<Key> keys, room;
  std::vector<Counts> counts;  // of each score
};

template <class T, class Key>
class Job {
 public:
  Job(const CountProblem& problem, int64_t threads)
      : problem_(problem), items_(problem.n), room_(problem.n) {
    const double work = kNanoseconds * static_cast<double>(problem.m);
    tallies_.resize(useful_threads(std::max<int64_t>(1, threads), work));
  }

  void run() {
    for (int64_t i = 0; i < problem_.n; ++i) {
      items_[i] = {key_of(static_cast<const T*>(problem_.scores)[i]), i};
    }
    const Ranked<Key>* sorted = radix_sort(items_.data(), room_.data(), problem_.n);
    lowest_ = sorted[0].key;
    if (problem_.most < problem_.m) find_lowest();
    for (int64_t i = 0; i < problem_.n; ++i) {
      const Key key = sorted[i].key;
      if (key >= lowest_ && (scores_.empty() || key != scores_.back())) scores_.push_back(key);
    }
    const auto distinct = static_cast<int64_t>(scores_.size());
    const int64_t chunk = std::min(problem_.m, std::max(kLeastChunk, kChunkPerScore * distinct));
    const int64_t chunks = (problem_.m + chunk - 1) / std::max<int64_t>(1, chunk);
    if (chunks < static_cast<int64_t>(tallies_.size())) {
      tallies_.resize(std::max<int64_t>(1, chunks));
    }
    for (Tally<Key>& tally : tallies_) {
      tally.keys.resize(chunk);
      tally.room.resize(chunk);
      tally.counts.resize(distinct);
    }
    if (distinct > 0) in_chunks<&Job::count>(chunk);
    add_tallies();
    const std::vector<Counts>& all = tallies_[0].counts;
    for (int64_t i = 0, at = 0; i < problem_.n; ++i) {
      int64_t* counts = problem_.counts + 2 * sorted[i].index;
      counts[0] = counts[1] = problem_.most;
      if (sorted[i].key < lowest_) continue;
      at += sorted[i].key != scores_[at];
      if (all[at].above < problem_.most) {
        counts[0] = all[at].above;
        counts[1] = all[at].at_least;
      }
    }
  }

 private:
  template <void (Job::*kBody)(Tally<Key>&, int64_t, int64_t)>
  void in_chunks(int64_t chunk) {
    if (problem_.m == 0) return;
    chunk_ = chunk;
    parallel_for((problem_.m + chunk - 1) / chunk, static_cast<int64_t>(tallies_.size()),
                 [](void* context, int64_t worker, int64_t number) {
                   Job& job = *static_cast<Job*>(context);
                   const int64_t begin = number * job.chunk_;
                   const int64_t end = std::min(job.problem_.m, begin + job.chunk_);
                   (job.*kBody)(job.tallies_[worker], begin, end);
                 },
                 this);
  }

  // Calls what(key, whether it counts) for each of `among`.
  template <class Visit>
  void visit(int64_t begin, int64_t end, Visit what) const {
    const T* among = static_cast<const T*>(problem_.among);
    if (problem_.ignored == nullptr) {
      for (int64_t i = begin; i < end; ++i) what(key_of(among[i]), true);
    } else {
      for (int64_t i = begin; i < end; ++i) what(key_of(among[i]), problem_.ignored[i] == 0);
    }
  }

  void count_high(Tally<Key>& tally, int64_t begin, int64_t end) {
    int64_t high = 0;
    visit(begin, end, [&](Key key, bool counts) { high += counts & (key >= guess_); });
    tally.high += high;
  }

  // Raises the lowest key that matters: a sample says which one leaves some more than `most`, and
  // all are counted to see that it does.
  void find_lowest() {
    std::vector<Key> sample;
    const int64_t step = problem_.m / kSample | 1;  // odd, so that it walks through all columns
    for (int64_t i = 0; i < problem_.m; i += step) {
      visit(i, i + 1, [&](Key key, bool counts) {
        if (counts) sample.push_back(key);
      });
    }
    const auto rank = static_cast<size_t>(kMargin * static_cast<double>(problem_.most / step)) + 16;
    const Key lowest = lowest_;
    const auto kept =
        std::count_if(sample.begin(), sample.end(), [=](Key k) { return k >= lowest; });
    if (rank >= sample.size() || kMargin * rank > kWorthwhile * kept) return;
    std::nth_element(sample.begin(), sample.end() - rank - 1, sample.end());
    guess_ = *(sample.end() - rank - 1);
    in_chunks<&Job::count_high>(kLeastChunk);
    int64_t high = 0;
    for (const Tally<Key>& tally : tallies_) high += tally.high;
    if (high >= problem_.most) lowest_ = std::max(lowest_, guess_);
  }

  void count(Tally<Key>& tally, int64_t begin, int64_t end) {
    int64_t count = 0;
    visit(begin, end, [&](Key key, bool counts) {
      tally.keys[count] = key;  // the next one takes its place if it does not count
      count += counts & (key >= lowest_);
    });
    const Key* keys = radix_sort(tally.keys.data(), tally.room.data(), count);
    int64_t below = 0;
    for (size_t i = 0; i < scores_.size(); ++i) {
      while (below < count && keys[below] < scores_[i]) ++below;
      tally.counts[i].at_least += count - below;
      while (below < count && keys[below] == scores_[i]) ++below;
      tally.counts[i].above += count - below;
    }
  }

  void add_tallies() {
    std::vector<Counts>& all = tallies_[0].counts;
    for (size_t worker = 1; worker < tallies_.size(); ++worker) {
      for (size_t i = 0; i < all.size(); ++i) {
        all[i].above += tallies_[worker].counts[i].above;
        all[i].at_least += tallies_[worker].counts[i].at_least;
      }
    }
  }

  const CountProblem& problem_;
  std::vector<Ranked<Key>> items_, room_;
  Key lowest_ = 0, guess_ = 0;
  std::vector<Key> scores_;  // distinct and rising, from the lowest that matters on
  std::vector<Tally<Key>> tallies_;
  int64_t chunk_ = 0;
};

}  // namespace

bool count_above(const CountProblem& problem, int64_t threads) {
  if (problem.n == 0) return true;
  try {
    if (problem.dtype == Dtype::kFloat64) {
      Job<double, uint64_t>(problem, threads).run();
    } else {
      Job<float, uint32_t>(problem, threads).run();
    }
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

}  // namespace ssad
