// SPDX-License-Identifier: Apache-2.0
#include "command_line/device_options.hpp"

#include <CLI/CLI.hpp>

#include "command_line/checks.hpp"

namespace tensor_pager::command_line {

void DeviceArguments::add(CLI::App& app) {
  app.add_option("--device", device_, "Where the model runs; auto: on a GPU if there is one")
      ->check(CLI::IsMember({"auto", "cuda", "host"}))
      ->capture_default_str()
      ->type_name("KIND");
  app.add_option("--gpu", gpu_, "Which GPU")
      ->check(not_negative())
      ->capture_default_str()
      ->type_name("N");
}

DeviceOptions DeviceArguments::options() const {
  return {.device = parse_device(device_), .gpu = gpu_};
}

void MemoryArguments::add(CLI::App& app) {
  app.add_option("--vram", vram_,
                 "All device memory the run may take: 8GiB, say; auto is 90% of what is free")
      ->capture_default_str()
      ->type_name("SIZE|auto");
  app.add_option("--arena", arena_,
                 "Memory for weights, instead of what --vram leaves: 2GiB, or 25% of them")
      ->type_name("SIZE|PCT");
}

MemoryOptions MemoryArguments::options() const {
  MemoryOptions options;
  if (vram_ != "auto") options.vram = parse_size("--vram", vram_);
  if (arena_) options.arena = parse_arena("--arena", *arena_);
  return options;
}

void PlacementArguments::add(CLI::App& app) {
  app.add_option("--place", place_,
                 "Where feed-forward parts run in generation: on the device; on processors, which "
                 "read the file in place; a share of them there; or what is predicted to be "
                 "fastest")
      ->capture_default_str()
      ->type_name("gpu|cpu|PCT|auto");
  app.add_option("--threads", rest_.threads, "Of the processors' share of generation")
      ->check(positive())
      ->default_str("by cores, NUMA node and quota")
      ->type_name("N");
  app.add_flag("--explain", rest_.explain,
               "Say what runs where and why, in bytes and microseconds");
}

PlacementOptions PlacementArguments::options() const {
  PlacementOptions options = rest_;
  options.place = parse_place(place_);
  return options;
}

}  // namespace tensor_pager::command_line
