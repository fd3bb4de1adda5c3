// SPDX-License-Identifier: Apache-2.0
// Which processors are chosen on machines that are not here.
#include "qwen/processors.hpp"

#include <gtest/gtest.h>
#include <hwloc.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <string>

#include "../golden_text.hpp"
#include "../temporary_directory.hpp"
#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

struct Destroy {
  void operator()(hwloc_topology_t topology) const { hwloc_topology_destroy(topology); }
};
using Topology = std::unique_ptr<hwloc_topology, Destroy>;

Topology synthetic(const char* description) {
  hwloc_topology_t topology = nullptr;
  hwloc_topology_init(&topology);
  Topology owner(topology);
  EXPECT_EQ(hwloc_topology_set_synthetic(topology, description), 0);
  EXPECT_EQ(hwloc_topology_load(topology), 0);
  return owner;
}

Topology from_file(const std::string& name) {
  hwloc_topology_t topology = nullptr;
  hwloc_topology_init(&topology);
  Topology owner(topology);
  const std::string path = std::string(TEST_DATA_DIR) + "/topologies/" + name;
  EXPECT_EQ(hwloc_topology_set_xml(topology, path.c_str()), 0);
  EXPECT_EQ(hwloc_topology_load(topology), 0);
  return owner;
}

// Sixteen cores in one socket.
Topology server() {
  return synthetic("pack:1 [numa] core:16 pu:1");
}
// Processors 0 to 15 in the first, 16 to 31 in the second, two a core.
Topology two_sockets() {
  return synthetic("pack:2 [numa] core:8 pu:2");
}
// Eight performance cores of two threads, 0 to 15, eight efficiency cores, 16 to 30.
Topology hybrid() {
  return from_file("hybrid.xml");
}

Processors range(std::uint32_t first, std::uint32_t last) {
  Processors all;
  for (std::uint32_t number = first; number <= last; ++number) all.push_back(number);
  return all;
}

std::string chosen(const Topology& topology, const ProcessorRequest& request) {
  const ProcessorChoice choice = choose_processors(topology.get(), request);
  EXPECT_EQ(choice.threads(), choice.processors.size());
  std::string text = choice.what + "\nprocessors:";
  for (const std::uint32_t number : choice.processors) text += " " + std::to_string(number);
  text += "\n";
  for (const std::string& note : choice.notes) text += "note: " + note + "\n";
  return text;
}

void expect_golden(const std::string& name, const std::string& text) {
  tests::expect_golden("processors/" + name + ".txt", text);
}

TEST(Processors, OfAServer) {
  expect_golden("server", chosen(server(), {.near_gpu = range(0, 15)}));
}

TEST(Processors, WithTheGpuOnTheSecondSocket) {
  expect_golden("second-socket", chosen(two_sockets(), {.near_gpu = range(16, 31)}));
}

TEST(Processors, WithTheGpuOnASocketWhereTheProcessMayNotRun) {
  expect_golden("other-socket",
                chosen(two_sockets(), {.near_gpu = range(16, 31), .allowed = range(0, 15)}));
}

TEST(Processors, OfTwoSocketsWithoutAGpu) {
  expect_golden("two-sockets", chosen(two_sockets(), {}));
}

TEST(Processors, OfAHybridMachineArePerformanceCores) {
  expect_golden("hybrid", chosen(hybrid(), {.near_gpu = range(0, 31)}));
}

TEST(Processors, OfAHybridMachineIfMoreThreadsAreAskedFor) {
  expect_golden("hybrid-12", chosen(hybrid(), {.near_gpu = range(0, 31), .threads = 12}));
  expect_golden("hybrid-20", chosen(hybrid(), {.near_gpu = range(0, 31), .threads = 20}));
}

TEST(Processors, OfAHybridMachineWhereOnlyEfficiencyCoresMayBeUsed) {
  expect_golden("efficiency", chosen(hybrid(), {.allowed = range(16, 31)}));
}

TEST(Processors, TheOnlyOne) {
  expect_golden("one", chosen(synthetic("pu:1"), {.near_gpu = Processors{0}}));
  expect_golden("one-for-two", chosen(synthetic("pu:1"), {.threads = 2}));
}

