// SPDX-License-Identifier: Apache-2.0
#include "fake_cuda_driver.hpp"

#include <cuda.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#undef cuEventElapsedTime

namespace fake_cuda {
namespace {

constexpr std::uintptr_t kFirstContext = 0x1000;  // that of GPU 0
constexpr std::size_t kMemory = std::size_t{1} << 30;
constexpr std::size_t kGranularity = 2 << 20;

struct Count {
  const char* name;
  std::atomic<int> held = 0;
};
enum Kind { contexts, streams, events, buffers, host_buffers, registrations, ranges, frames, maps };
std::array<Count, 9> counts = {{{"contexts"},
                                {"streams"},
                                {"events"},
                                {"buffers"},
                                {"host buffers"},
                                {"registrations"},
                                {"ranges"},
                                {"frames"},
                                {"mappings"}}};

struct Stream {
  CUcontext context;
  unsigned long long id;
};
struct Event {
  double milliseconds = 0;
  bool recorded = false;
};

thread_local std::vector<CUcontext> current;
thread_local CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

void require(bool met, const char* call, const char* what) {
  if (met) return;
  std::fprintf(stderr, "%s %s\n", call, what);
  std::abort();
}

void enter(const char* call) {
  require(!current.empty(), call, "without a current context");
  require(mode == CU_STREAM_CAPTURE_MODE_RELAXED, call, "in a mode that breaks captures");
}

void enter(const char* call, CUstream stream) {
  enter(call);
  require(stream == nullptr || stream != faults().captured, call, "in a captured stream");
}

CUresult failed_if(bool fails) {
  return fails ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

Stream& of(CUstream stream) {
  return *reinterpret_cast<Stream*>(stream);
}
Event& of(CUevent event) {
  return *reinterpret_cast<Event*>(event);
}

CUcontext context_of(int gpu) {
  return reinterpret_cast<CUcontext>(kFirstContext + static_cast<std::uintptr_t>(gpu));
}

CUstream new_stream(CUcontext context) {
  static std::atomic<unsigned long long> ids = 0;
  return reinterpret_cast<CUstream>(new Stream{context, ++ids});
}

/// Addresses that point nowhere.
void* reserve(void* at, std::size_t size) {
  const int fixed = at != nullptr ? MAP_FIXED : 0;
  return ::mmap(at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);
}

void* pointer(CUdeviceptr address) {
  return reinterpret_cast<void*>(address);
}

}  // namespace

Faults& faults() {
  static Faults only;
  return only;
}

std::string held() {
  std::string text;
  for (const Count& count : counts) {
    if (count.held == 0) continue;
    text += (text.empty() ? "" : ", ") + std::to_string(count.held) + " " + count.name;
  }
  return text;
}

int mappings() {
  return counts[maps].held;
}

bool thread_is_untouched() {
  return current.empty() && mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
}

void* make_stream(int gpu) {
  return new_stream(context_of(gpu));
}

void destroy_stream(void* stream) {
  delete static_cast<Stream*>(stream);
}

extern "C" {

CUresult cuGetErrorName(CUresult error, const char** name) {
  *name = error == CUDA_ERROR_UNKNOWN ? "CUDA_ERROR_UNKNOWN" : "another error";
  return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult, const char** text) {
  *text = "so the test wants it";
  return CUDA_SUCCESS;
}

CUresult cuInit(unsigned) {
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int* count) {
  *count = 2;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice* device, int gpu) {
  *device = gpu;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char* name, int size, CUdevice) {
  std::snprintf(name, static_cast<std::size_t>(size), "no GPU at all");
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int*, CUdevice_attribute, CUdevice) {
  return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  ++counts[contexts].held;
  *context = context_of(device);
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice) {
  --counts[contexts].held;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  *context = current.empty() ? nullptr : current.back();
  return CUDA_SUCCESS;
}
CUresult cuCtxPushCurrent(CUcontext context) {
  current.push_back(context);
  return CUDA_SUCCESS;
}
CUresult cuCtxPopCurrent(CUcontext* context) {
  require(!current.empty(), "cuCtxPopCurrent", "without a current context");
  *context = current.back();
  current.pop_back();
  return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice* device) {
  enter("cuCtxGetDevice");
  *device = static_cast<CUdevice>(reinterpret_cast<std::uintptr_t>(current.back()) - kFirstContext);
  return CUDA_SUCCESS;
}
CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* other) {
  std::swap(*other, mode);
  return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream* stream, unsigned) {
  enter("cuStreamCreate");
  ++counts[streams].held;
  *stream = new_stream(current.back());
  return CUDA_SUCCESS;
}
CUresult cuStreamDestroy(CUstream stream) {
  enter("cuStreamDestroy", stream);
  --counts[streams].held;
  delete &of(stream);
  return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream stream) {
  enter("cuStreamSynchronize", stream);
  return CUDA_SUCCESS;
}
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
  enter("cuStreamWaitEvent", stream);
  require(of(event).recorded, "cuStreamWaitEvent", "for an event that is nowhere");
  return CUDA_SUCCESS;
}
CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status) {
  enter("cuStreamIsCapturing");
  const bool captured = stream != nullptr && stream == faults().captured;
  *status = captured ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
  return CUDA_SUCCESS;
}
CUresult cuStreamGetCtx(CUstream stream, CUcontext* context) {
  enter("cuStreamGetCtx");
  *context = of(stream).context;
  return CUDA_SUCCESS;
}
CUresult cuStreamGetId(CUstream stream, unsigned long long* id) {
  enter("cuStreamGetId");
  *id = of(stream).id;
  return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent* event, unsigned) {
  enter("cuEventCreate");
  if (faults().event_create) return CUDA_ERROR_UNKNOWN;
  ++counts[events].held;
  *event = reinterpret_cast<CUevent>(new Event);
  return CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent event) {
  enter("cuEventDestroy");
  --counts[events].held;
  delete &of(event);
  return CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
  enter("cuEventRecord", stream);
  if (faults().event_record) return CUDA_ERROR_UNKNOWN;
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  of(event) = {std::chrono::duration<double, std::milli>(now).count(), true};
  return CUDA_SUCCESS;
}
CUresult cuEventQuery(CUevent event) {
  enter("cuEventQuery");
  require(of(event).recorded, "cuEventQuery", "of an event that is nowhere");
  if (faults().event_query) return CUDA_ERROR_UNKNOWN;
  return faults().busy ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}
