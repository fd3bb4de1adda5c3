// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pager/arena_budget.hpp"
#include "pager/backing_store.hpp"
#include "pager/device.hpp"
#include "pager/errors.hpp"
#include "pager/export.hpp"
#include "pager/ids.hpp"
#include "pager/plan.hpp"
#include "pager/policy_options.hpp"
#include "pager/statistics.hpp"
#include "pager/trace.hpp"

namespace tensor_pager {

struct PagerOptions {
  /// Device memory that pages may take; rounded down to whole pages.
  Bytes arena{};
  /// Bytes per page, a multiple of the device's granularity. 0 chooses by the image's size:
  /// default_page_size.
  Bytes page{};
  PolicyOptions policy{};
  /// Where the arena's memory comes from, if several pagers share a budget.
  std::shared_ptr<ArenaBudget> budget = nullptr;
  /// Unmap a page as soon as it is evicted, so that a stray read faults. For debugging.
  bool unmap_on_evict = false;
  /// Steps and stalls are recorded here if set. It outlives the pager.
  Trace* trace = nullptr;
  /// What the image consists of, for tools to show; any order, gaps allowed.
  std::vector<NamedRange> names{};
  /// What tools call this pager: a model's name, say.
  std::string title{};
  /// Lets other processes of this user watch what the pager does (PublishedPager, pager_stats
  /// --pid). It costs no lock and no system call.
  bool publish = true;
};

/// A page size that suits an image: about a 256th of it, `granularity` times a power of two, at
/// most 16 MiB (beyond which a link gains nothing).
TENSOR_PAGER_EXPORT Bytes default_page_size(Bytes image, Bytes granularity);

/// How many neighbouring pages of this size are copied as one: runs of 16 MiB, which a link is full
/// with; larger pages are copied one by one.
TENSOR_PAGER_EXPORT std::uint32_t pages_per_copy(Bytes page);

/// The pages of one step, resident for as long as the lease lives. Move-only. When it ends, its
/// pages may be evicted as soon as the work queued in its stream by then is done; ending it never
/// waits. It should end on the thread that acquired it, or while that thread does not wait for the
/// pager: a thread that waits is taken for one that will not end its leases.
///
/// A lease that outlives its pager is void: its pages are gone, and ending it does nothing.
class TENSOR_PAGER_EXPORT Lease {
 public:
  Lease() = default;
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&& other) noexcept;
  ~Lease() { release(); }

  void release() noexcept;
  /// The same for all of them, in which leases of one pager and one stream that follow one another
  /// end together: the device notes one point of the stream and not one for each. For many short
  /// steps whose pages nothing else waits for.
  static void release(std::span<Lease> leases) noexcept;

 private:
  friend class Pager;
  class Issuer;
  Lease(std::shared_ptr<Issuer> issuer, LeaseId id, StreamRef stream);

  std::shared_ptr<Issuer> issuer_;
  LeaseId id_{};
  StreamRef stream_;
};

/// mmap for device memory: every byte of the store's image has a permanent device address, an arena
/// of `arena` bytes holds the pages in use, and pages are there before the work that reads them
/// starts.
///
/// A caller acquires what it is going to read, queues the work in its stream, and lets the lease
/// go. With a plan, pages are brought in ahead of the acquire; without one, on demand.
///
/// Thread-safe. No call changes the caller's current device or context. Calls that wait end after
/// finitely many events of the device and of other callers; a wait that would never end is an
/// error. After a DeviceError of the pager's own device every later call says why. In a child
/// process (fork) every call throws Error: pages are not inherited.
class TENSOR_PAGER_EXPORT Pager {
 public:
  /// Throws BudgetError if the arena holds no page, DeviceError if the device cannot provide the
  /// range or the frames; Error if there is no device or no store.
  Pager(std::unique_ptr<Device> device, std::shared_ptr<const BackingStore> store,
        const PagerOptions& options);
  /// Returns when no queued work reads pages any more: that of leases which have ended, and that
  /// of leases which are held, and void from then on. Calls of other threads that wait end with an
  /// Error.
  ~Pager();
  Pager(const Pager&) = delete;
  Pager& operator=(const Pager&) = delete;

