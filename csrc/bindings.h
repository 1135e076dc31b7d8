// SPDX-License-Identifier: Apache-2.0
// Files named `bindings` alone know Python. Every function takes addresses and sizes as integers,
// checks nothing (the caller has) and runs without the interpreter lock. Signatures:
// ssad_kernels/_native.pyi
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

namespace ssad::bindings {

namespace py = pybind11;

using Address = uintptr_t;
using ReleaseGil = py::call_guard<py::gil_scoped_release>;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);  // NOLINT(performance-no-int-to-ptr)
}

void define_cuda(py::module_& m);
void define_emulation(py::module_& m);  // of emulated CUDA kernels, for tests

}  // namespace ssad::bindings