CUresult cuEventSynchronize(CUevent) {
  enter("cuEventSynchronize");
  return CUDA_SUCCESS;
}
CUresult cuEventElapsedTime(float* milliseconds, CUevent begin, CUevent end) {
  enter("cuEventElapsedTime");
  *milliseconds = static_cast<float>(of(end).milliseconds - of(begin).milliseconds);
  return CUDA_SUCCESS;
}
/// The name that newer headers give it.
CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent begin, CUevent end) {
  return cuEventElapsedTime(milliseconds, begin, end);
}

CUresult cuMemGetInfo(std::size_t* free, std::size_t* total) {
  enter("cuMemGetInfo");
  *free = kMemory / 2;
  *total = kMemory;
  return CUDA_SUCCESS;
}
CUresult cuMemAlloc(CUdeviceptr* address, std::size_t size) {
  enter("cuMemAlloc");
  if (size > kMemory) return CUDA_ERROR_OUT_OF_MEMORY;
  ++counts[buffers].held;
  *address = reinterpret_cast<CUdeviceptr>(std::malloc(size));
  return CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr address) {
  enter("cuMemFree");
  --counts[buffers].held;
  std::free(pointer(address));
  return CUDA_SUCCESS;
}
CUresult cuMemsetD8Async(CUdeviceptr address, unsigned char value, std::size_t size,
                         CUstream stream) {
  enter("cuMemsetD8Async", stream);
  if (faults().memset) return CUDA_ERROR_UNKNOWN;
  std::memset(pointer(address), value, size);
  return CUDA_SUCCESS;
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, std::size_t size, CUstream stream) {
  enter("cuMemcpyHtoDAsync", stream);
  std::memcpy(pointer(to), from, size);
  return CUDA_SUCCESS;
}
CUresult cuMemAllocHost(void** data, std::size_t size) {
  enter("cuMemAllocHost");
  ++counts[host_buffers].held;
  *data = std::malloc(size);
  return CUDA_SUCCESS;
}
CUresult cuMemFreeHost(void* data) {
  enter("cuMemFreeHost");
  --counts[host_buffers].held;
  std::free(data);
  return CUDA_SUCCESS;
}
CUresult cuMemHostRegister(void*, std::size_t, unsigned) {
  enter("cuMemHostRegister");
  ++counts[registrations].held;
  return CUDA_SUCCESS;
}
CUresult cuMemHostUnregister(void*) {
  enter("cuMemHostUnregister");
  --counts[registrations].held;
  return CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(CUdeviceptr* address, std::size_t size, std::size_t alignment,
                             CUdeviceptr, unsigned long long) {
  enter("cuMemAddressReserve");
  require((alignment & (alignment - 1)) == 0, "cuMemAddressReserve", "with an odd alignment");
  ++counts[ranges].held;
  *address = reinterpret_cast<CUdeviceptr>(reserve(nullptr, size));
  return CUDA_SUCCESS;
}
CUresult cuMemAddressFree(CUdeviceptr address, std::size_t size) {
  enter("cuMemAddressFree");
  --counts[ranges].held;
  ::munmap(pointer(address), size);
  return CUDA_SUCCESS;
}
CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, std::size_t size,
                     const CUmemAllocationProp*, unsigned long long) {
  enter("cuMemCreate");
  if (size > kMemory) return CUDA_ERROR_OUT_OF_MEMORY;
  const int file = ::memfd_create("frame", MFD_CLOEXEC);
  if (file < 0 || ::ftruncate(file, static_cast<off_t>(size)) != 0) return CUDA_ERROR_UNKNOWN;
  ++counts[frames].held;
  *handle = static_cast<CUmemGenericAllocationHandle>(file);
  return CUDA_SUCCESS;
}
CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  enter("cuMemRelease");
  --counts[frames].held;
  ::close(static_cast<int>(handle));
  return CUDA_SUCCESS;
}
CUresult cuMemMap(CUdeviceptr address, std::size_t size, std::size_t,
                  CUmemGenericAllocationHandle handle, unsigned long long) {
  enter("cuMemMap");
  if (faults().maps_left == 0) return CUDA_ERROR_UNKNOWN;
  if (faults().maps_left > 0) --faults().maps_left;
  ++counts[maps].held;
  ::mmap(pointer(address), size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
         static_cast<int>(handle), 0);
  return CUDA_SUCCESS;
}
CUresult cuMemUnmap(CUdeviceptr address, std::size_t size) {
  enter("cuMemUnmap");
  counts[maps].held -= static_cast<int>(size / kGranularity);
  reserve(pointer(address), size);
  return CUDA_SUCCESS;
}
CUresult cuMemSetAccess(CUdeviceptr, std::size_t, const CUmemAccessDesc*, std::size_t) {
  enter("cuMemSetAccess");
  return failed_if(faults().set_access);
}
CUresult cuMemGetAllocationGranularity(std::size_t* granularity, const CUmemAllocationProp*,
                                       CUmemAllocationGranularity_flags) {
  enter("cuMemGetAllocationGranularity");
  *granularity = kGranularity;
  return CUDA_SUCCESS;
}

}  // extern "C"

}  // namespace fake_cuda
