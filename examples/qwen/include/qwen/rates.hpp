// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>

#include "loaders/graph.hpp"
#include "pager/backing_store.hpp"
#include "qwen/activations.hpp"

namespace tensor_pager::qwen {

/// What a machine does at best: bounds for what a pass can reach.
struct MachineRates {
  double link = 0;        ///< bytes per second to the device, in copies of 64 MiB
  double memory = 0;      ///< bytes per second that the device's own memory is read with
  double arithmetic = 0;  ///< floating-point operations per second of large products, kept up
  double cache = 0;       ///< bytes that may be read again without the memory
};

/// Measured on the processor: a copy in memory, all threads reading 128 MiB, and the faster of
/// products with float32 and with Q4_K. Takes half a second.
MachineRates measure_host_rates();
/// Measured on a GPU: a copy from pinned memory, one within the GPU's (both what it reads and what
/// it writes count), and products of half-precision operands that are not zero (zeros are
/// multiplied faster), one after another for a tenth of a second and more. Throws Error or what
/// CUDA says, and if there is no GPU.
MachineRates measure_cuda_rates(int gpu);

/// Bytes per second of copies to a GPU, of the store's bytes where they are pinned, that run while
/// `work` does, which should take about a tenth of a second. Throws Error or what `work` throws.
double measure_link_beside(int gpu, const BackingStore& store, const std::function<void()>& work);
/// The same of copies of a store's pages to frames of the host device. Throws what the device or
/// `work` throws.
double measure_copies_beside(const BackingStore& store, const std::function<void()>& work);
/// Of a GPU on the PCI bus, "0000:1b:00.0"; nothing if nobody knows.
std::optional<std::string> gpu_address(int gpu);

/// Tokens that a GPU's kernels multiply with weights as they are stored, at most; for more, weights
/// become halves first. 0 without CUDA.
std::uint32_t most_few_tokens();

/// The better of each: what disturbs a measurement only makes it worse.
MachineRates best_of(const MachineRates& a, const MachineRates& b);
/// By how much the rates differ, as a share of the better: the largest difference of the three.
double disagreement(const MachineRates& a, const MachineRates& b);

/// Floating-point operations of one step of a pass for one of its ubatches, attention included with
/// the step that does it.
double step_operations(const loaders::Graph& graph, const loaders::Step& step, const PassSize& size,
                       std::uint32_t ubatch, std::size_t past = 0);
/// The same of a whole pass, attention included: a query at position p costs
/// 4 * (p + 1) * heads * head_dim.
double pass_operations(const loaders::Graph& graph, const PassSize& size, std::size_t past = 0);

/// Bytes of weights that a step reads, and a whole pass, ubatch by ubatch.
double step_weight_bytes(const loaders::Step& step);
double pass_weight_bytes(const loaders::Graph& graph, const PassSize& size);

}  // namespace tensor_pager::qwen
