// SPDX-License-Identifier: Apache-2.0
// Sorting networks for medians of disks, built when first asked for.
//
// Disks of neighbouring rows share all but 2 radius + 1 pixels each (the extras). The shared ones
// are merged once; of these only 2 radius + 2 can still be the median of either disk.
#include "median_network.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "ssad/labels.h"

namespace ssad {
namespace {

using Run = std::vector<int64_t>;  // values in ascending order, by their numbers

// A network in the making: exchanges of values, each of which is written once.
class Builder {
 public:
  Builder(int64_t first_free, MedianOrder order) : first_free_(first_free), order_(order) {}

  int64_t input(int64_t slot) {
    slots_.push_back(slot);
    return static_cast<int64_t>(slots_.size()) - 1;
  }

  Run merged(const Run& a, const Run& b) {  // Batcher's odd-even merge
    if (a.empty()) return b;
    if (b.empty()) return a;
    if (a.size() == 1 && b.size() == 1) {
      const auto [low, high] = exchanged(a[0], b[0]);
      return {low, high};
    }
    const Run even = merged(every_other(a, 0), every_other(b, 0));
    const Run odd = merged(every_other(a, 1), every_other(b, 1));
    Run result = {even[0]};
    size_t i = 0;
    for (; i < odd.size() && i + 1 < even.size(); ++i) {
      const auto [low, high] = exchanged(odd[i], even[i + 1]);
      result.push_back(low);
      result.push_back(high);
    }
    result.insert(result.end(), odd.begin() + static_cast<std::ptrdiff_t>(i), odd.end());
    result.insert(result.end(), even.begin() + static_cast<std::ptrdiff_t>(i) + 1, even.end());
    return result;
  }

  Run sorted(const Run& values) {
    if (values.size() <= 1) return values;
    const auto half = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    return merged(sorted({values.begin(), half}), sorted({half, values.end()}));
  }

  // The k-th smallest, k from 1, of two runs: the least, over i + j = k, of the larger one of the
  // i-th of a and the j-th of b.
  int64_t selected(const Run& a, const Run& b, int64_t k) {
    const auto na = static_cast<int64_t>(a.size()), nb = static_cast<int64_t>(b.size());
    int64_t best = -1;
    for (int64_t i = std::max<int64_t>(0, k - nb); i <= std::min(k, na); ++i) {
      int64_t larger = i == 0 ? b[k - 1] : a[i - 1];
      if (i > 0 && i < k) larger = exchanged(a[i - 1], b[k - i - 1]).second;
      best = best < 0 ? larger : exchanged(best, larger).first;
    }
    return best;
  }

  void output(int64_t value, int64_t slot) {
    if (slots_[value] >= 0) value = exchanged(value, value).first;
    slots_[value] = slot;
    outputs_.push_back(value);
  }

  // Leaves out what no output needs and finds a slot for everything else; returns the first slot
  // after all of them.
  int64_t finish(std::vector<MedianStep>* steps) {
    if (order_ == MedianOrder::kByDepth) order_by_depth();
    std::vector<int64_t> last(slots_.size(), -1);
    const auto count = static_cast<int64_t>(exchanges_.size());
    for (const int64_t value : outputs_) last[value] = count;
    for (int64_t i = count - 1; i >= 0; --i) {
      const Exchange& step = exchanges_[i];
      if (last[step.low] < 0 && last[step.high] < 0) continue;
      last[step.a] = std::max(last[step.a], i);
      last[step.b] = std::max(last[step.b], i);
    }
    const int64_t unwanted = first_free_;
    int64_t end = first_free_ + 1;
    std::vector<int64_t> free;
    std::vector<bool> is_own(slots_.size());
    const auto release = [&](int64_t value, int64_t now) {
      if (!is_own[value] || last[value] != now) return;
      is_own[value] = false;
      free.push_back(slots_[value]);
    };
    const auto place = [&](int64_t value) {
      if (last[value] < 0) return unwanted;
      if (slots_[value] >= 0) return slots_[value];
      is_own[value] = true;
      if (free.empty()) return slots_[value] = end++;
      slots_[value] = free.back();
      free.pop_back();
      return slots_[value];
    };
    for (int64_t i = 0; i < count; ++i) {
      const Exchange& step = exchanges_[i];
      if (last[step.low] < 0 && last[step.high] < 0) continue;
      const int64_t a = slots_[step.a], b = slots_[step.b];
      release(step.a, i);
      release(step.b, i);
      const auto unit = [](int64_t slot) {
        return static_cast<uint16_t>(slot * (kSlotBytes / kPlaceUnit));
      };
      const int64_t low = place(step.low);
      steps->push_back({unit(a), unit(b), unit(low), unit(place(step.high))});
    }
    return end;
  }

