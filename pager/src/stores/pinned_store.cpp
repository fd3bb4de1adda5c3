#include "pager/pinned_store.hpp"

#include <hwloc.h>
#include <hwloc/cudart.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "devices/cuda/check.hpp"
#include "pager/cuda_device.hpp"
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

/// Pins host memory for as long as it lives.
class Registration {
 public:
  Registration(const std::byte* data, Bytes size, unsigned flags)
      : data_(const_cast<std::byte*>(data)) {
    cuda::check(cudaHostRegister(data_, size.count, flags),
                cuda::with_bytes("cudaHostRegister", size));
  }
  ~Registration() { cudaHostUnregister(data_); }  // fails harmlessly while the process exits
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;

 private:
  std::byte* data_;
};

/// The image in pieces that become pinned one by one, by several threads. A piece that cannot be
/// pinned is announced all the same: the device then reads it through the store, and a file that
/// cannot be read is an error there.
class PinnedPieces {
 public:
  using Prepare = std::function<std::unique_ptr<Registration>(ByteRange)>;

  explicit PinnedPieces(std::vector<ByteRange> ranges) {
    for (const ByteRange& range : ranges) pieces_.push_back(std::make_unique<Piece>(range));
  }
  ~PinnedPieces() {
    next_ = pieces_.size();
    for (std::thread& thread : threads_) thread.join();
  }
  PinnedPieces(const PinnedPieces&) = delete;
  PinnedPieces& operator=(const PinnedPieces&) = delete;

  /// Pins the first piece, which shows whether pinning works at all, and leaves the rest to
  /// threads.
  void start(const Prepare& prepare, unsigned threads, int gpu) {
    pieces_.front()->registration = prepare(pieces_.front()->range);
    finish(*pieces_.front());
    next_ = 1;
    for (unsigned i = 0; i < threads; ++i) {
      threads_.emplace_back([this, prepare, gpu] {
        cudaSetDevice(gpu);
        run(prepare);
      });
    }
  }

  void announce(std::function<void(ByteRange)> ready) {
    const std::lock_guard lock(mutex_);
    announce_ = std::move(ready);
    if (!announce_) return;
    for (const auto& piece : pieces_) {
      if (piece->done) announce_(piece->range);
    }
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
      } catch (const Error&) {
        // Stays unpinned.
      }
      finish(*pieces_[i]);
    }
  }

  void finish(Piece& piece) {
    const std::lock_guard lock(mutex_);
    piece.done = true;
    if (announce_) announce_(piece.range);
  }

  std::vector<std::unique_ptr<Piece>> pieces_;
  std::atomic<std::size_t> next_ = 0;
  std::mutex mutex_;  // held while announce_ runs
  std::function<void(ByteRange)> announce_;
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

class PinnedFileStore final : public BackingStore {
 public:
  PinnedFileStore(std::unique_ptr<MappedFileStore> files, const PinnedStoreOptions& options)
      : files_(std::move(files)), pieces_(pieces_of(*files_)) {
    pieces_.start([this](ByteRange range) { return pin(range); }, options.threads, options.gpu);
  }

  Bytes size() const override { return files_->size(); }
  void read(Bytes offset, std::span<std::byte> out) const override { files_->read(offset, out); }
  const std::byte* data() const override { return files_->data(); }
  Bytes pinned(Bytes offset, Bytes size) const override { return pieces_.pinned(offset, size); }
  void announce(std::function<void(ByteRange)> ready) const override {
    pieces_.announce(std::move(ready));
  }

 private:
  std::unique_ptr<Registration> pin(ByteRange range) const {
    const unsigned flags = cudaHostRegisterReadOnly | cudaHostRegisterPortable;
    return std::make_unique<Registration>(files_->data() + range.offset.count, range.size, flags);
  }

  std::unique_ptr<MappedFileStore> files_;
  mutable PinnedPieces pieces_;
};

/// Host memory in huge pages where the kernel has them, near the GPU where the machine has several
/// nodes.
class NearbyMemory {
 public:
  NearbyMemory(Bytes size, int gpu) : size_(size) {
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
  /// A hint: where hwloc knows nothing of the GPU, memory lies where the threads that fill it run.
  void bind(int gpu) const {
    hwloc_topology_t topology = nullptr;
    if (hwloc_topology_init(&topology) != 0) return;
    hwloc_bitmap_t processors = hwloc_bitmap_alloc();
    if (hwloc_topology_load(topology) == 0 &&
        hwloc_cudart_get_device_cpuset(topology, gpu, processors) == 0) {
      hwloc_set_area_membind(topology, data_, size_.count, processors, HWLOC_MEMBIND_BIND, 0);
    }
    hwloc_bitmap_free(processors);
    hwloc_topology_destroy(topology);
  }

  Bytes size_;
  std::byte* data_ = nullptr;
};

class PinnedCopyStore final : public BackingStore {
 public:
  PinnedCopyStore(std::unique_ptr<MappedFileStore> files, const PinnedStoreOptions& options)
      : files_(std::move(files)),
        memory_(files_->size(), options.gpu),
        pieces_(pieces_of(*files_)) {
    pieces_.start([this](ByteRange range) { return fill(range); }, options.threads, options.gpu);
  }

  Bytes size() const override { return files_->size(); }
  void read(Bytes offset, std::span<std::byte> out) const override { files_->read(offset, out); }
  const std::byte* data() const override { return memory_.data(); }
  Bytes pinned(Bytes offset, Bytes size) const override { return pieces_.pinned(offset, size); }
  void announce(std::function<void(ByteRange)> ready) const override {
    pieces_.announce(std::move(ready));
  }

 private:
  std::unique_ptr<Registration> fill(ByteRange range) const {
    for (Bytes at = range.offset; at < range.end(); at += kRead) {
      files_->read(at, {memory_.data() + at.count, std::min(kRead, range.end() - at).count});
    }
    return std::make_unique<Registration>(memory_.data() + range.offset.count, range.size,
                                          cudaHostRegisterPortable);
  }

  std::unique_ptr<MappedFileStore> files_;
  NearbyMemory memory_;
  mutable PinnedPieces pieces_;
};

}  // namespace

PinnedStore make_pinned_store(const std::vector<std::filesystem::path>& files,
                              const PinnedStoreOptions& options) {
  PinnedStoreOptions complete = options;
  if (complete.threads == 0) complete.threads = default_threads();
  if (cuda_device_count() == 0)
    throw DeviceError("no GPU was found: CUDA offers no device on this machine");
  cuda::check(cudaSetDevice(complete.gpu), "cudaSetDevice " + std::to_string(complete.gpu));
  std::string reason = "asked for";
  if (complete.pin_files) {
    try {
      return {std::make_shared<PinnedFileStore>(std::make_unique<MappedFileStore>(files), complete),
              "pinned file"};
    } catch (const DeviceError& error) {
      reason = error.what();
    }
  }
  return {std::make_shared<PinnedCopyStore>(std::make_unique<MappedFileStore>(files), complete),
          "pinned copy: " + reason};
}

}  // namespace tensor_pager
