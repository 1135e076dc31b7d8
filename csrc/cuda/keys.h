// SPDX-License-Identifier: Apache-2.0
// Keys: 32-bit integers in the order of the elements of an image, and back.
#pragma once

#include "elements.h"
#include "ssad/labels.h"

namespace ssad::cuda {

// The key of any NaN. As an int32 it is a number like any other.
constexpr int32_t kNotANumber = INT32_MAX;

__device__ inline bool has_nan(Element element) {
  return element == Element::kFloat16 || element == Element::kBFloat16 ||
         element == Element::kFloat32;
}

// Sign and magnitude to two's complement; -0 becomes 0.
__device__ inline int32_t key_of_float(uint32_t bits, uint32_t sign, uint32_t infinity) {
  const uint32_t magnitude = bits & (sign - 1);
  if (magnitude > infinity) return kNotANumber;
  const auto key = static_cast<int32_t>(magnitude);
  return (bits & sign) != 0 ? -key : key;
}

__device__ inline uint32_t float_of_key(int32_t key, uint32_t sign, uint32_t nan) {
  if (key == kNotANumber) return nan;
  return key < 0 ? sign | static_cast<uint32_t>(-key) : static_cast<uint32_t>(key);
}

__device__ inline int32_t load_key(const void* data, int64_t at, Element element) {
  const auto half = [&] { return load_element<uint16_t>(data, at); };
  switch (element) {
    case Element::kUInt8: return load_element<uint8_t>(data, at);
    case Element::kInt16: return static_cast<int16_t>(half());
    case Element::kFloat16: return key_of_float(half(), 0x8000u, 0x7C00u);
    case Element::kBFloat16: return key_of_float(half(), 0x8000u, 0x7F80u);
    case Element::kFloat32:
      return key_of_float(load_element<uint32_t>(data, at), 0x80000000u, 0x7F800000u);
    default: return load_element<int32_t>(data, at);
  }
}

__device__ inline void store_key(int32_t key, void* data, int64_t at, Element element) {
  const auto half = [&](uint32_t bits) { store_element(data, at, static_cast<uint16_t>(bits)); };
  switch (element) {
    case Element::kUInt8: return store_element(data, at, static_cast<uint8_t>(key));
    case Element::kInt16: return half(static_cast<uint32_t>(key));
    case Element::kFloat16: return half(float_of_key(key, 0x8000u, 0x7E00u));
    case Element::kBFloat16: return half(float_of_key(key, 0x8000u, 0x7FC0u));
    case Element::kFloat32:
      return store_element(data, at, float_of_key(key, 0x80000000u, 0x7FC00000u));
    default: store_element(data, at, key);
  }
}

// Bits as they are.
template <class T>
__device__ void copy_as(const void* from, int64_t at, void* to, int64_t there) {
  store_element(to, there, load_element<T>(from, at));
}

__device__ inline void copy_element(const void* from, int64_t at, void* to, int64_t there,
                                    Element element) {
  switch (element) {
    case Element::kUInt8: copy_as<uint8_t>(from, at, to, there); break;
    case Element::kInt16:
    case Element::kFloat16:
    case Element::kBFloat16: copy_as<uint16_t>(from, at, to, there); break;
    default: copy_as<uint32_t>(from, at, to, there);
  }
}

}  // namespace ssad::cuda
