// SPDX-License-Identifier: Apache-2.0
// The order of threads, and what the last kernels did, for tests in Python.
#include "../bindings.h"

#include <pybind11/stl.h>

#include <map>
#include <stdexcept>
#include <string>

#include "block.h"

namespace ssad::bindings {
namespace {

void set_order(const std::string& name, uint64_t seed) {
  const std::map<std::string, emulation::Order> orders = {{"forward", emulation::Order::kForward},
                                                          {"reverse", emulation::Order::kReverse},
                                                          {"random", emulation::Order::kRandom}};
  const auto found = orders.find(name);
  if (found == orders.end()) throw std::invalid_argument("no order of threads: " + name);
  emulation::options = {};
  emulation::options.order = found->second;
  emulation::options.seed = seed;
}

// See emulation::Options; until the order is set again.
void omit_barrier(int64_t index, bool is_of_warps) {
  auto& options = emulation::options;
  (is_of_warps ? options.omitted_warp_barrier : options.omitted_barrier) = index;
}

// Since the last call.
py::dict take_counts() {
  using py::literals::operator""_a;
  const emulation::Counts counts = emulation::counts;
  emulation::counts = {};
  return py::dict("threads"_a = counts.threads, "barriers"_a = counts.barriers,
                  "warp_barriers"_a = counts.warp_barriers, "omitted_line"_a = counts.omitted_line,
                  "omitted_file"_a = counts.omitted_file);
}

}  // namespace

void define_emulation(py::module_& m) {
  py::module_ emulation = m.def_submodule("_emulation");
  emulation.def("set_order", &set_order);
  emulation.def("omit_barrier", &omit_barrier);
  emulation.def("take_counts", &take_counts);
}

}  // namespace ssad::bindings
