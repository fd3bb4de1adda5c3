// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "loaders/gguf.hpp"
#include "loaders/graph.hpp"
#include "loaders/placement.hpp"
#include "pager/export.hpp"
#include "pager/types.hpp"

namespace tensor_pager::loaders {

/// Steps of the same kind that run in the same place for the same reason.
struct ExplainedPart {
  std::string what;  ///< "attention", "feed-forward", "experts", "output"
  Place place = Place::gpu;
  std::vector<std::uint32_t> layers;  ///< ascending; none for the output
  Bytes weights{};
  /// Of the weights, what stays in the arena and what is copied in each pass; neither on the CPU.
  /// Kept pages are spread over the pass, so every part on the GPU has the same share.
  Bytes resident{};
  Bytes streamed{};
  double seconds = 0;  ///< of a pass, without waiting for pages; on the CPU with handovers
  std::string why;
};

/// What another placement would take.
struct ExplainedAlternative {
  std::string what;
  double seconds = 0;
};

/// A placement for people to read, and for statistics.
struct Explanation {
  std::string pass;  ///< "generation", "prefill"
  PlacementRequest request;
  PlacementRates rates;
  Placement placement;
  std::vector<ExplainedPart> parts;
  std::vector<ExplainedAlternative> alternatives;
};

/// Explains what place returned for the same arguments.
TENSOR_PAGER_EXPORT Explanation explain(std::string pass, const Graph& graph,
                                        std::span<const TensorInfo> tensors,
                                        const PlacementRates& rates,
                                        const PlacementRequest& request,
                                        const Placement& placement);

/// At most 100 characters each; with 64 layers at most 24 lines.
TENSOR_PAGER_EXPORT std::vector<std::string> lines(const Explanation& explanation);

/// "0-3, 7, 9-10": ascending numbers.
TENSOR_PAGER_EXPORT std::string ranges_text(std::span<const std::uint32_t> numbers);

}  // namespace tensor_pager::loaders