  /// The device address of the image's byte `offset`. It never changes; it may be read while a
  /// lease covers it.
  const std::byte* address(Bytes offset) const;

  /// Replaces the plan, and starts to bring in the pages of its first steps.
  /// Throws BudgetError, which names the smallest arena that can run the plan.
  void set_plan(const AccessPlan& plan);

  /// Reaches a step of the plan. Work that the caller queues in `stream` afterwards finds the
  /// step's pages, and those of `chosen`, resident. The calling thread itself waits only until the
  /// copies are queued (and with the null stream of the host device, until they have ended).
  ///
  /// Throws StoreError or DeviceError if a page could not be brought in, after it was tried twice,
  /// or, before anything is acquired, if copies failed that earlier work in this stream waited for
  /// (see check); BudgetError if waiting would never end; Error if the stream cannot be used.
  Lease acquire(StepIndex step, std::span<const ByteRange> chosen = {}, StreamRef stream = {});
  /// The same for bytes outside the plan. What is resident costs as much as the lease has pages,
  /// and does not change what is planned.
  Lease acquire(std::span<const ByteRange> ranges, StreamRef stream = {});
  /// The same if every page is resident already; otherwise nothing, at once.
  std::optional<Lease> try_acquire(std::span<const ByteRange> ranges, StreamRef stream = {});

  /// Pages that stay for as long as the lease lives, and are nobody's to give up meanwhile: an
  /// acquire whose lease is kept. Throws BudgetError, which names the arena that would do, if what
  /// is left could not run the plan's largest step.
  Lease pin(std::span<const ByteRange> ranges, StreamRef stream = {});
  /// A hint that pages outside the plan will be acquired within the next pass. They are brought in
  /// where frames are free or hold pages that are worth less; nobody waits, and nothing that is
  /// planned is given up for them.
  void prefetch(std::span<const ByteRange> ranges);

  /// Copies may fail after a lease was handed out: work in its stream then reads garbage. Returns
  /// when every copy that work in `stream` waits for has ended, and throws what made them fail, if
  /// nobody was told yet. Called after the stream was synchronised, it says whether its results can
  /// be used; it does not wait for the work itself.
  void check(StreamRef stream = {});

  /// Changes the arena at run time, also while other threads use it. Returns when the memory that
  /// was given up is free, which takes until the work that reads it is done. Throws and leaves the
  /// arena as it was, or, where memory was given up before it failed, as it is by then: BudgetError
  /// if the plan's largest step, or what leases hold that this thread would have to end, does not
  /// fit; DeviceError if the device refuses the memory.
  void set_arena(Bytes arena);

  /// Forgets every page that no lease holds, once no queued work reads it. Returns when none of
  /// them is resident any more; none is brought in before the next acquire or set_plan.
  /// So a measurement that begins now begins cold.
  void evict_all();

  /// Returns when nothing is under way: work that leases covered has passed, and copies that were
  /// started, for pages ahead, have ended. Statistics taken then are those of a whole: what was
  /// commanded was copied. If other threads go on meanwhile, it returns when what was under way at
  /// the call has ended. Throws what check would throw, for all streams.
  void settle();

  /// The smallest arena that can run the present plan.
  Bytes minimum_arena() const;
  PageLayout layout() const;
  Device& device();
  Statistics statistics() const;

 private:
  friend class Lease;
  class Impl;
  std::shared_ptr<Impl> impl_;
};

/// The smallest arena, in bytes, that can run `plan` over an image cut into pages like `layout`.
TENSOR_PAGER_EXPORT Bytes minimum_arena(const PageLayout& layout, const AccessPlan& plan);

}  // namespace tensor_pager
