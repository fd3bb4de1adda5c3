// SPDX-License-Identifier: Apache-2.0
#include "topology.hpp"

#include <fmt/format.h>
#include <hwloc.h>
#include <tbb/info.h>

#include <memory>

#include "kernels/instruction_set.hpp"

namespace tensor_pager::qwen_prefill {
namespace {

struct Destroy {
  void operator()(hwloc_topology_t topology) const { hwloc_topology_destroy(topology); }
};
using Topology = std::unique_ptr<hwloc_topology, Destroy>;

Topology load_topology() {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) return nullptr;
  Topology owner(topology);
  if (hwloc_topology_load(topology) != 0) return nullptr;
  return owner;
}

std::string counted(int count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

}  // namespace

std::string describe_processor() {
  std::string text = counted(tbb::info::default_concurrency(), "thread");
  if (const Topology topology = load_topology()) {
    const int cores = hwloc_get_nbobjs_by_type(topology.get(), HWLOC_OBJ_CORE);
    const int nodes = hwloc_get_nbobjs_by_type(topology.get(), HWLOC_OBJ_NUMANODE);
    if (cores > 0) text += " on " + counted(cores, "core");
    if (nodes > 0) text += ", " + counted(nodes, "NUMA node");
  }
  return fmt::format("{}, {}", text, kernels::cpu::name(kernels::cpu::best_instruction_set()));
}

}  // namespace tensor_pager::qwen_prefill
