// SPDX-License-Identifier: Apache-2.0
#include "pager/pinned_store.hpp"

#include <hwloc.h>
#include <hwloc/linux.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#include "birthplace.hpp"
#include "devices/cuda/context.hpp"
#include "left_behind.hpp"
#include "pager/mapped_file_store.hpp"
#include "system_call.hpp"

namespace tensor_pager {

namespace {

/// Large enough that a registration's fixed cost vanishes, small enough that the first is usable at
/// once.
constexpr Bytes kPiece = MiB(256);
/// What a thread reads at a time while it fills a piece.
constexpr Bytes kRead = MiB(8);

unsigned default_threads() {
  return std::clamp(std::thread::hardware_concurrency(), 1U, 8U);
}

/// What the threads, the registrations and their end need, for as long as any of them lives.
using SharedContext = std::shared_ptr<const cuda::Context>;

/// Pins host memory for as long as it lives.
class Registration {
 public:
  Registration(SharedContext context, const std::byte* data, Bytes size, unsigned flags)
      : context_(std::move(context)), data_(const_cast<std::byte*>(data)) {
    const cuda::CurrentContext current(*context_);
    cuda::check(cuda::driver().cuMemHostRegister(data_, size.count, flags), "cuMemHostRegister",
                size);
  }
  ~Registration() {
    const cuda::CurrentContext current(*context_, std::nothrow);
    if (current) cuda::driver().cuMemHostUnregister(data_);
  }
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;

 private:
  SharedContext context_;
  std::byte* data_;
};

/// Those who want to be told of ranges. Whoever announces holds the mutex, so that nobody is told
/// twice, or after the subscription has ended.
class Listeners : public std::enable_shared_from_this<Listeners> {
 public:
  using Lock = std::unique_lock<std::mutex>;
  using Ready = std::function<void(ByteRange)>;

  Lock lock() { return Lock(mutex_); }
  void announce(const Lock& /*held*/, ByteRange range) const {
    for (const auto& [number, ready] : listeners_) ready(range);
  }
  /// The subscription may outlive what is announced.
  Subscription add(const Lock& /*held*/, Ready ready) {
    const std::uint64_t number = ++last_;
    listeners_.emplace(number, std::move(ready));
    return Subscription([self = shared_from_this(), number] { self->remove(number); });
  }

 private:
  void remove(std::uint64_t number) {
    if (birthplace_.elsewhere()) return;  // nobody announces there
    const std::lock_guard lock(mutex_);
    listeners_.erase(number);
  }

  Birthplace birthplace_;
  std::mutex mutex_;  // held while listeners are called
  std::uint64_t last_ = 0;
  std::map<std::uint64_t, Ready> listeners_;
};

/// The image in pieces that become pinned one by one, by several threads. A piece that cannot be
/// pinned is announced all the same: the device then reads it through the store, and a file that
/// cannot be read is an error there.
class PinnedPieces {
 public:
  using Prepare = std::function<std::unique_ptr<Registration>(ByteRange)>;

  explicit PinnedPieces(const std::vector<ByteRange>& ranges) {
    for (const ByteRange& range : ranges) pieces_.push_back(std::make_unique<Piece>(range));
  }
  ~PinnedPieces() {
    next_ = pieces_.size();
    for (std::thread& thread : threads_) thread.join();
  }
  PinnedPieces(const PinnedPieces&) = delete;
  PinnedPieces& operator=(const PinnedPieces&) = delete;

  /// Pins the first piece, which shows whether pinning works at all, and leaves the rest to
  /// threads: as many of those as there may be.
  void start(const Prepare& prepare, unsigned threads) {
    pieces_.front()->registration = prepare(pieces_.front()->range);
    finish(*pieces_.front());
    next_ = 1;
    try {
      for (unsigned i = 0; i < threads; ++i) {
        threads_.emplace_back([this, prepare] { run(prepare); });
      }
    } catch (const std::system_error&) {
      if (threads_.empty()) run(prepare);
    }
  }

  Subscription announce(Listeners::Ready ready) {
    const Listeners::Lock lock = listeners_->lock();
    for (const auto& piece : pieces_) {
      if (piece->done) ready(piece->range);
    }
    return listeners_->add(lock, std::move(ready));
  }

  Bytes pinned(Bytes offset, Bytes size) const {
    const auto after =
        std::upper_bound(pieces_.begin(), pieces_.end(), offset,
                         [](Bytes at, const auto& piece) { return at < piece->range.offset; });
    if (after == pieces_.begin()) return {};
    const Piece& piece = **std::prev(after);
    if (!piece.done || !piece.registration || offset >= piece.range.end()) return {};
    return std::min(size, piece.range.end() - offset);
  }

