// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct hwloc_topology;

namespace tensor_pager::qwen {

/// Processors by the numbers that the system knows them by, ascending.
using Processors = std::vector<std::uint32_t>;

/// What is known beside a machine's topology, and what is asked for.
struct ProcessorRequest {
  /// Those near the GPU: of its NUMA node. Nothing: there is no GPU, or nobody knows.
  std::optional<Processors> near_gpu{};
  /// Those on which the process may run. Nothing: all.
  std::optional<Processors> allowed{};
  /// As many processors' time the process may take at once (cgroup's cpu.max). Nothing: all.
  std::optional<double> quota{};
  /// --threads. Nothing: as many as are useful.
  std::optional<std::uint32_t> threads{};
};

/// Where the CPU's share of the work runs.
struct ProcessorChoice {
  /// One for each thread.
  Processors processors{};
  /// "16 threads, one a core, near the GPU": for people to read.
  std::string what;
  /// What could not be done as asked or as would be best, and what that costs; a line each.
  std::vector<std::string> notes{};

  std::uint32_t threads() const { return static_cast<std::uint32_t>(processors.size()); }
};

/// Chooses one processor of each performance core near the GPU: reading weights keeps a core's
/// memory requests busy, and a second thread on a core adds nothing, nor do slow cores that the
/// others wait for at the end of each product. Where more threads are asked for than there are such
/// cores, efficiency cores come next, then cores of other NUMA nodes, then second threads of cores.
/// No more threads than the quota has time for are taken: the system would stop all of them for
/// tens of milliseconds at a time.
///
/// A pure function of its arguments. The topology must have been loaded; performance cores are the
/// kind with the greatest "efficiency" (hwloc_cpukinds_get_info), which means performance. Throws
/// Error if topology and allowed set have no processor in common.
ProcessorChoice choose_processors(hwloc_topology* topology, const ProcessorRequest& request);

/// Of a file cpu.max, "200000 100000" or "max 100000": processors, or nothing for no limit or for a
/// text that is not one.
std::optional<double> parse_cpu_max(std::string_view text);

/// The least limit of a process's control group and of those that hold it. `root` is where the
/// system mounts groups, /sys/fs/cgroup; `membership` is the text of /proc/self/cgroup.
std::optional<double> cpu_quota(const std::filesystem::path& root, std::string_view membership);

/// What this machine says: the process's allowed set, the quota of its control group, and with the
/// address of a GPU on the PCI bus ("0000:1b:00.0") the processors near it.
ProcessorRequest this_machine(const std::optional<std::string>& gpu_address);

/// choose_processors with this machine's topology. Throws Error.
ProcessorChoice choose_processors_here(const ProcessorRequest& request);

/// "0-3,8,10-11" as the system writes lists of processors (local_cpulist, Cpus_allowed_list); an
/// empty list for a text that is not one.
Processors parse_processor_list(std::string_view text);

}  // namespace tensor_pager::qwen