TEST(Processors, OfASetOfTwo) {
  expect_golden("set-of-two", chosen(server(), {.near_gpu = range(0, 15), .allowed = range(4, 5)}));
  // Of one core.
  expect_golden("set-of-one-core",
                chosen(two_sockets(), {.near_gpu = range(0, 15), .allowed = range(4, 5)}));
}

TEST(Processors, WithinAQuota) {
  expect_golden("quota", chosen(server(), {.near_gpu = range(0, 15), .quota = 2.5}));
  expect_golden("quota-below-one", chosen(server(), {.near_gpu = range(0, 15), .quota = 0.4}));
  expect_golden("quota-and-threads",
                chosen(server(), {.near_gpu = range(0, 15), .quota = 4.0, .threads = 8}));
}

TEST(Processors, AsManyAsAskedFor) {
  expect_golden("fewer", chosen(server(), {.near_gpu = range(0, 15), .threads = 3}));
  expect_golden("too-many", chosen(server(), {.near_gpu = range(0, 15), .threads = 64}));
  expect_golden("sockets-24", chosen(two_sockets(), {.near_gpu = range(16, 31), .threads = 24}));
}

TEST(Processors, NoneIsAnError) {
  EXPECT_THROW(choose_processors(server().get(), {.allowed = Processors{99}}), Error);
}

TEST(Processors, AQuotaGreaterThanTheThreadsChangesNothing) {
  EXPECT_EQ(chosen(server(), {.quota = 16.0}), chosen(server(), {}));
}

TEST(Processors, OfThisMachine) {
  const ProcessorRequest request = this_machine(std::nullopt);
  ASSERT_TRUE(request.allowed);
  EXPECT_FALSE(request.near_gpu);
  const ProcessorChoice choice = choose_processors_here(request);
  EXPECT_GE(choice.threads(), 1U);
  for (const std::uint32_t number : choice.processors)
    EXPECT_NE(std::ranges::find(*request.allowed, number), request.allowed->end());
  EXPECT_FALSE(this_machine("no such device").near_gpu);
}

TEST(ProcessorList, IsReadAsTheSystemWritesIt) {
  EXPECT_EQ(parse_processor_list("0-3,8,10-11\n"), (Processors{0, 1, 2, 3, 8, 10, 11}));
  EXPECT_EQ(parse_processor_list("5"), (Processors{5}));
  EXPECT_EQ(parse_processor_list("4,1-2,2"), (Processors{1, 2, 4}));
  for (const char* nonsense :
       {"", "\n", "a", "1-", "3-1", "1;2", "-4", "1--2", "0-99999999", "1 2"})
    EXPECT_TRUE(parse_processor_list(nonsense).empty()) << nonsense;
}

TEST(CpuQuota, IsReadAsTheSystemWritesIt) {
  EXPECT_EQ(parse_cpu_max("200000 100000"), 2.0);
  EXPECT_EQ(parse_cpu_max("50000 100000\n"), 0.5);
  for (const char* none : {"max 100000", "", "100000", "100000 0", "-1 100000", "x y"})
    EXPECT_EQ(parse_cpu_max(none), std::nullopt) << none;
}

TEST(CpuQuota, IsTheLeastOfTheGroupsAbove) {
  const tests::TemporaryDirectory directory;
  const auto write = [&](const char* group, const char* text) {
    std::filesystem::create_directories(directory / group);
    std::ofstream(directory / (std::string(group) + "/cpu.max")) << text;
  };
  write("a", "800000 100000");
  write("a/b", "300000 100000");
  write("a/b/c", "max 100000");
  write("d", "max 100000");
  EXPECT_EQ(cpu_quota(directory / "", "0::/a/b/c\n"), 3.0);
  EXPECT_EQ(cpu_quota(directory / "", "12:cpu:/x\n0::/a\n"), 8.0);
  EXPECT_EQ(cpu_quota(directory / "", "0::/d\n"), std::nullopt);
  EXPECT_EQ(cpu_quota(directory / "", "0::/gone\n"), std::nullopt);
  EXPECT_EQ(cpu_quota(directory / "none", ""), std::nullopt);
}

}  // namespace
}  // namespace tensor_pager::qwen
