// SPDX-License-Identifier: Apache-2.0
// The only file that knows Python. Every function takes addresses and sizes as integers, checks
// nothing (the caller has) and runs without the interpreter lock. Signatures: ssad_kernels/_native.pyi
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <new>

#include "cpu/kernels.h"
#include "ssad/cutpaste.h"

namespace py = pybind11;

namespace {

using Address = uintptr_t;
using ReleaseGil = py::call_guard<py::gil_scoped_release>;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);  // NOLINT(performance-no-int-to-ptr)
}

void cut_paste(Address images, int dtype, std::array<int64_t, 4> shape,
               std::array<int64_t, 4> strides, std::array<Address, 7> params, Address mask,
               Address status, int64_t threads) {
  const ssad::ImageView view = {at<void>(images), static_cast<ssad::Dtype>(dtype),
                                shape[0],         shape[1],
                                shape[2],         shape[3],
                                strides[0],       strides[1],
                                strides[2],       strides[3]};
  const ssad::CutPasteParams rows = {
      at<int64_t>(params[0]), at<int64_t>(params[1]), at<int64_t>(params[2]), at<float>(params[3]),
      at<float>(params[4]),   at<int64_t>(params[5]), at<bool>(params[6])};
  if (!ssad::cut_paste(view, rows, at<bool>(mask), at<int8_t>(status), threads)) {
    throw std::bad_alloc();
  }
}

void sample_cut_paste(Address keys, int64_t n, int64_t stream, int64_t height, int64_t width,
                      double p, bool scar, std::array<double, 2> area, std::array<double, 2> aspect,
                      std::array<int64_t, 2> length, std::array<int64_t, 2> side,
                      std::array<double, 2> angle, std::array<double, 4> jitter, bool other_source,
                      std::array<Address, 7> out) {
  const ssad::CutPasteLaw law = {p,
                                 scar,
                                 {area[0], area[1]},
                                 {aspect[0], aspect[1]},
                                 {length[0], length[1]},
                                 {side[0], side[1]},
                                 {angle[0], angle[1]},
                                 {jitter[0], jitter[1], jitter[2], jitter[3]},
                                 other_source};
  const ssad::CutPasteDraws draws = {
      at<int64_t>(out[0]), at<int64_t>(out[1]), at<int64_t>(out[2]), at<float>(out[3]),
      at<float>(out[4]),   at<int64_t>(out[5]), at<bool>(out[6])};
  ssad::sample_cut_paste(at<int64_t>(keys), n, stream, height, width, law, draws);
}

void philox(Address keys, int64_t n, int64_t stream, int64_t count, Address out, int64_t threads) {
  ssad::kernels().philox(at<int64_t>(keys), n, stream, count, at<int64_t>(out), threads);
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.def("cut_paste", &cut_paste, ReleaseGil());
  m.def("sample_cut_paste", &sample_cut_paste, ReleaseGil());
  m.def("philox", &philox, ReleaseGil());
  m.attr("cpu_level") = ssad::kernels().level;
}
