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

// omitted_barrier: see emulation::Options; -1 for none
void set_order(const std::string& name, uint64_t seed, int64_t omitted_barrier) {
  const std::map<std::string, emulation::Order> orders = {{"forward", emulation::Order::kForward},
                                                          {"reverse", emulation::Order::kReverse},
                                                          {"random", emulation::Order::kRandom}};
  const auto found = orders.find(name);
  if (found == orders.end()) throw std::invalid_argument("no order of threads: " + name);
  emulation::options.order = found->second;
  emulation::options.seed = seed;
  emulation::options.omitted_barrier = omitted_barrier;
}

// Since the last call.
std::map<std::string, int64_t> take_counts() {
  const emulation::Counts counts = emulation::counts;
  emulation::counts = {};
  return {{"threads", counts.threads},
          {"barriers", counts.barriers},
          {"omitted_line", counts.omitted_line}};
}

}  // namespace

void define_emulation(py::module_& m) {
  py::module_ emulation = m.def_submodule("_emulation");
  emulation.def("set_order", &set_order);
  emulation.def("take_counts", &take_counts);
}

}  // namespace ssad::bindings
