// SPDX-License-Identifier: Apache-2.0
// A profiler for tests: an injection library, as NVTX loads from NVTX_INJECTION64_PATH, that writes
// a line for each span that begins ("+id domain/name") or ends ("-id") to the file that
// NVTX_RECORD_TO names.
#include <nvtx3/nvToolsExt.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <string>

namespace {

std::mutex mutex;
std::deque<std::string> domains;
std::FILE* record = nullptr;
std::uint64_t spans = 0;

nvtxDomainHandle_t NVTX_API create_domain(const char* name) {
  const std::lock_guard lock(mutex);
  return reinterpret_cast<nvtxDomainHandle_t>(&domains.emplace_back(name));
}

nvtxRangeId_t NVTX_API begin(nvtxDomainHandle_t domain, const nvtxEventAttributes_t* attributes) {
  const std::lock_guard lock(mutex);
  std::fprintf(record, "+%llu %s/%s\n", static_cast<unsigned long long>(++spans),
               reinterpret_cast<const std::string*>(domain)->c_str(), attributes->message.ascii);
  return spans;
}

void NVTX_API end(nvtxDomainHandle_t /*domain*/, nvtxRangeId_t id) {
  const std::lock_guard lock(mutex);
  std::fprintf(record, "-%llu\n", static_cast<unsigned long long>(id));
  std::fflush(record);
}

template <class Function>
void put(NvtxFunctionTable table, NvtxCallbackIdCore2 place, Function* function) {
  *table[place] = reinterpret_cast<NvtxFunctionPointer>(function);
}

}  // namespace

extern "C" int NVTX_API InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_export_table) {
  const char* path = std::getenv("NVTX_RECORD_TO");
  record = path == nullptr ? nullptr : std::fopen(path, "w");
  const auto* callbacks =
      static_cast<const NvtxExportTableCallbacks*>(get_export_table(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable table = nullptr;
  unsigned size = 0;
  if (record == nullptr || callbacks == nullptr ||
      callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size) == 0) {
    return 0;
  }
  put(table, NVTX_CBID_CORE2_DomainCreateA, create_domain);
  put(table, NVTX_CBID_CORE2_DomainRangeStartEx, begin);
  put(table, NVTX_CBID_CORE2_DomainRangeEnd, end);
  return 1;
}
