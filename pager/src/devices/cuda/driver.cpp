// SPDX-License-Identifier: Apache-2.0
#include "devices/cuda/driver.hpp"

#include <dlfcn.h>

#include <exception>
#include <optional>

#include "birthplace.hpp"

namespace tensor_pager::cuda {

namespace {

/// The driver interface that the calls are taken from, whatever newer one the driver has.
constexpr int kCudaVersion = 12000;

/// Looks functions up in the driver's library, which is never unloaded.
class Library {
 public:
  Library() : handle_(::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr) return;
    get_ = reinterpret_cast<decltype(get_)>(::dlsym(handle_, "cuGetProcAddress_v2"));
  }
  bool loaded() const { return handle_ != nullptr; }

  /// `exported` is the name with the version that the headers mean.
  void* find(const char* name, const char* exported) const {
    void* address = nullptr;
    CUdriverProcAddressQueryResult found{};
    // Legacy: in the pager, the null stream is not the calling thread's.
    if (get_ != nullptr && get_(name, &address, kCudaVersion, CU_GET_PROC_ADDRESS_LEGACY_STREAM,
                                &found) == CUDA_SUCCESS) {
      return address;
    }
    return ::dlsym(handle_, exported);
  }

 private:
  void* handle_;
  CUresult (*get_)(const char*, void**, int, cuuint64_t, CUdriverProcAddressQueryResult*) = nullptr;
};

template <class Function>
void look_up(const Library& library, Function& function, const char* name, const char* exported) {
  function = reinterpret_cast<Function>(library.find(name, exported));
  if (function == nullptr) {
    throw DeviceError(std::string("looking up ") + name +
                      " in the CUDA driver found nothing; the driver is too old: CUDA 12 is "
                      "needed");
  }
}

Driver look_up_all(const Library& library) {
  Driver driver;
#define TENSOR_PAGER_EXPANDED(name) #name
#define TENSOR_PAGER_EXPORTED(name) TENSOR_PAGER_EXPANDED(name)
#define TENSOR_PAGER_CUDA_LOOK_UP(name) \
  look_up(library, driver.name, #name, TENSOR_PAGER_EXPORTED(name))
  TENSOR_PAGER_CUDA_CALLS(TENSOR_PAGER_CUDA_LOOK_UP);
#undef TENSOR_PAGER_CUDA_LOOK_UP
#undef TENSOR_PAGER_EXPORTED
#undef TENSOR_PAGER_EXPANDED
  return driver;
}

/// What was found when the driver was first needed.
class Loaded {
 public:
  Loaded() {
    const Library library;
    if (!library.loaded()) return;
    try {
      driver_ = look_up_all(library);
      initialised_ = driver_->cuInit(0) == CUDA_SUCCESS;
    } catch (const DeviceError&) {
      failure_ = std::current_exception();
    }
  }

  const Driver& get() const {
    if (birthplace_.elsewhere()) {
      throw Error(
          "CUDA was used before this process was forked, and cannot be used here; fork before the "
          "first use of CUDA, or start a program");
    }
    if (failure_) std::rethrow_exception(failure_);
    if (!initialised_) {
      throw DeviceError("no GPU was found: CUDA offers no device on this machine");
    }
    return *driver_;
  }
  bool usable() const noexcept { return initialised_ && !birthplace_.elsewhere(); }

 private:
  Birthplace birthplace_;
  std::optional<Driver> driver_;
  bool initialised_ = false;
  std::exception_ptr failure_;
};

/// Never destroyed: devices may be destroyed after it would be, while the process exits.
const Loaded& loaded() {
  static const Loaded* const once = new Loaded;
  return *once;
}

}  // namespace

const Driver& driver() {
  return loaded().get();
}

int device_count() noexcept {
  int count = 0;
  if (!loaded().usable() || driver().cuDeviceGetCount(&count) != CUDA_SUCCESS) return 0;
  return count;
}

namespace {

[[noreturn]] void report(CUresult result, const std::string& call) {
  const char* name = "unknown";
  const char* text = "unknown";
  driver().cuGetErrorName(result, &name);
  driver().cuGetErrorString(result, &text);
  throw DeviceError(call + " failed: " + name + ": " + text);
}

}  // namespace

void check(CUresult result, const char* call) {
  if (result != CUDA_SUCCESS) report(result, call);
}

void check(CUresult result, const char* call, Bytes size) {
  if (result != CUDA_SUCCESS) report(result, with_bytes(call, size));
}

bool not_ready(CUresult result, const char* call) {
  if (result == CUDA_ERROR_NOT_READY) return true;
  check(result, call);
  return false;
}

std::string with_bytes(const char* call, Bytes size) {
  return std::string(call) + " of " + std::to_string(size.count) + " bytes";
}

std::string free_memory() {
  std::size_t free = 0;
  std::size_t total = 0;
  driver().cuMemGetInfo(&free, &total);
  return to_string(Bytes{free}) + " of " + to_string(Bytes{total});
}

}  // namespace tensor_pager::cuda
