#include "devices/cuda/check.hpp"

namespace tensor_pager::cuda {

namespace {

template <class Function>
void look_up(Function& function, const char* name) {
  void* address = nullptr;
  cudaDriverEntryPointQueryResult found{};
  const std::string call = std::string("looking up ") + name + " in the CUDA driver";
  check(cudaGetDriverEntryPointByVersion(name, &address, 12000, cudaEnableDefault, &found), call);
  if (found != cudaDriverEntryPointSuccess || address == nullptr) {
    throw DeviceError(call + " found nothing; the driver is too old: CUDA 12 is needed");
  }
  function = reinterpret_cast<Function>(address);
}

}  // namespace

Driver::Driver() {
  look_up(address_reserve, "cuMemAddressReserve");
  look_up(address_free, "cuMemAddressFree");
  look_up(create, "cuMemCreate");
  look_up(release, "cuMemRelease");
  look_up(map, "cuMemMap");
  look_up(unmap, "cuMemUnmap");
  look_up(set_access, "cuMemSetAccess");
  look_up(granularity, "cuMemGetAllocationGranularity");
  look_up(error_name, "cuGetErrorName");
  look_up(error_string, "cuGetErrorString");
}

void Driver::check(CUresult result, const std::string& call) const {
  if (result == CUDA_SUCCESS) return;
  const char* name = "unknown";
  const char* text = "unknown";
  error_name(result, &name);
  error_string(result, &text);
  throw DeviceError(call + " failed: " + name + ": " + text);
}

}  // namespace tensor_pager::cuda
