// SPDX-License-Identifier: Apache-2.0
#include "traffic.h"

#include <algorithm>
#include <iterator>

namespace ssad::emulation {
namespace {

constexpr int kWord = 4, kBanks = 32;

bool is_power_of_two(int number) { return (number & (number - 1)) == 0; }

}  // namespace

Traffic traffic;

void LaunchTraffic::add(int warp, int lane, int64_t turn, const Access& access) {
  Site& site = warps_[warp][Key{access.place, access.kind, access.bytes, turn}];
  site.alignment = access.alignment;
  const auto nth = static_cast<size_t>(site.counts[lane]++);
  if (nth == site.accesses.size()) site.accesses.emplace_back();
  WarpAccess& together = site.accesses[nth];
  together.lanes |= uint32_t{1} << lane;
  together.at[lane] = access.at;
}

void LaunchTraffic::meet(int warp) {
  for (auto& [key, site] : warps_[warp]) {
    const bool is_shared = key.kind == Kind::kSharedRead || key.kind == Kind::kSharedWrite;
    for (WarpAccess& access : site.accesses) {
      if (access.lanes == 0) break;  // kept for the next time
      if (is_shared) {
        count_shared(key, site.alignment, access);
      } else {
        count_global(key, access);
      }
      access.lanes = 0;
    }
    site.counts.fill(0);
  }
}

// A step serves 32 lanes with a word each, or half or a quarter as many with two or four words.
void LaunchTraffic::count_shared(const Key& key, int alignment, const WarpAccess& access) {
  const bool is_whole = key.bytes == alignment && is_power_of_two(key.bytes) && key.bytes <= 16;
  const int part = is_whole ? key.bytes : std::min(alignment, kWord);
  const int words = std::max(part / kWord, 1), lanes = kWarp / words;
  Traffic::Cost& cost = traffic.shared[key.place];
  for (int offset = 0; offset < key.bytes; offset += part) {
    for (int first = 0; first < kWarp; first += lanes) {
      std::array<uintptr_t, kWarp> touched;
      size_t count = 0;
      for (int lane = first; lane < first + lanes; ++lane) {
        if ((access.lanes >> lane & 1) == 0) continue;
        cost.words += words;
        for (int i = 0; i < words; ++i) touched[count++] = (access.at[lane] + offset) / kWord + i;
      }
      std::sort(touched.begin(), touched.begin() + count);
      const auto end = std::unique(touched.begin(), touched.begin() + count);
      std::array<int, kBanks> of_bank = {};
      int ways = 0;
      for (auto word = touched.begin(); word != end; ++word) {
        ways = std::max(ways, ++of_bank[*word % kBanks]);
      }
      cost.wavefronts += ways;
      cost.ways = std::max(cost.ways, ways);
    }
  }
}

void LaunchTraffic::count_global(const Key& key, const WarpAccess& access) {
  std::vector<uintptr_t> sectors;
  for (int lane = 0; lane < kWarp; ++lane) {
    if ((access.lanes >> lane & 1) == 0) continue;
    const uintptr_t last = (access.at[lane] + key.bytes - 1) / Traffic::kSector;
    for (uintptr_t s = access.at[lane] / Traffic::kSector; s <= last; ++s) sectors.push_back(s);
  }
  std::sort(sectors.begin(), sectors.end());
  sectors.erase(std::unique(sectors.begin(), sectors.end()), sectors.end());
  const bool is_read = key.kind == Kind::kGlobalRead;
  const auto count = static_cast<int64_t>(sectors.size());
  (is_read ? traffic.sectors_read : traffic.sectors_written) += count;
  (is_read ? read_ : written_).insert(sectors.begin(), sectors.end());
}

void LaunchTraffic::finish_block() {
  for (size_t warp = 0; warp < warps_.size(); ++warp) meet(static_cast<int>(warp));
  traffic.block_sectors += static_cast<int64_t>(read_.size() + written_.size());
  launch_read_.merge(read_);
  launch_written_.merge(written_);
  read_.clear();
  written_.clear();
}

void LaunchTraffic::finish_launch() {
  ++traffic.launches;
  std::set_difference(launch_read_.begin(), launch_read_.end(), traffic.written.begin(),
                      traffic.written.end(), std::inserter(traffic.read, traffic.read.end()));
  traffic.written.merge(launch_written_);
}

}  // namespace ssad::emulation
