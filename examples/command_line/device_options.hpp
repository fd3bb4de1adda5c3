// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "command_line/parser.hpp"
#include "command_line/values.hpp"
#include "pager/types.hpp"

namespace tensor_pager::command_line {

/// Where a model runs.
struct DeviceOptions {
  DeviceKind device = DeviceKind::automatic;
  int gpu = 0;
};

/// In how much memory.
struct MemoryOptions {
  std::optional<Bytes> vram{};  ///< nothing: 90% of what is free
  std::optional<std::variant<Bytes, qwen::Percent>> arena{};
};

/// Where generation runs.
struct PlacementOptions {
  qwen::PlaceWish place{};
  std::optional<std::uint32_t> threads{};  ///< of the processors' share of it; nothing: chosen
  bool explain = false;                    ///< print what runs where, and why
  bool measure = false;                    ///< rates anew, where they are kept: add_measure()
};

/// Their declarations, and what was typed for them.
class DeviceArguments {
 public:
  void add(CLI::App& app);

  /// Once they are parsed. Throws UsageError.
  DeviceOptions options() const;

 private:
  std::string device_ = "auto";
  int gpu_ = 0;
};

/// Likewise.
class MemoryArguments {
 public:
  void add(CLI::App& app);

  /// Once they are parsed. Throws UsageError.
  MemoryOptions options() const;

 private:
  std::string vram_ = "auto";
  std::optional<std::string> arena_;
};

/// Likewise.
class PlacementArguments {
 public:
  void add(CLI::App& app);

  /// Once they are parsed. Throws UsageError.
  PlacementOptions options() const;

 private:
  std::string place_ = "gpu";
  PlacementOptions rest_;
};

}  // namespace tensor_pager::command_line
