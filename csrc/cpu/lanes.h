// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#include "ssad/pixel.h"

namespace ssad::SSAD_LEVEL {

// How elements become numbers of the same order, and back; no NaN and no -0 among them. By the
// bits: the compiler may assume that there are neither (see CMakeLists.txt).

template <class S, class L>
struct IntegerLane {
  using Stored = S;
  using Lane = L;
  static Lane lane(Stored x) { return static_cast<Lane>(x); }
  static Stored stored(Lane x) { return static_cast<Stored>(x); }
  static bool is_nan(Stored) { return false; }
  static Stored nan() { return Stored{0}; }
};

// Sign and magnitude of 16 bits, to two's complement.
template <uint16_t kInfinity, uint16_t kNan>
struct HalfLane {
  using Stored = uint16_t;
  using Lane = int16_t;
  static Lane lane(Stored x) {
    const auto magnitude = static_cast<int16_t>(x & 0x7FFF);
    return static_cast<Lane>((x & 0x8000) != 0 ? -magnitude : magnitude);
  }
  static Stored stored(Lane x) {
    return static_cast<Stored>(x < 0 ? 0x8000 | static_cast<uint16_t>(-x)
                                     : static_cast<uint16_t>(x));
  }
  static bool is_nan(Stored x) { return (x & 0x7FFF) > kInfinity; }
  static Stored nan() { return kNan; }
};

template <class T, class U, U kSign, U kInfinity, U kNan>
struct FloatLane {
  using Stored = T;
  using Lane = T;
  static U bits(T x) {
    U found;
    std::memcpy(&found, &x, sizeof found);
    return found;
  }
  static Lane lane(Stored x) { return bits(x) == kSign ? T{0} : x; }
  static Stored stored(Lane x) { return x; }
  static bool is_nan(Stored x) { return (bits(x) & ~kSign) > kInfinity; }
  static Stored nan() {
    const U found = kNan;
    T x;
    std::memcpy(&x, &found, sizeof x);
    return x;
  }
};

using UInt8Lane = IntegerLane<uint8_t, int16_t>;
using Int16Lane = IntegerLane<int16_t, int16_t>;
using Int32Lane = IntegerLane<int32_t, int32_t>;
using Float16Lane = HalfLane<0x7C00, 0x7E00>;
using BFloat16Lane = HalfLane<0x7F80, 0x7FC0>;
using Float32Lane = FloatLane<float, uint32_t, 0x80000000u, 0x7F800000u, 0x7FC00000u>;
using Float64Lane =
    FloatLane<double, uint64_t, 0x8000000000000000u, 0x7FF0000000000000u, 0x7FF8000000000000u>;

inline bool is_nan(int16_t) { return false; }
inline bool is_nan(float x) { return Float32Lane::is_nan(x); }
inline bool is_nan(double x) { return Float64Lane::is_nan(x); }

}  // namespace ssad::SSAD_LEVEL
