// SPDX-License-Identifier: Apache-2.0
// The medians of two disks, one below the other, by exchanges in a thread's registers.
//
// Why a network: it takes min and max alone, two instructions an exchange, and has no branch, so
// all lanes of a warp do the same for any data. Bit planes would take as many passes over the
// window as a number has bits; a histogram has no room for floats. The disks share all but one
// pixel of each column. Shared columns are sorted and merged once; those of their pixels that can
// still be a median, 2 radius + 2, then meet the 2 radius + 1 that each disk has for itself.
// Exchanges whose results nobody takes are left out by the compiler.
#pragma once

#include <utility>

#include "tile.h"

namespace ssad::cuda {

// Values in ascending order. Code knows each of them by its place, without loops or branches, so
// that they stay in registers, and compilers need not find that out.
template <int kCount>
struct Run {
  int32_t of[kCount];
};

template <int kCount>
using UpTo = std::make_integer_sequence<int, kCount>;

template <int... i>
using Numbers = std::integer_sequence<int, i...>;

// Values kFirst, kFirst + kStep, ...
template <int kFirst, int kStep, int kAll, int... i>
__device__ __forceinline__ Run<sizeof...(i)> picked(const Run<kAll>& run, Numbers<i...>) {
  return {{run.of[kFirst + i * kStep]...}};
}

template <int kFirst, int kCount, int kAll>
__device__ __forceinline__ Run<kCount> part(const Run<kAll>& run) {
  return picked<kFirst, 1>(run, UpTo<kCount>());
}

// Every other value, the first or the second one being the first.
template <int kFirst, int kAll>
__device__ __forceinline__ Run<(kAll + 1 - kFirst) / 2> every_other(const Run<kAll>& run) {
  return picked<kFirst, 2>(run, UpTo<(kAll + 1 - kFirst) / 2>());
}

// What comes to a place when the odd and the even places have been merged.
template <int kPlace, int kOdd, int kEven>
__device__ __forceinline__ int32_t joined(const Run<kOdd>& odd, const Run<kEven>& even) {
  constexpr int i = (kPlace - 1) / 2;
  if constexpr (kPlace == 0) {
    return even.of[0];
  } else if constexpr (i >= kOdd) {
    return even.of[kEven - 1];
  } else if constexpr (i + 1 >= kEven) {
    return odd.of[i];
  } else if constexpr (kPlace % 2 == 1) {
    return smaller(odd.of[i], even.of[i + 1]);
  } else {
    return larger(odd.of[i], even.of[i + 1]);
  }
}

template <int kOdd, int kEven, int... i>
__device__ __forceinline__ Run<sizeof...(i)> all_joined(const Run<kOdd>& odd,
                                                        const Run<kEven>& even, Numbers<i...>) {
  return {{joined<i>(odd, even)...}};
}

// Batcher's odd-even merge.
template <int kA, int kB>
__device__ __forceinline__ Run<kA + kB> merged(const Run<kA>& a, const Run<kB>& b) {
  if constexpr (kA == 1 && kB == 1) {
    return {{smaller(a.of[0], b.of[0]), larger(a.of[0], b.of[0])}};
  } else {
    const auto even = merged(every_other<0>(a), every_other<0>(b));
    if constexpr (kA == 1) {
      return all_joined(every_other<1>(b), even, UpTo<kA + kB>());
    } else if constexpr (kB == 1) {
      return all_joined(every_other<1>(a), even, UpTo<kA + kB>());
    } else {
      return all_joined(merged(every_other<1>(a), every_other<1>(b)), even, UpTo<kA + kB>());
    }
  }
}

template <int kCount>
__device__ __forceinline__ Run<kCount> sorted(const Run<kCount>& values) {
  if constexpr (kCount == 1) {
    return values;
  } else {
    constexpr int kHalf = kCount / 2;
    return merged(sorted(part<0, kHalf>(values)), sorted(part<kHalf, kCount - kHalf>(values)));
  }
}

// The k-th smallest, k from 1, of two runs: the least, over i + j = k, of the larger one of the
// i-th of a and the j-th of b; here for i from kFirst.
template <int k, int kFirst, int kA, int kB>
__device__ __forceinline__ int32_t selected(const Run<kA>& a, const Run<kB>& b) {
  if constexpr (kFirst + kB < k) {
    return selected<k, k - kB>(a, b);
  } else if constexpr (kFirst == k) {
    return a.of[k - 1];
  } else if constexpr (kFirst == 0) {
    return smaller(b.of[k - 1], selected<k, 1>(a, b));
  } else if constexpr (kFirst == kA) {
    return larger(a.of[kA - 1], b.of[k - kA - 1]);
  } else {
    return smaller(larger(a.of[kFirst - 1], b.of[k - kFirst - 1]), selected<k, kFirst + 1>(a, b));
  }
}

// Pixels with y² + x² <= radius².
template <int kRadius>
struct Disk {
  static constexpr int kSide = 2 * kRadius + 1;

