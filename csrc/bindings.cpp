// SPDX-License-Identifier: Apache-2.0
// The CPU's kernels for Python.
#include "bindings.h"

#include <pybind11/stl.h>

#include <array>
#include <new>
#include <tuple>
#include <vector>

#include "cpu/kernels.h"
#include "ssad/blend.h"
#include "ssad/cutpaste.h"
#include "ssad/labels.h"
#include "ssad/masking.h"
#include "ssad/nsa.h"
#include "ssad/nsa_keyed.h"
#include "ssad/perlin.h"
#include "ssad/poisson.h"
#include "ssad/ranking.h"
#include "ssad/similarity.h"
#include "ssad/upsample.h"

namespace {

using ssad::bindings::Address;
using ssad::bindings::at;
using ssad::bindings::blend_of;
using ssad::bindings::label_problem;
using ssad::bindings::options_of;
using ssad::bindings::ReleaseGil;
using ssad::bindings::view_of;

// p, scar, area (low, high), aspect, length, width, angle, jitter (4), other_source, turn_p,
// permute_p, jitter_p
using Law = std::array<double, 20>;

ssad::CutPasteLaw law_of(const Law& x) {
  const auto pixels = [&](int i) { return static_cast<int64_t>(x[i]); };
  return {x[0],
          x[1] != 0.0,
          {x[2], x[3]},
          {x[4], x[5]},
          {pixels(6), pixels(7)},
          {pixels(8), pixels(9)},
          {x[10], x[11]},
          {x[12], x[13], x[14], x[15]},
          x[16] != 0.0,
          x[17],
          x[18],
          x[19]};
}

void need(bool had_memory) {
  if (!had_memory) throw std::bad_alloc();
}

// params: the fields of CutPasteParams, 0 where they are not given
void cut_paste(Address from, Address to, int dtype, std::array<int64_t, 4> shape,
               std::array<int64_t, 4> strides, std::array<Address, 9> params, Address mask,
               Address status, int64_t threads) {
  const ssad::CutPasteParams rows = {
      at<int64_t>(params[0]), at<int64_t>(params[1]), at<int64_t>(params[2]),
      at<float>(params[3]),   at<float>(params[4]),   at<int64_t>(params[5]),
      at<bool>(params[6]),    at<int64_t>(params[7]), at<int64_t>(params[8])};
  need(ssad::cut_paste(view_of(from, dtype, shape, strides), view_of(to, dtype, shape, strides),
                       rows, at<bool>(mask), at<int8_t>(status), threads));
}

void cut_paste_keyed(Address from, Address to, int dtype, std::array<int64_t, 4> shape,
                     std::array<int64_t, 4> strides, Address keys, std::array<int64_t, 2> streams,
                     const Law& law, Address mask, Address status, int64_t threads) {
  need(ssad::cut_paste_keyed(
      view_of(from, dtype, shape, strides), view_of(to, dtype, shape, strides), at<int64_t>(keys),
      {streams[0], streams[1]}, law_of(law), at<bool>(mask), at<int8_t>(status), threads));
}

void sample_cut_paste(Address keys, int64_t n, int64_t stream, int64_t height, int64_t width,
                      const Law& law, std::array<Address, 7> out) {
  const ssad::CutPasteDraws draws = {at<int64_t>(out[0]), at<int64_t>(out[1]), at<int64_t>(out[2]),
                                     at<float>(out[3]),   at<float>(out[4]),   at<int64_t>(out[5]),
                                     at<bool>(out[6])};
  ssad::sample_cut_paste(at<int64_t>(keys), n, stream, height, width, law_of(law), draws);
}

void philox(Address keys, int64_t n, int64_t stream, int64_t count, Address out, int64_t threads) {
  ssad::kernels().philox(at<int64_t>(keys), n, stream, count, at<int64_t>(out), threads);
}

// inputs: rhs, mask, boundary; outputs: solution, status, iterations, residual
void poisson_solve(std::array<Address, 3> inputs, int dtype, std::array<int64_t, 4> shape,
                   int solver, double tol, double rtol, int64_t max_iterations,
                   std::array<Address, 4> outputs, int64_t threads) {
  const ssad::PoissonProblem problem = {static_cast<ssad::Dtype>(dtype),
                                        shape[0],
                                        shape[1],
                                        shape[2],
                                        shape[3],
                                        at<void>(inputs[0]),
                                        at<bool>(inputs[1]),
                                        at<void>(inputs[2]),
                                        options_of(solver, tol, rtol, max_iterations),
                                        at<void>(outputs[0]),
                                        at<int8_t>(outputs[1]),
                                        at<int32_t>(outputs[2]),
                                        at<void>(outputs[3])};
  need(ssad::poisson_solve(problem, threads));
}

void poisson_blend(std::array<Address, 2> addresses, int dtype, std::array<int64_t, 4> target_shape,
                   std::array<int64_t, 4> target_strides, std::array<int64_t, 4> source_shape,
                   std::array<int64_t, 4> source_strides, Address mask, int mask_kind,
                   std::array<int64_t, 2> mask_shape, std::array<Address, 7> rows, int region,
                   int solver, double tol, double rtol, int64_t max_iterations, Address status,
                   int64_t threads) {
  const ssad::BlendProblem problem = blend_of(
      addresses, dtype, target_shape, target_strides, source_shape, source_strides, mask, mask_kind,
      mask_shape, rows, region, options_of(solver, tol, rtol, max_iterations), status);
  need(ssad::poisson_blend(problem, threads));
}

ssad::NsaMasks masks_of(std::array<Address, 2> masks, int64_t sources, int64_t n, int64_t height,
                        int64_t width) {
  return {at<bool>(masks[0]), at<bool>(masks[1]), sources, n, height, width};
}

// law: as ssad_kernels/nsa_law.py packs it; axes: size, half, full and centre, of both axes
ssad::NsaLaw nsa_law_of(const std::array<double, 22>& law, const std::array<int64_t, 14>& axes,
                        int64_t side, Address quantiles) {
  const auto axis = [&](int i) -> ssad::NsaAxis {
    return {axes[i],
            {axes[i + 1], axes[i + 2]},
            {axes[i + 3], axes[i + 4]},
            {axes[i + 5], axes[i + 6]}};
  };
  return {law[0],
          law[5],
          law[6],
          {law[7], law[8]},
          law[9],
          static_cast<int64_t>(law[10]),
          law[11],
          law[12],
          static_cast<int64_t>(law[14]),
          {law[15], law[16]},
          static_cast<ssad::NsaSize>(law[17]),
          law[8] != 0.0,
          law[18] != 0.0,
          law[19] != 0.0,
          law[20] != 0.0,
          law[21] != 0.0,
          {axis(0), axis(7)},
          side,
          at<double>(quantiles)};
}

void sample_nsa(Address keys, int64_t n, int64_t stream, int64_t sources,
                std::array<Address, 2> masks, const std::array<double, 22>& law,
                const std::array<int64_t, 14>& axes, int64_t side, Address quantiles,
                std::array<Address, 7> out, int64_t threads) {
  const ssad::NsaDraws draws = {at<int64_t>(out[0]), at<int64_t>(out[1]), at<int64_t>(out[2]),
                                at<double>(out[3]),  at<bool>(out[4]),    at<double>(out[5]),
                                at<int8_t>(out[6])};
  need(ssad::sample_nsa(at<int64_t>(keys), stream, sources,
                        masks_of(masks, sources, n, axes[0], axes[7]),
                        nsa_law_of(law, axes, side, quantiles), draws, threads));
}

// views: images, sources, out; masks: of images, of sources; background: whether objects are
// found, by Otsu's threshold, or from low to high; how: gradient, region, label's kind, size and
// radius; stop: tol, rtol, iterations; numbers: steepness, midpoint, threshold; outputs: label,
// status
void nsa_keyed(std::array<Address, 3> views, int dtype,
               std::array<std::array<int64_t, 4>, 3> shapes,
               std::array<std::array<int64_t, 4>, 3> strides, bool has_bank, Address keys,
               std::array<int64_t, 2> streams, const std::array<double, 22>& law,
               const std::array<int64_t, 14>& axes, int64_t side, Address quantiles,
               std::array<Address, 2> masks, std::tuple<bool, bool, double, double> background,
               std::array<int, 5> how, std::tuple<double, double, int64_t> stop,
               std::array<double, 3> numbers, std::array<Address, 2> outputs, int64_t threads) {
  const auto view = [&](int i) { return view_of(views[i], dtype, shapes[i], strides[i]); };
  const auto [finds_objects, is_otsu, low, high] = background;
  const auto [tol, rtol, max_iterations] = stop;
  const ssad::NsaKeyedProblem problem = {view(0),
                                         view(1),
                                         view(2),
                                         has_bank,
                                         at<int64_t>(keys),
                                         streams[0],
                                         streams[1],
                                         nsa_law_of(law, axes, side, quantiles),
                                         finds_objects,
                                         is_otsu,
                                         low,
                                         high,
                                         at<bool>(masks[0]),
                                         at<bool>(masks[1]),
                                         static_cast<ssad::NsaGradient>(how[0]),
                                         static_cast<ssad::BlendRegion>(how[1]),
                                         options_of(ssad::kSine, tol, rtol, max_iterations),
                                         static_cast<ssad::LabelKind>(how[2]),
                                         static_cast<float>(numbers[0]),
                                         static_cast<float>(numbers[1]),
                                         numbers[2],
                                         how[3],
                                         how[4],
                                         at<float>(outputs[0]),
                                         at<int8_t>(outputs[1])};
  need(ssad::nsa_keyed(problem, threads));
}

// params: the first five fields of NsaParams; sizes: n, patches, ellipses, height, width, side and
// sources; paste is 0 if it is not wanted
void nsa_regions(std::array<Address, 5> params, std::array<int64_t, 7> sizes,
                 std::array<Address, 2> masks, bool is_reference, bool pastes_label, Address region,
                 Address paste, int64_t threads) {
  const ssad::NsaParams rows = {at<int64_t>(params[0]), at<int64_t>(params[1]),
                                at<int64_t>(params[2]), at<double>(params[3]), at<bool>(params[4])};
  need(ssad::nsa_regions(rows, sizes[1], sizes[2],
                         masks_of(masks, sizes[6], sizes[0], sizes[3], sizes[4]), sizes[5],
                         is_reference, pastes_label, at<bool>(region), at<bool>(paste), threads));
}

// addresses and rows as above, without gradient and gains; alpha: (n,) or 0
void alpha_blend(std::array<Address, 2> addresses, int dtype, std::array<int64_t, 4> target_shape,
                 std::array<int64_t, 4> target_strides, std::array<int64_t, 4> source_shape,
                 std::array<int64_t, 4> source_strides, Address mask, int mask_kind,
                 std::array<int64_t, 2> mask_shape, std::array<Address, 4> rows, Address alpha,
                 bool is_reference, Address status, int64_t threads) {
  const ssad::BlendProblem patches = {
      view_of(addresses[0], dtype, target_shape, target_strides),
      view_of(addresses[1], dtype, source_shape, source_strides),
      at<void>(mask),
      static_cast<ssad::MaskKind>(mask_kind),
      mask_shape[0],
      mask_shape[1],
      {at<int64_t>(rows[0]), at<int64_t>(rows[1]), at<int64_t>(rows[2]), at<int64_t>(rows[3]),
       nullptr, nullptr, nullptr},
      is_reference ? ssad::BlendRegion::kOpenCv : ssad::BlendRegion::kMask,
      {},
      at<int8_t>(status)};
  need(ssad::alpha_blend({patches, at<double>(alpha)}, threads));
}

void median_filter(Address images, int element, std::array<int64_t, 4> shape,
                   std::array<int64_t, 4> strides, int64_t radius, bool is_square, Address boxes,
                   Address out, int64_t threads) {
  need(ssad::median_filter({view_of(images, 0, shape, strides), static_cast<ssad::Element>(element),
                            radius, is_square, at<int64_t>(boxes), at<void>(out)},
                           threads));
}

void object_mask(Address images, int dtype, std::array<int64_t, 4> shape,
                 std::array<int64_t, 4> strides, double low, double high, bool is_otsu,
                 int64_t size, Address out, int64_t threads) {
  need(ssad::object_mask(
      {view_of(images, dtype, shape, strides), low, high, is_otsu, size, at<bool>(out)}, threads));
}

void difference_label(std::array<Address, 3> views, int dtype, std::array<int64_t, 4> shape,
                      std::array<std::array<int64_t, 4>, 3> strides, int kind,
                      std::array<Address, 3> rows, double threshold, int64_t size, int64_t radius,
                      Address out, int64_t threads) {
  need(ssad::difference_label(
      label_problem(views, dtype, shape, strides, kind, rows, threshold, size, radius, out),
      threads));
}

// Rows and columns each: size of the result, kernel, stride, start, sigma
void upsample(Address in, int dtype, std::array<int64_t, 4> shape, std::array<int64_t, 4> strides,
              std::array<int64_t, 2> size, std::array<int64_t, 2> kernel,
              std::array<int64_t, 2> stride, std::array<int64_t, 2> start,
              std::array<double, 2> sigma, bool normalise, bool is_adjoint, Address out,
              int64_t threads) {
  const auto axis = [&](int i) -> ssad::UpsampleAxis {
    return {kernel[i], stride[i], start[i], sigma[i]};
  };
  need(ssad::upsample({view_of(in, dtype, shape, strides), size[0], size[1], axis(0), axis(1),
                       normalise, is_adjoint, at<void>(out)},
                      threads));
}

// inputs: keys, cells, angle (or 0); outputs: noise, status
void perlin_noise(std::array<Address, 3> inputs, int64_t stream, int64_t n,
                  std::array<int64_t, 2> size, std::array<Address, 2> outputs, int64_t threads) {
  need(ssad::perlin_noise(
      {at<int64_t>(inputs[0]), at<int64_t>(inputs[1]), at<float>(inputs[2]), stream, n, size[0],
       size[1], at<float>(outputs[0]), at<int8_t>(outputs[1])},
      threads));
}

// views: images, references; gradient is 0 where the kind needs none
void gms(int kind, std::array<Address, 2> views, int dtype, std::array<int64_t, 4> shape,
         std::array<std::array<int64_t, 4>, 2> strides, int64_t scales, double c, Address gradient,
         Address out, int64_t threads) {
  need(ssad::gms(
      {static_cast<ssad::GmsKind>(kind), view_of(views[0], dtype, shape, strides[0]),
       view_of(views[1], dtype, shape, strides[1]), scales, c, at<void>(gradient), at<void>(out)},
      threads));
}

// As above; gradient is 0 for the map
void ssim(std::array<Address, 2> views, int dtype, std::array<int64_t, 4> shape,
          std::array<std::array<int64_t, 4>, 2> strides, const std::vector<double>& taps,
          Address gradient, Address out, int64_t threads) {
  need(ssad::ssim(
      {view_of(views[0], dtype, shape, strides[0]), view_of(views[1], dtype, shape, strides[1]),
       taps.data(), static_cast<int64_t>(taps.size()), at<void>(gradient), at<void>(out)},
      threads));
}

// addresses: scores, among, ignored (or 0) and counts
void count_above(std::array<Address, 4> addresses, int dtype, int64_t n, int64_t m, int64_t most,
                 int64_t threads) {
  need(ssad::count_above(
      {at<void>(addresses[0]), n, at<void>(addresses[1]), m, at<uint8_t>(addresses[2]),
       static_cast<ssad::Dtype>(dtype), most, at<int64_t>(addresses[3])},
      threads));
}

void connected_components(Address masks, std::array<int64_t, 3> shape, Address labels,
                          Address counts, int64_t threads) {
  need(ssad::connected_components(
      {at<uint8_t>(masks), shape[0], shape[1], shape[2], at<int32_t>(labels), at<int64_t>(counts)},
      threads));
}

// addresses: keys, cell, out; sizes: n, stream, h, w, parts
void cell_masks(std::array<Address, 3> addresses, std::array<int64_t, 5> sizes, int64_t least,
                int kind, uint64_t below, int64_t threads) {
  need(ssad::cell_masks(
      {at<int64_t>(addresses[0]), at<int64_t>(addresses[1]), at<bool>(addresses[2]), sizes[0],
       sizes[1], sizes[2], sizes[3], sizes[4], least, static_cast<ssad::CellMaskKind>(kind), below},
      threads));
}

// addresses: images, masks, out; shape: n, parts, c, h, w
void mask_images(std::array<Address, 3> addresses, int64_t bytes, std::array<int64_t, 5> shape,
                 bool is_interleaved, int64_t threads) {
  ssad::mask_images({at<void>(addresses[0]), at<uint8_t>(addresses[1]), at<void>(addresses[2]),
                     bytes, shape[0], shape[1], shape[2], shape[3] * shape[4], is_interleaved},
                    threads);
}

// addresses: outputs, masks, images, out; shape: n, parts, c, h, w
void composite(std::array<Address, 4> addresses, int dtype, std::array<int64_t, 5> shape,
               int64_t threads) {
  ssad::composite({at<void>(addresses[0]), at<uint8_t>(addresses[1]), at<void>(addresses[2]),
                   at<void>(addresses[3]), static_cast<ssad::Dtype>(dtype), shape[0], shape[1],
                   shape[2], shape[3] * shape[4]},
                  threads);
}

// addresses: scores, masks, cell, threshold, refined, hidden; shape: n, parts, h, w
void refine_cells(std::array<Address, 6> addresses, int dtype, std::array<int64_t, 4> shape,
                  double share, int64_t threads) {
  need(ssad::refine_cells(
      {at<void>(addresses[0]), at<uint8_t>(addresses[1]), at<int64_t>(addresses[2]),
       at<double>(addresses[3]), at<bool>(addresses[4]), at<int64_t>(addresses[5]),
       static_cast<ssad::Dtype>(dtype), shape[0], shape[1], shape[2], shape[3], share},
      threads));
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.def("cut_paste", &cut_paste, ReleaseGil());
  m.def("cut_paste_keyed", &cut_paste_keyed, ReleaseGil());
  m.def("sample_cut_paste", &sample_cut_paste, ReleaseGil());
  m.def("philox", &philox, ReleaseGil());
  m.def("poisson_solve", &poisson_solve, ReleaseGil());
  m.def("poisson_blend", &poisson_blend, ReleaseGil());
  m.def("sample_nsa", &sample_nsa, ReleaseGil());
  m.def("nsa_regions", &nsa_regions, ReleaseGil());
  m.def("nsa_keyed", &nsa_keyed, ReleaseGil());
  m.def("alpha_blend", &alpha_blend, ReleaseGil());
  m.def("median_filter", &median_filter, ReleaseGil());
  m.def("object_mask", &object_mask, ReleaseGil());
  m.def("difference_label", &difference_label, ReleaseGil());
  m.def("upsample", &upsample, ReleaseGil());
  m.def("perlin_noise", &perlin_noise, ReleaseGil());
  m.def("gms", &gms, ReleaseGil());
  m.def("ssim", &ssim, ReleaseGil());
  m.def("count_above", &count_above, ReleaseGil());
  m.def("connected_components", &connected_components, ReleaseGil());
  m.def("cell_masks", &cell_masks, ReleaseGil());
  m.def("mask_images", &mask_images, ReleaseGil());
  m.def("composite", &composite, ReleaseGil());
  m.def("refine_cells", &refine_cells, ReleaseGil());
  m.attr("cpu_level") = ssad::kernels().level;
  ssad::bindings::define_cuda(m);
}
