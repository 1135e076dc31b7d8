// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels for Python. Addresses are of the GPU, streams are those of the caller, and
// nothing waits for the GPU.
#include "../bindings.h"

#include <pybind11/stl.h>

#include <array>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "blend.h"
#include "filters.h"
#include "poisson.h"
#include "runtime.h"

namespace ssad::bindings {
namespace {

void need_launch(const char* op, const char* error) {
  if (error != nullptr) throw std::runtime_error(std::string(op) + ": CUDA: " + error);
}

auto cuda_runtime() {
  const cuda::Runtime found = cuda::runtime();
  const auto list = [](const cuda::Capabilities& all) {
    return std::vector<int>(all.of, all.of + all.count);
  };
  return std::make_tuple(found.version, found.driver, list(found.compiled), list(found.gpus));
}

// inputs: natural, rhs, mask, boundary; outputs: solution, status, iterations, residual;
// scratch: see cuda_poisson_scratch_size
void cuda_poisson_solve(std::array<Address, 4> inputs, std::array<int64_t, 4> shape, int32_t solver,
                        double tol, double rtol, int32_t max_iterations,
                        std::array<Address, 4> outputs, Address scratch, Address stream) {
  const cuda::PoissonPlanes planes = {static_cast<PoissonSolver>(solver),
                                      shape[0],
                                      shape[1],
                                      shape[2],
                                      shape[3],
                                      at<uint8_t>(inputs[0]),
                                      at<float>(inputs[1]),
                                      at<bool>(inputs[2]),
                                      at<float>(inputs[3]),
                                      shape[2] * shape[3],
                                      shape[3],
                                      tol,
                                      rtol,
                                      max_iterations,
                                      at<float>(outputs[0]),
                                      at<int8_t>(outputs[1]),
                                      at<int32_t>(outputs[2]),
                                      at<float>(outputs[3]),
                                      at<float>(scratch)};
  need_launch("poisson_solve", cuda::poisson_solve(planes, at<void>(stream)));
}

int64_t cuda_poisson_scratch_size(int32_t solver, std::array<int64_t, 4> shape) {
  return cuda::poisson_scratch_size(static_cast<PoissonSolver>(solver), shape[0] * shape[1],
                                    shape[2], shape[3]);
}

void cuda_median_filter(Address images, int element, std::array<int64_t, 4> shape,
                        std::array<int64_t, 4> strides, int64_t radius, bool is_square,
                        Address boxes, Address out, Address stream) {
  const MedianProblem problem = {view_of(images, 0, shape, strides),
                                 static_cast<Element>(element),
                                 radius,
                                 is_square,
                                 at<int64_t>(boxes),
                                 at<void>(out)};
  need_launch("median_filter", cuda::median_filter(problem, at<void>(stream)));
}

void cuda_difference_label(std::array<Address, 3> views, int dtype, std::array<int64_t, 4> shape,
                           std::array<std::array<int64_t, 4>, 3> strides, int kind,
                           std::array<Address, 3> rows, double threshold, int64_t size,
                           int64_t radius, Address out, Address stream) {
  const auto problem =
      label_problem(views, dtype, shape, strides, kind, rows, threshold, size, radius, out);
  need_launch("difference_label", cuda::difference_label(problem, at<void>(stream)));
}

int64_t cuda_poisson_blend_bytes(int64_t side, int64_t channels, int mask_kind) {
  return cuda::poisson_blend_bytes(side, channels, static_cast<MaskKind>(mask_kind));
}

void cuda_poisson_blend(std::array<Address, 2> addresses, int dtype,
                        std::array<int64_t, 4> target_shape, std::array<int64_t, 4> target_strides,
                        std::array<int64_t, 4> source_shape, std::array<int64_t, 4> source_strides,
                        Address mask, int mask_kind, std::array<int64_t, 2> mask_shape,
                        std::array<Address, 7> rows, int region, int solver, double tol,
                        double rtol, int64_t max_iterations, Address status, int64_t side,
                        Address stream) {
  const BlendProblem problem = blend_of(
      addresses, dtype, target_shape, target_strides, source_shape, source_strides, mask, mask_kind,
      mask_shape, rows, region, options_of(solver, tol, rtol, max_iterations), status);
  need_launch("poisson_blend", cuda::poisson_blend(problem, side, at<void>(stream)));
}

}  // namespace

void define_cuda(py::module_& m) {
  m.attr("cuda_build") = cuda::build();
  m.def("cuda_runtime", &cuda_runtime, ReleaseGil());
  m.def("cuda_poisson_blend", &cuda_poisson_blend, ReleaseGil());
  m.def("cuda_poisson_blend_bytes", &cuda_poisson_blend_bytes, ReleaseGil());
  m.def("cuda_median_filter", &cuda_median_filter, ReleaseGil());
  m.def("cuda_difference_label", &cuda_difference_label, ReleaseGil());
  m.def("cuda_poisson_solve", &cuda_poisson_solve, ReleaseGil());
  m.def("cuda_poisson_scratch_size", &cuda_poisson_scratch_size, ReleaseGil());
  m.def("cuda_multigrid_bytes", &cuda::multigrid_bytes, ReleaseGil());
#ifdef SSAD_EMULATED
  define_emulation(m);
#endif
}

}  // namespace ssad::bindings
