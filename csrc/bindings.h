// SPDX-License-Identifier: Apache-2.0
// Files named `bindings` alone know Python. Every function takes addresses and sizes as integers,
// checks nothing (the caller has) and runs without the interpreter lock. Signatures:
// ssad_kernels/_native.pyi
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>

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

void define_cuda(py::module_& m);
void define_emulation(py::module_& m);  // of emulated CUDA kernels, for tests

}  // namespace ssad::bindings