 private:
  struct Exchange {
    int64_t a, b, low, high;
  };

  void order_by_depth() {
    std::vector<int64_t> depth(slots_.size(), 0);
    for (const Exchange& step : exchanges_) {
      depth[step.low] = depth[step.high] = 1 + std::max(depth[step.a], depth[step.b]);
    }
    std::stable_sort(
        exchanges_.begin(), exchanges_.end(),
        [&](const Exchange& a, const Exchange& b) { return depth[a.low] < depth[b.low]; });
  }

  std::pair<int64_t, int64_t> exchanged(int64_t a, int64_t b) {
    const int64_t low = input(-1), high = input(-1);
    exchanges_.push_back({a, b, low, high});
    return {low, high};
  }

  static Run every_other(const Run& values, size_t first) {
    Run picked;
    for (size_t i = first; i < values.size(); i += 2) picked.push_back(values[i]);
    return picked;
  }

  int64_t first_free_;
  MedianOrder order_;
  std::vector<int64_t> slots_;  // of each value; -1 where it is not decided
  std::vector<Exchange> exchanges_;
  std::vector<int64_t> outputs_;
};

// Where an entry keeps its runs, in slots from its start.
struct Entry {
  std::map<std::pair<int64_t, int64_t>, std::pair<int64_t, int64_t>> shared;  // start, length
  std::map<std::pair<int64_t, int64_t>, std::pair<int64_t, int64_t>> extras;  // of (row, distance)
  int64_t slots = 0;

  std::pair<int64_t, int64_t> take(size_t length) {
    const int64_t start = slots;
    slots += static_cast<int64_t>(length);
    return {start, static_cast<int64_t>(length)};
  }
};

int64_t floor_half(int64_t x) { return x >= 0 ? x / 2 : -((1 - x) / 2); }

struct Plan {
  MedianNetwork network;
  std::vector<MedianStep> row_steps, pair_steps;
  Entry entry;
  int64_t radius;
  MedianOrder order;

  Plan(int64_t radius_, MedianOrder order_) : radius(radius_), order(order_) {
    network.radius = radius;
    network.reach = (radius + 1) / 2;
    plan_rows();
    plan_pair();
    network.row_steps = row_steps.data();
    network.row_count = static_cast<int64_t>(row_steps.size());
    network.pair_steps = pair_steps.data();
    network.pair_count = static_cast<int64_t>(pair_steps.size());
  }

  // What the disks around rows 0 and 1 have both of row t: how far it reaches to both sides.
  int64_t shared_reach(int64_t t) const { return disk_reach(radius, t > 0 ? t : 1 - t); }

  std::pair<int64_t, int64_t> shared_of(int64_t j) const {
    return {shared_reach(2 * j), shared_reach(2 * j + 1)};
  }

