// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "core/core.hpp"
#include "pager/device.hpp"

namespace tensor_pager {

/// Carries commands out in their order; neighbouring pages that are mapped or unmapped one after
/// another are so together. Throws DeviceError.
void remap(AddressRange& range, std::span<const Remap> commands);

}  // namespace tensor_pager
