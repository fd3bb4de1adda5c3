// SPDX-License-Identifier: Apache-2.0
#include "views/profiler.hpp"

#include <utility>

#ifdef TENSOR_PAGER_CUDA
#include <nvtx3/nvToolsExt.h>
#endif

namespace tensor_pager {

#ifdef TENSOR_PAGER_CUDA

namespace {

/// Null if there is no profiler.
nvtxDomainHandle_t domain() {
  static nvtxDomainHandle_t const handle = nvtxDomainCreateA("tensor_pager");
  return handle;
}

}  // namespace

bool ProfilerSpan::wanted() {
  return domain() != nullptr;
}

ProfilerSpan::ProfilerSpan(const std::string& name) {
  if (!wanted()) return;
  nvtxEventAttributes_t attributes{};
  attributes.version = NVTX_VERSION;
  attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  attributes.messageType = NVTX_MESSAGE_TYPE_ASCII;
  attributes.message.ascii = name.c_str();
  id_ = nvtxDomainRangeStartEx(domain(), &attributes);
}

void ProfilerSpan::end() noexcept {
  if (id_) nvtxDomainRangeEnd(domain(), *std::exchange(id_, std::nullopt));
}

#else

bool ProfilerSpan::wanted() {
  return false;
}

ProfilerSpan::ProfilerSpan(const std::string& /*name*/) {}

void ProfilerSpan::end() noexcept {
  id_.reset();
}

#endif

ProfilerSpan::ProfilerSpan(ProfilerSpan&& other) noexcept
    : id_(std::exchange(other.id_, std::nullopt)) {}

ProfilerSpan& ProfilerSpan::operator=(ProfilerSpan&& other) noexcept {
  if (this == &other) return *this;
  end();
  id_ = std::exchange(other.id_, std::nullopt);
  return *this;
}

}  // namespace tensor_pager