  void plan_rows() {
    const int64_t side = 2 * radius + 1;
    // Where the pixels are depends on the size of an entry, which is the same for any such place.
    for (int pass = 0; pass < 2; ++pass) {
      const int64_t pixels = entry.slots;
      entry = Entry();
      row_steps.clear();
      Builder builder(pixels + 2 * side, order);
      std::vector<Run> runs[2];  // of row 0 and 1, by how far they reach
      const auto keep = [&](const Run& run) {
        const auto at = entry.take(run.size());
        for (size_t i = 0; i < run.size(); ++i) {
          builder.output(run[i], at.first + static_cast<int64_t>(i));
        }
        return at;
      };
      for (int64_t row = 0; row < 2; ++row) {
        runs[row].resize(radius + 1);
        Run pixel;
        for (int64_t x = 0; x < side; ++x) pixel.push_back(builder.input(pixels + row * side + x));
        Run inner;
        for (int64_t distance = radius; distance >= 0; --distance) {
          Run outer;
          const int64_t from = disk_reach(radius, distance + 1), to = disk_reach(radius, distance);
          for (int64_t x = -to; x <= to; ++x) {
            if (x < -from || x > from || from < 0) outer.push_back(pixel[radius + x]);
          }
          if (outer.empty()) continue;
          outer = builder.sorted(outer);
          entry.extras[{row, distance}] = keep(outer);
          inner = builder.merged(inner, outer);
          runs[row][to] = inner;
        }
      }
      for (int64_t j = -network.reach; j <= network.reach; ++j) {
        const auto [first, second] = shared_of(j);
        if ((first < 0 && second < 0) || entry.shared.count({first, second}) > 0) continue;
        const Run none;
        entry.shared[{first, second}] = keep(
            builder.merged(first < 0 ? none : runs[0][first], second < 0 ? none : runs[1][second]));
      }
      network.entry_slots = entry.slots;
      network.work_slots = builder.finish(&row_steps) - entry.slots;
    }
  }

  void plan_pair() {
    const int64_t work = (2 * network.reach + 1) * entry.slots;
    Builder builder(work + 2, order);
    const auto fetched = [&](int64_t j, std::pair<int64_t, int64_t> at) {
      Run run;
      const int64_t start = (j + network.reach) * entry.slots + at.first;
      for (int64_t i = 0; i < at.second; ++i) run.push_back(builder.input(start + i));
      return run;
    };
    std::vector<Run> shared;
    std::vector<Run> extras[2];
    int64_t pixels = 2 * radius + 1;  // of a disk, without those that cannot be its median
    for (int64_t j = -network.reach; j <= network.reach; ++j) {
      const auto found = entry.shared.find(shared_of(j));
      if (found == entry.shared.end()) continue;
      shared.push_back(fetched(j, found->second));
      pixels += found->second.second;
    }
    for (int64_t distance = 0; distance <= radius; ++distance) {
      for (int64_t which = 0; which < 2; ++which) {
        const int64_t t = which == 0 ? -distance : 1 + distance, j = floor_half(t);
        const auto found = entry.extras.find({t - 2 * j, distance});
        if (found != entry.extras.end()) extras[which].push_back(fetched(j, found->second));
      }
    }
    const Run core = merged(&builder, shared, &pixels);
    for (int64_t which = 0; which < 2; ++which) {
      const Run others = merged(&builder, extras[which], nullptr);
      network.result_slot[which] = work + which;
      builder.output(builder.selected(core, others, (pixels + 1) / 2), work + which);
    }
    network.work_slots = std::max(network.work_slots, builder.finish(&pair_steps) - work);
  }

  // The two shortest first. With `pixels` given, what is lower or higher than half of them is left
  // out, as many at either end.
  static Run merged(Builder* builder, std::vector<Run> runs, int64_t* pixels) {
    while (runs.size() > 1) {
      std::stable_sort(runs.begin(), runs.end(),
                       [](const Run& a, const Run& b) { return a.size() > b.size(); });
      const Run last = runs.back();
      runs.pop_back();
      Run both = builder->merged(runs.back(), last);
      if (pixels != nullptr) {
        const auto middle = (*pixels + 1) / 2;
        const auto too_many = static_cast<int64_t>(both.size()) - middle;
        if (too_many > 0) {
          both = Run(both.begin() + too_many, both.end() - too_many);
          *pixels -= 2 * too_many;
        }
      }
      runs.back() = both;
    }
    return runs[0];
  }
};

}  // namespace

const MedianNetwork& median_network(int64_t radius, MedianOrder order) {
  static std::once_flag once[2][kLargestRadius + 1];
  static const Plan* plans[2][kLargestRadius + 1];  // for as long as the process lives
  const auto which = static_cast<size_t>(order);
  std::call_once(once[which][radius], [&] { plans[which][radius] = new Plan(radius, order); });
  return plans[which][radius]->network;
}

}  // namespace ssad