  // The largest |y| in column x, or the other way round.
  __host__ __device__ static constexpr int reach(int x) {
    int y = 0;
    while (x * x + (y + 1) * (y + 1) <= kRadius * kRadius) ++y;
    return y;
  }
  // How many pixels of columns the disk shares with the one below it.
  __host__ __device__ static constexpr int shared(int first, int last) {
    int count = 0;
    for (int x = first; x <= last; ++x) count += 2 * reach(x);
    return count;
  }
  __host__ __device__ static constexpr int pixels() { return kSide + shared(-kRadius, kRadius); }
};

// A column of kRadius' disk from row kTop on; `at` is the disk's centre in rows of kStride.
template <int kStride, int kTop, int kX, int... i>
__device__ __forceinline__ Run<sizeof...(i)> column(const Shared<int32_t>& at, Numbers<i...>) {
  return {{at[(kTop + i) * kStride + kX]...}};
}

// The shared pixels of some columns, sorted; `at` is the upper disk's centre.
template <int kRadius, int kStride, int kFirst, int kLast>
__device__ __forceinline__ Run<Disk<kRadius>::shared(kFirst, kLast)> shared_pixels(
    const Shared<int32_t>& at) {
  if constexpr (kFirst == kLast) {
    constexpr int kReach = Disk<kRadius>::reach(kFirst);
    return sorted(column<kStride, 1 - kReach, kFirst>(at, UpTo<2 * kReach>()));
  } else {
    constexpr int kMiddle = kFirst + (kLast - kFirst) / 2;
    return merged(shared_pixels<kRadius, kStride, kFirst, kMiddle>(at),
                  shared_pixels<kRadius, kStride, kMiddle + 1, kLast>(at));
  }
}

// The one pixel of each column that the other disk does not have.
template <int kRadius, int kStride, bool kIsLower, int... i>
__device__ __forceinline__ Run<sizeof...(i)> own_pixels(const Shared<int32_t>& at, Numbers<i...>) {
  using D = Disk<kRadius>;
  return sorted(Run<sizeof...(i)>{
      {at[(kIsLower ? 1 + D::reach(i - kRadius) : -D::reach(i - kRadius)) * kStride + i -
          kRadius]...}});
}

// The medians of the disks around a pixel and around the one below it.
template <int kRadius, int kStride>
__device__ __forceinline__ void medians_of_pair(const Shared<int32_t>& at, int32_t* upper,
                                                int32_t* lower) {
  using D = Disk<kRadius>;
  // Columns +-radius have one pixel in each disk, and share none.
  const auto all = shared_pixels<kRadius, kStride, 1 - kRadius, kRadius - 1>(at);
  constexpr int kShared = D::shared(-kRadius, kRadius), kRank = (D::pixels() + 1) / 2;
  constexpr int kTooLow = kShared > kRank ? kShared - kRank : 0;
  const auto core = part<kTooLow, kShared - 2 * kTooLow>(all);
  constexpr UpTo<D::kSide> kColumns = {};
  *upper = selected<kRank - kTooLow, 0>(core, own_pixels<kRadius, kStride, false>(at, kColumns));
  *lower = selected<kRank - kTooLow, 0>(core, own_pixels<kRadius, kStride, true>(at, kColumns));
}

}  // namespace ssad::cuda
