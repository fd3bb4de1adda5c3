// SPDX-License-Identifier: Apache-2.0
#include "pager/host_device.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <memory>
#include <span>
#include <string>
#include <utility>

#include "birthplace.hpp"
#include "devices/host/address_range.hpp"
#include "devices/host/copy_engine.hpp"
#include "devices/host/in_place_range.hpp"
#include "devices/host/stream_clock.hpp"
#include "devices/memory_count.hpp"
#include "devices/progress.hpp"
#include "pager/errors.hpp"
#include "system_call.hpp"

namespace tensor_pager {

namespace {

/// What the store has is copied to the frame that the page is mapped to.
Transfer transfer(const HostAddressRange& range, const BackingStore& store, PageIndex page) {
  const ByteRange bytes = range.layout().bytes_of(page);
  return [&store, at = bytes.offset, out = std::span(range.window(page), bytes.size.count)] {
    store.read(at, out);
    return Bytes{out.size()};
  };
}

/// Nothing is copied: the page is the file's.
Transfer transfer(const InPlaceRange& range, const BackingStore& /*store*/, PageIndex page) {
  return [&range, page] {
    range.bring_in(page);
    return Bytes{};
  };
}

template <class Range>
class HostDevice final : public Device {
 public:
  /// `begin` is what the range's constructor takes before the count of memory.
  template <class... Begin>
  explicit HostDevice(const HostDeviceOptions& options, Begin... begin)
      : parts_(std::make_unique<Parts>(options, std::move(begin)...)) {}

  ~HostDevice() override {
    // A child process has a copy of the parts without their thread and with locks that nobody will
    // open.
    if (birthplace_.elsewhere()) (void)parts_.release();
  }

  DeviceInfo info() const override {
    require_here();
    return {.kind = "host",
            .name = Range::kName,
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
    template <class... Begin>
    explicit Parts(const HostDeviceOptions& options, Begin... begin)
        : range(std::move(begin)..., memory),
          copies(
              options,
              [this](const BackingStore& store, PageIndex page) {
                return transfer(range, store, page);
              },
              progress) {}

    std::shared_ptr<Progress> progress = std::make_shared<Progress>();
    MemoryCount memory;
    Range range;
    HostStreamClock clock{progress};
    HostCopyEngine copies;  // last: its thread uses the others
  };

  void require_here() const { birthplace_.require_here("this host device"); }

  const Birthplace birthplace_;
  std::unique_ptr<Parts> parts_;
};

template <class Range>
std::byte* HostDevice<Range>::allocate_memory(Bytes size) {
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

template <class Range>
void HostDevice<Range>::free_memory(std::byte* data, Bytes size) noexcept {
  if (birthplace_.elsewhere()) return;
  ::munmap(data, size.count);
  parts_->memory.remove(size);
}

}  // namespace

std::unique_ptr<Device> make_host_device(const HostDeviceOptions& options) {
  return std::make_unique<HostDevice<HostAddressRange>>(options);
}

std::unique_ptr<Device> make_in_place_device(std::shared_ptr<const MappedFileStore> files,
                                             Trace* trace) {
  if (!files) throw Error("a device in place needs the files that it serves");
  return std::make_unique<HostDevice<InPlaceRange>>(
      HostDeviceOptions{.link_bytes_per_second = 0, .link_latency = {}, .trace = trace},
      std::move(files));
}

}  // namespace tensor_pager
