// SPDX-License-Identifier: Apache-2.0
#include "pager/host_device.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

#include "birthplace.hpp"
#include "devices/host/address_range.hpp"
#include "devices/host/copy_engine.hpp"
#include "devices/host/stream_clock.hpp"
#include "devices/memory_count.hpp"
#include "devices/progress.hpp"
#include "pager/errors.hpp"
#include "system_call.hpp"

namespace tensor_pager {

namespace {

class HostDevice final : public Device {
 public:
  explicit HostDevice(const HostDeviceOptions& options)
      : parts_(std::make_unique<Parts>(options)) {}

  ~HostDevice() override {
    // A child process has a copy of the parts without their thread and with locks that nobody will
    // open.
    if (birthplace_.elsewhere()) (void)parts_.release();
  }

  DeviceInfo info() const override {
    require_here();
    return {.kind = "host",
            .name = "host memory",
            .page_granularity = {static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))}};
  }

  AddressRange& range() override { return parts_->range; }
  CopyEngine& copies() override { return parts_->copies; }
  StreamClock& clock() override { return parts_->clock; }

  void on_progress(std::function<void()> notify) override {
    require_here();
    parts_->progress->listen(std::move(notify));
  }
  LinkStatistics link() const override { return parts_->copies.statistics(); }
  MemoryStatistics memory() const override {
    require_here();
    return parts_->memory.get();
  }

 protected:
  std::byte* allocate_memory(Bytes size) override;
  void free_memory(std::byte* data, Bytes size) noexcept override;

 private:
  struct Parts {
    explicit Parts(const HostDeviceOptions& options) : copies(options, range, progress) {}

    std::shared_ptr<Progress> progress = std::make_shared<Progress>();
    MemoryCount memory;
    HostAddressRange range{memory};
    HostStreamClock clock{progress};
    HostCopyEngine copies;  // last: its thread uses the others
  };

  void require_here() const { birthplace_.require_here("this host device"); }

  const Birthplace birthplace_;
  std::unique_ptr<Parts> parts_;
};

std::byte* HostDevice::allocate_memory(Bytes size) {
  require_here();
  void* const data =
      ::mmap(nullptr, size.count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    throw DeviceError(
        failed_call("allocating a buffer of " + std::to_string(size.count) + " bytes") +
        kHostMemoryRemedy);
  }
  parts_->memory.add(size);
  return static_cast<std::byte*>(data);
}

void HostDevice::free_memory(std::byte* data, Bytes size) noexcept {
  if (birthplace_.elsewhere()) return;
  ::munmap(data, size.count);
  parts_->memory.remove(size);
}

}  // namespace

std::unique_ptr<Device> make_host_device(const HostDeviceOptions& options) {
  return std::make_unique<HostDevice>(options);
}

}  // namespace tensor_pager
