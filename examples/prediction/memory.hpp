// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "qwen/activations.hpp"
#include "qwen/memory_plan.hpp"
#include "qwen/model.hpp"

namespace tensor_pager::prediction {

/// What a phase of passes of at most this size takes beside its arena: the key-value cache, and
/// activations as float32, which is what the host device takes.
inline Bytes beside(const qwen::Model& model, const qwen::MemoryPlan& plan,
                    const qwen::PassSize& most) {
  const Bytes one = qwen::ActivationLayout(model.config, {}, {}).bytes();
  return plan.kv_cache + std::max(qwen::ActivationLayout(model.config, most, {}).bytes(), one);
}

}  // namespace tensor_pager::prediction
