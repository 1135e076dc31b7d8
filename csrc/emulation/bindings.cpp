// SPDX-License-Identifier: Apache-2.0
// The order of threads, and what the last kernels did, for tests in Python.
#include "../bindings.h"

#include <pybind11/stl.h>

#include <map>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

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

// See emulation::Traffic; until the order is set again.
void count_traffic() { emulation::options.counts_traffic = true; }

// Since the last call.
py::dict take_counts() {
  using py::literals::operator""_a;
  const emulation::Counts counts = std::exchange(emulation::counts, {});
  const emulation::Traffic traffic = std::exchange(emulation::traffic, {});
  std::map<std::tuple<std::string, int>, std::tuple<int64_t, int64_t, int>> shared;
  for (const auto& [place, cost] : traffic.shared) {
    shared[{place.file, place.line}] = {cost.words, cost.wavefronts, cost.ways};
  }
  return py::dict("threads"_a = counts.threads, "barriers"_a = counts.barriers,
                  "warp_barriers"_a = counts.warp_barriers, "omitted_line"_a = counts.omitted_line,
                  "omitted_file"_a = counts.omitted_file, "launches"_a = traffic.launches,
                  "sectors_read"_a = traffic.sectors_read,
                  "sectors_written"_a = traffic.sectors_written,
                  "block_sectors"_a = traffic.block_sectors, "read"_a = traffic.read,
                  "written"_a = traffic.written, "shared"_a = shared);
}

}  // namespace

void define_emulation(py::module_& m) {
  py::module_ emulation = m.def_submodule("_emulation");
  emulation.def("set_order", &set_order);
  emulation.def("omit_barrier", &omit_barrier);
  emulation.def("count_traffic", &count_traffic);
  emulation.def("take_counts", &take_counts);
}

}  // namespace ssad::bindings
