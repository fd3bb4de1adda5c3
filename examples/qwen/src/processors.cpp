// SPDX-License-Identifier: Apache-2.0
#include "qwen/processors.hpp"

#include <fmt/format.h>
#include <hwloc.h>
#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <tuple>

#include "pager/counted.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

struct FreeBitmap {
  void operator()(hwloc_bitmap_t set) const { hwloc_bitmap_free(set); }
};
struct DestroyTopology {
  void operator()(hwloc_topology_t topology) const { hwloc_topology_destroy(topology); }
};
using Bitmap = std::unique_ptr<hwloc_bitmap_s, FreeBitmap>;

/// A processor, and what speaks against it; those with the least come first.
struct Candidate {
  bool second_thread = false;  // another of its core comes before it
  bool far_from_gpu = false;
  bool slow_core = false;
  std::uint32_t number = 0;

  auto rank() const { return std::tuple(second_thread, far_from_gpu, slow_core, number); }
  bool best() const { return !second_thread && !far_from_gpu && !slow_core; }
};

bool contains(const std::optional<Processors>& set, std::uint32_t number) {
  return !set || std::ranges::find(*set, number) != set->end();
}

// Processors of the fastest kind of core; nothing if there is one kind, or nobody knows.
Bitmap fastest_cores(hwloc_topology_t topology) {
  const int kinds = hwloc_cpukinds_get_nr(topology, 0);
  if (kinds <= 1) return nullptr;
  Bitmap fastest(hwloc_bitmap_alloc());
  int best = -1;
  Bitmap set(hwloc_bitmap_alloc());
  for (int kind = 0; kind < kinds; ++kind) {
    int speed = -1;
    const auto index = static_cast<unsigned>(kind);
    if (hwloc_cpukinds_get_info(topology, index, set.get(), &speed, nullptr, nullptr, 0) != 0)
      continue;
    if (speed > best) {
      best = speed;
      hwloc_bitmap_copy(fastest.get(), set.get());
    }
  }
  return best < 0 ? nullptr : std::move(fastest);
}

/// What a request finds on a machine.
class Chooser {
 public:
  Chooser(hwloc_topology_t topology, const ProcessorRequest& request)
      : topology_(topology), request_(request), fastest_(fastest_cores(topology)) {
    collect();
    if (candidates_.empty()) {
      throw Error(
          "the process may run on none of the machine's processors; give it some (taskset)");
    }
  }

  ProcessorChoice choose() {
    const std::size_t threads = thread_count();
    ProcessorChoice choice;
    for (std::size_t i = 0; i < threads; ++i) choice.processors.push_back(candidates_[i].number);
    choice.what = describe(threads);
    note_places(threads);
    std::ranges::sort(choice.processors);
    choice.notes = std::move(notes_);
    return choice;
  }

 private:
  void collect() {
    std::vector<hwloc_obj_t> cores;
    for (hwloc_obj_t pu = nullptr;
         (pu = hwloc_get_next_obj_by_type(topology_, HWLOC_OBJ_PU, pu)) != nullptr;) {
      const auto number = static_cast<std::uint32_t>(pu->os_index);
      if (!contains(request_.allowed, number)) continue;
      const hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(topology_, HWLOC_OBJ_CORE, pu);
      const bool seen = core != nullptr && std::ranges::find(cores, core) != cores.end();
      if (!seen && core != nullptr) cores.push_back(core);
      candidates_.push_back(
          {.second_thread = seen,
           .far_from_gpu = !contains(request_.near_gpu, number),
           .slow_core = fastest_ && hwloc_bitmap_isset(fastest_.get(), number) == 0,
           .number = number});
    }
    std::ranges::sort(candidates_, {}, &Candidate::rank);
  }

  // Those that are as good as the best there are.
  std::size_t useful() const {
    const Candidate& best = candidates_.front();
    return static_cast<std::size_t>(std::ranges::count_if(candidates_, [&](const Candidate& c) {
      return !c.second_thread && c.far_from_gpu == best.far_from_gpu &&
             c.slow_core == best.slow_core;
    }));
  }

  std::size_t thread_count() {
    std::size_t threads = useful();
    if (request_.threads && *request_.threads > 0) {
      threads = std::min<std::size_t>(*request_.threads, candidates_.size());
      if (threads < *request_.threads) {
        notes_.push_back(fmt::format("{} threads were asked for: {} may be used, so {} it is",
                                     *request_.threads, counted(candidates_.size(), "processor"),
                                     threads));
      }
    }
    if (!request_.quota) return threads;
    const auto granted = static_cast<std::size_t>(std::max(1.0, std::floor(*request_.quota)));
    if (granted >= threads) return threads;
    notes_.push_back(
        fmt::format("the control group has time for {:.2g} processors (cpu.max): {} instead of {}",
                    *request_.quota, counted(granted, "thread"), threads));
    return granted;
  }