 private:
  struct Piece {
    explicit Piece(ByteRange bytes) : range(bytes) {}
    ByteRange range;
    std::unique_ptr<Registration> registration;  // written before done is set
    std::atomic<bool> done = false;
  };

  void run(const Prepare& prepare) {
    for (std::size_t i = next_++; i < pieces_.size(); i = next_++) {
      try {
        pieces_[i]->registration = prepare(pieces_[i]->range);
      } catch (const std::exception&) {
        // Stays unpinned.
      }
      finish(*pieces_[i]);
    }
  }

  void finish(Piece& piece) {
    const Listeners::Lock lock = listeners_->lock();
    piece.done = true;
    listeners_->announce(lock, piece.range);
  }

  std::vector<std::unique_ptr<Piece>> pieces_;
  std::atomic<std::size_t> next_ = 0;
  const std::shared_ptr<Listeners> listeners_ = std::make_shared<Listeners>();
  std::vector<std::thread> threads_;
};

/// Pieces of the image; none has bytes of two files. What lies between two files goes with the
/// first: it is in the same page of memory as that file's end.
std::vector<ByteRange> pieces_of(const MappedFileStore& files) {
  std::vector<ByteRange> pieces;
  for (std::size_t i = 0; i < files.file_count(); ++i) {
    const Bytes end = i + 1 < files.file_count() ? files.file_range(i + 1).offset : files.size();
    for (Bytes at = files.file_range(i).offset; at < end; at += kPiece) {
      pieces.push_back({at, std::min(kPiece, end - at)});
    }
  }
  return pieces;
}

/// What the two kinds of stores share: files, and pieces that are being pinned.
class PinnedStoreBase : public BackingStore {
 public:
  Bytes size() const override { return files_->size(); }
  void read(Bytes offset, std::span<std::byte> out) const override {
    require_here();
    files_->read(offset, out);
  }
  Bytes pinned(Bytes offset, Bytes size) const override {
    require_here();
    return pieces_->pinned(offset, size);
  }
  const std::byte* address(ByteRange range) const override {
    require_here();
    return files_->address(range);
  }
  Subscription announce(std::function<void(ByteRange)> ready) const override {
    require_here();
    return pieces_->announce(std::move(ready));
  }

 protected:
  PinnedStoreBase(std::unique_ptr<MappedFileStore> files, SharedContext context)
      : context_(std::move(context)),
        files_(std::move(files)),
        pieces_(new PinnedPieces(pieces_of(*files_))) {}

  const MappedFileStore& files() const { return *files_; }
  const SharedContext& context() const { return context_; }
  void require_here() const { birthplace_.require_here("this pinned store"); }

  /// The last thing that a store's constructor does, and the first that its destructor undoes.
  void start(const PinnedPieces::Prepare& prepare, unsigned threads) {
    try {
      pieces_->start(prepare, threads);
    } catch (...) {
      stop();  // before what `prepare` uses is gone
      throw;
    }
  }
  void stop() noexcept { pieces_.reset(); }

 private:
  Birthplace birthplace_;
  SharedContext context_;
  std::unique_ptr<MappedFileStore> files_;
  OwnedHere<PinnedPieces> pieces_;
};

class PinnedFileStore final : public PinnedStoreBase {
 public:
  PinnedFileStore(std::unique_ptr<MappedFileStore> files, SharedContext context, unsigned threads)
      : PinnedStoreBase(std::move(files), std::move(context)) {
    start([this](ByteRange range) { return pin(range); }, threads);
  }
  ~PinnedFileStore() override { stop(); }

  const std::byte* data() const override {
    require_here();
    return files().data();
  }

 private:
  std::unique_ptr<Registration> pin(ByteRange range) const {
    return std::make_unique<Registration>(
        context(), files().data() + range.offset.count, range.size,
        CU_MEMHOSTREGISTER_READ_ONLY | CU_MEMHOSTREGISTER_PORTABLE);
  }
};

/// Host memory in huge pages where the kernel has them, near the GPU where the machine has several
/// nodes.
class NearbyMemory {
 public:
  NearbyMemory(Bytes size, CUdevice gpu) : size_(size) {
    void* const data =
        ::mmap(nullptr, size.count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
      throw StoreError(
          failed_call("mmap of " + std::to_string(size.count) + " bytes for a pinned copy") +
          "; free host memory, or pin the files themselves");
    }
    data_ = static_cast<std::byte*>(data);
    ::madvise(data_, size.count, MADV_HUGEPAGE);
    bind(gpu);
  }
  ~NearbyMemory() { ::munmap(data_, size_.count); }
  NearbyMemory(const NearbyMemory&) = delete;
  NearbyMemory& operator=(const NearbyMemory&) = delete;

