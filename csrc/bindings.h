// SPDX-License-Identifier: Apache-2.0
// Files named `bindings` alone know Python. Every function takes addresses and sizes as integers,
// checks nothing (the caller has) and runs without the interpreter lock. Signatures:
// ssad_kernels/_native.pyi
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>

#include "ssad/labels.h"
#include "ssad/view.h"

namespace ssad::bindings {

namespace py = pybind11;

using Address = uintptr_t;
using ReleaseGil = py::call_guard<py::gil_scoped_release>;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);  // NOLINT(performance-no-int-to-ptr)
}

inline ImageView view_of(Address images, int dtype, const std::array<int64_t, 4>& shape,
                         const std::array<int64_t, 4>& strides) {
  return {at<void>(images), static_cast<Dtype>(dtype),
          shape[0],         shape[1],
          shape[2],         shape[3],
          strides[0],       strides[1],
          strides[2],       strides[3]};
}

// views: before, after, region; rows: steepness, midpoint, factor, 0 where they are not given
inline LabelProblem label_problem(const std::array<Address, 3>& views, int dtype,
                                  const std::array<int64_t, 4>& shape,
                                  const std::array<std::array<int64_t, 4>, 3>& strides, int kind,
                                  const std::array<Address, 3>& rows, double threshold,
                                  int64_t size, int64_t radius, Address out) {
  return {view_of(views[0], dtype, shape, strides[0]),
          view_of(views[1], dtype, shape, strides[1]),
          view_of(views[2], 0, shape, strides[2]),
          static_cast<LabelKind>(kind),
          at<float>(rows[0]),
          at<float>(rows[1]),
          at<float>(rows[2]),
          threshold,
          size,
          radius,
          at<float>(out)};
}

void define_cuda(py::module_& m);
void define_emulation(py::module_& m);  // of emulated CUDA kernels, for tests

}  // namespace ssad::bindings