  std::size_t count(std::size_t threads, bool Candidate::*what) const {
    return static_cast<std::size_t>(
        std::ranges::count(candidates_.begin(),
                           candidates_.begin() + static_cast<std::ptrdiff_t>(threads), true, what));
  }

  std::string describe(std::size_t threads) const {
    std::string text = counted(threads, "thread");
    if (count(threads, &Candidate::second_thread) == 0)
      text += threads == 1 ? " on one core" : ", one a core";
    if (fastest_ && count(threads, &Candidate::slow_core) == 0)
      text += threads == 1 ? ", a performance core" : ", performance cores";
    if (request_.near_gpu && count(threads, &Candidate::far_from_gpu) == 0)
      text += ", near the GPU";
    return text;
  }

  void note_places(std::size_t threads) {
    const auto note = [&](bool Candidate::*what, const char* where, const char* cost) {
      const std::size_t number = count(threads, what);
      if (number == 0) return;
      notes_.push_back(
          fmt::format("{} of {} {}: {}", number, counted(threads, "thread"), where, cost));
    };
    note(&Candidate::far_from_gpu, "run away from the GPU's NUMA node",
         "what they read and hand over crosses sockets");
    note(&Candidate::slow_core, "run on efficiency cores", "they are slower");
    note(&Candidate::second_thread, "share a core with another", "they add little");
  }

  hwloc_topology_t topology_;
  const ProcessorRequest& request_;
  Bitmap fastest_;
  std::vector<Candidate> candidates_;
  std::vector<std::string> notes_;
};

// Empty if there is no such file.
std::string content(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

[[noreturn]] void throw_unknown() {
  throw Error("the machine's processors cannot be found out (hwloc); is /sys mounted?");
}

std::optional<double> quota_of(const std::filesystem::path& group) {
  std::ifstream file(group / "cpu.max");
  std::string text;
  if (!std::getline(file, text)) return std::nullopt;
  return parse_cpu_max(text);
}

}  // namespace

ProcessorRequest this_machine(const std::optional<std::string>& gpu_address) {
  ProcessorRequest request;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) {
    request.allowed.emplace();
    for (std::uint32_t number = 0; number < CPU_SETSIZE; ++number) {
      if (CPU_ISSET(number, &set)) request.allowed->push_back(number);
    }
  }
  request.quota = cpu_quota("/sys/fs/cgroup", content("/proc/self/cgroup"));
  if (!gpu_address) return request;
  const Processors near = parse_processor_list(
      content(std::filesystem::path("/sys/bus/pci/devices") / *gpu_address / "local_cpulist"));
  if (!near.empty()) request.near_gpu = near;
  return request;
}

ProcessorChoice choose_processors_here(const ProcessorRequest& request) {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) throw_unknown();
  const std::unique_ptr<hwloc_topology, DestroyTopology> owner(topology);
  if (hwloc_topology_load(topology) != 0) throw_unknown();
  return choose_processors(topology, request);
}

ProcessorChoice choose_processors(hwloc_topology* topology, const ProcessorRequest& request) {
  return Chooser(topology, request).choose();
}

std::optional<double> parse_cpu_max(std::string_view text) {
  std::istringstream words{std::string(text)};
  double quota = 0;
  double period = 0;
  if (!(words >> quota >> period) || quota <= 0 || period <= 0) return std::nullopt;
  return quota / period;
}

std::optional<double> cpu_quota(const std::filesystem::path& root, std::string_view membership) {
  constexpr std::string_view kUnified = "0::/";
  std::istringstream lines{std::string(membership)};
  std::filesystem::path group;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(kUnified)) group = line.substr(kUnified.size());
  }
  // A group in a namespace of its own is the root of what is mounted.
  std::optional<double> least = quota_of(root);
  std::filesystem::path at = root;
  for (const std::filesystem::path& part : group) {
    at /= part;
    if (const auto quota = quota_of(at)) least = std::min(least.value_or(*quota), *quota);
  }
  return least;
}

Processors parse_processor_list(std::string_view text) {
  Processors all;
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  constexpr std::uint32_t kMost = 1 << 16;
  while (at != end) {
    std::uint32_t first = 0;
    std::from_chars_result read = std::from_chars(at, end, first);
    std::uint32_t last = first;
    if (read.ec == std::errc{} && read.ptr != end && *read.ptr == '-')
      read = std::from_chars(read.ptr + 1, end, last);
    if (read.ec != std::errc{} || last < first || last >= kMost) return {};
    at = read.ptr;
    for (std::uint32_t number = first; number <= last; ++number) all.push_back(number);
    if (at != end && *at++ != ',') return {};
  }
  std::ranges::sort(all);
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

}  // namespace tensor_pager::qwen
