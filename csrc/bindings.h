// SPDX-License-Identifier: Apache-2.0
// Files named `bindings` alone know Python. Every function takes addresses and sizes as integers,
// checks nothing (the caller has) and runs without the interpreter lock. Signatures:
// ssad_kernels/_native.pyi
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>

#include "ssad/blend.h"
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

inline PoissonOptions options_of(int solver, double tol, double rtol, int64_t max_iterations) {
  return {static_cast<PoissonSolver>(solver), tol, rtol, max_iterations};
}

// addresses: target, source; rows: the fields of BlendParams, 0 where they are not given
inline BlendProblem blend_of(const std::array<Address, 2>& addresses, int dtype,
                             const std::array<int64_t, 4>& target_shape,
                             const std::array<int64_t, 4>& target_strides,
                             const std::array<int64_t, 4>& source_shape,
                             const std::array<int64_t, 4>& source_strides, Address mask,
                             int mask_kind, const std::array<int64_t, 2>& mask_shape,
                             const std::array<Address, 7>& rows, int region,
                             const PoissonOptions& options, Address status) {
  return {view_of(addresses[0], dtype, target_shape, target_strides),
          view_of(addresses[1], dtype, source_shape, source_strides),
          at<void>(mask),
          static_cast<MaskKind>(mask_kind),
          mask_shape[0],
          mask_shape[1],
          {at<int64_t>(rows[0]), at<int64_t>(rows[1]), at<int64_t>(rows[2]), at<int64_t>(rows[3]),
           at<int64_t>(rows[4]), at<double>(rows[5]), at<double>(rows[6])},
          static_cast<BlendRegion>(region),
          options,
          at<int8_t>(status)};
}

void define_cuda(py::module_& m);
void define_emulation(py::module_& m);  // of emulated CUDA kernels, for tests

}  // namespace ssad::bindings
