// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What the library exports. Shared, it hides everything else; static, it leaves it to whoever
/// links it what that exports.
#ifdef TENSOR_PAGER_SHARED
#define TENSOR_PAGER_EXPORT __attribute__((visibility("default")))
#else
#define TENSOR_PAGER_EXPORT
#endif