  std::byte* data() const { return data_; }

 private:
  /// A hint: where nothing is known of the GPU, memory lies where the threads that fill it run.
  void bind(CUdevice gpu) const {
    hwloc_topology_t topology = nullptr;
    if (hwloc_topology_init(&topology) != 0) return;
    hwloc_bitmap_t processors = hwloc_bitmap_alloc();
    if (hwloc_topology_load(topology) == 0 && processors_near(gpu, processors)) {
      hwloc_set_area_membind(topology, data_, size_.count, processors, HWLOC_MEMBIND_BIND, 0);
    }
    hwloc_bitmap_free(processors);
    hwloc_topology_destroy(topology);
  }

  /// By the GPU's PCI address. The kernel says it of a device, without the topology's I/O objects,
  /// whose discovery takes longer.
  static bool processors_near(CUdevice gpu, hwloc_bitmap_t processors) {
    std::array<int, 3> address{};
    const std::array attributes = {CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID,
                                   CU_DEVICE_ATTRIBUTE_PCI_BUS_ID,
                                   CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID};
    for (std::size_t i = 0; i < address.size(); ++i) {
      if (cuda::driver().cuDeviceGetAttribute(&address[i], attributes[i], gpu) != CUDA_SUCCESS)
        return false;
    }
    std::array<char, 64> path{};
    std::snprintf(path.data(), path.size(), "/sys/bus/pci/devices/%04x:%02x:%02x.0/local_cpus",
                  static_cast<unsigned>(address[0]), static_cast<unsigned>(address[1]),
                  static_cast<unsigned>(address[2]));
    return hwloc_linux_read_path_as_cpumask(path.data(), processors) == 0 &&
           hwloc_bitmap_iszero(processors) == 0;
  }

  Bytes size_;
  std::byte* data_ = nullptr;
};

class PinnedCopyStore final : public PinnedStoreBase {
 public:
  PinnedCopyStore(std::unique_ptr<MappedFileStore> files, SharedContext context, unsigned threads)
      : PinnedStoreBase(std::move(files), std::move(context)),
        memory_(this->files().size(), this->context()->device()) {
    start([this](ByteRange range) { return fill(range); }, threads);
  }
  ~PinnedCopyStore() override { stop(); }

  const std::byte* data() const override {
    require_here();
    return memory_.data();
  }
  /// In the copy, where it is complete by now: a file may have to be read from a disk again.
  const std::byte* address(ByteRange range) const override {
    const std::byte* const in_file = PinnedStoreBase::address(range);
    for (Bytes at = range.offset; at < range.end();) {
      const Bytes there = pinned(at, range.end() - at);
      if (there == Bytes{0}) return in_file;
      at += there;
    }
    return memory_.data() + range.offset.count;
  }

 private:
  std::unique_ptr<Registration> fill(ByteRange range) const {
    for (Bytes at = range.offset; at < range.end(); at += kRead) {
      files().read(at, {memory_.data() + at.count, std::min(kRead, range.end() - at).count});
    }
    return std::make_unique<Registration>(context(), memory_.data() + range.offset.count,
                                          range.size, CU_MEMHOSTREGISTER_PORTABLE);
  }

  NearbyMemory memory_;
};

}  // namespace

PinnedStore make_pinned_store(const std::vector<std::filesystem::path>& files,
                              const PinnedStoreOptions& options) {
  const unsigned threads = options.threads != 0 ? options.threads : default_threads();
  const auto context = std::make_shared<const cuda::Context>(options.gpu);
  std::string reason = "asked for";
  if (options.pin_files) {
    try {
      return {std::make_shared<PinnedFileStore>(std::make_unique<MappedFileStore>(files), context,
                                                threads),
              "pinned file"};
    } catch (const DeviceError& error) {
      reason = error.what();
    }
  }
  return {
      std::make_shared<PinnedCopyStore>(std::make_unique<MappedFileStore>(files), context, threads),
      "pinned copy: " + reason};
}

}  // namespace tensor_pager
