// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

#include "loaders/graph.hpp"

namespace tensor_pager::loaders {

/// A tensor in its role.
struct Operand {
  WeightRole role{};
  std::uint32_t tensor = 0;
  bool is_vector = false;  ///< its rows are single elements
};

/// Tensors that are cut at the same rows, in multiples of `granularity` rows.
struct RowGroup {
  std::vector<Operand> operands{};
  std::uint64_t rows = 0;
  std::uint64_t granularity = 0;
};

/// An operation before it is cut into steps.
struct Operation {
  Op op{};
  std::uint32_t layer = 0;
  /// Whole tensors that the first slice reads.
  std::vector<Operand> first{};
  std::vector<RowGroup> groups{};
  /// Whole tensors that the last slice reads.
  std::vector<Operand> last{};
  /// Tensors with the experts in their last dimension; every one has `expert_count` equal parts.
  std::vector<Operand> experts{};
  std::uint32_t expert_count = 0;
};

/// Finds tensors by name, checks their shapes, and remembers which were asked for.
class TensorTable {
 public:
  explicit TensorTable(const GgufModel& model)
      : model_(model), used_(model.tensors().size(), false) {}

  /// The tensor {in, out, ...}. Throws GgufError if it is missing or has another shape.
  Operand matrix(WeightRole role, std::string_view name, std::initializer_list<std::uint64_t> ne);
  /// The tensor {length}, which must have a type that can be cut anywhere. Throws GgufError.
  Operand vector(WeightRole role, std::string_view name, std::uint64_t length);

  bool contains(std::string_view name) const { return model_.find(name) != nullptr; }
  std::vector<std::uint32_t> unused() const;

 private:
  const TensorInfo& require(std::string_view name, std::initializer_list<std::uint64_t> ne);
  std::uint32_t index_of(const TensorInfo& tensor) const {
    return static_cast<std::uint32_t>(&tensor - model_.tensors().data());
  }

  const GgufModel& model_;
  std::vector<bool> used_;
};

/// The operations of one layer, in order: what architectures.md calls the graph.
std::vector<Operation> describe_layer(TensorTable& tensors, const ModelConfig& config,
                                      std::uint32_t layer);

/// The output operation; `tied` says that the token embedding is the output matrix.
Operation describe_output(TensorTable& tensors, const ModelConfig& config, bool tied);

}  // namespace tensor_pager::loaders
