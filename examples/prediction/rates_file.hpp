// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "loaders/placement.hpp"
#include "loaders/tensor_type.hpp"

namespace tensor_pager::prediction {

/// What rates were measured on, and with.
struct RatesKey {
  std::string cpu;                           ///< model name
  std::uint32_t cores = 0;                   ///< that the measurement used
  std::string gpu;                           ///< name
  std::string driver;                        ///< version
  std::string program;                       ///< version
  std::uint32_t sequences = 1;               ///< whose tokens were multiplied together
  std::vector<loaders::TensorType> types{};  ///< of the model's matrices; any order

  bool operator==(const RatesKey&) const = default;
};

/// What a file of rates says to somebody who asks for those of a key.
struct StoredRates {
  std::optional<loaders::PlacementRates> rates{};
  std::string date{};  ///< when they were measured, as write() was told
  /// Why there are none: "none were stored", "another driver measured them", ... For people.
  std::string why_not{};
};

/// Measured rates in the user's cache folder, one file for each machine and set of weight types, so
/// that a program measures them once. Any number of processes may read and write: a file is there
/// as a whole or not at all. Not thread-safe.
class RatesFile {
 public:
  /// In `folder`, which need not exist.
  RatesFile(const std::filesystem::path& folder, RatesKey key);

  const std::filesystem::path& path() const { return path_; }
  /// Never throws for what is in the file, or that there is none: rates are measured anew then.
  StoredRates read() const;
  /// `date` is for people. Throws output::OutputError.
  void write(const loaders::PlacementRates& rates, const std::string& date) const;

 private:
  RatesKey key_;
  std::filesystem::path path_;
};

/// $XDG_CACHE_HOME/tensor-pager, or ~/.cache/tensor-pager; nothing without a home. Values of
/// environment variables, which may be null.
std::optional<std::filesystem::path> rates_folder(const char* cache_home, const char* home);

}  // namespace tensor_pager::prediction
