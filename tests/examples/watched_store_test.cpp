// SPDX-License-Identifier: Apache-2.0
#include "watched_store.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <list>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace tensor_pager::qwen_prefill {
namespace {

// Ten bytes of which four are ready; the others become so when they are let go.
class GradualStore final : public BackingStore {
 public:
  Bytes size() const override { return {10}; }
  void read(Bytes, std::span<std::byte>) const override {}
  Subscription announce(std::function<void(ByteRange)> ready) const override {
    ready({{0}, {4}});
    const auto listener = listeners_.insert(listeners_.end(), std::move(ready));
    return Subscription([this, listener] { listeners_.erase(listener); });
  }
  void let_go() const {
    std::thread([this] { tell({{4}, {3}}); }).join();
    std::thread([this] { tell({{7}, {3}}); }).join();
  }

 private:
  void tell(ByteRange range) const {
    for (const auto& ready : listeners_) ready(range);
  }

  mutable std::list<std::function<void(ByteRange)>> listeners_;
};

TEST(WatchedStore, TellsWhatIsReadyAndPassesItOn) {
  const auto store = std::make_shared<GradualStore>();
  const WatchedStore watched(store);
  std::vector<std::uint64_t> passed_on;
  const Subscription subscription =
      watched.announce([&](ByteRange range) { passed_on.push_back(range.size.count); });
  std::vector<std::uint64_t> seen;
  watched.watch([&](Bytes ready, Bytes total) {
    seen.push_back(ready.count);
    EXPECT_EQ(total, Bytes{10});
  });
  store->let_go();
  EXPECT_THAT(passed_on, testing::ElementsAre(4, 3, 3));
  EXPECT_THAT(seen, testing::ElementsAre(4, 7, 10));
}

TEST(WatchedStore, CountsWhatIsReadyOnceHoweverManyAreTold) {
  const auto store = std::make_shared<GradualStore>();
  const WatchedStore watched(store);
  std::vector<std::uint64_t> first;
  std::vector<std::uint64_t> second;
  const Subscription one =
      watched.announce([&](ByteRange range) { first.push_back(range.size.count); });
  const Subscription other =
      watched.announce([&](ByteRange range) { second.push_back(range.size.count); });
  store->let_go();
  EXPECT_THAT(first, testing::ElementsAre(4, 3, 3));
  EXPECT_EQ(first, second);
  std::vector<std::uint64_t> seen;
  watched.watch([&](Bytes ready, Bytes) { seen.push_back(ready.count); });
  EXPECT_THAT(seen, testing::ElementsAre(10));
}

TEST(WatchedStore, WatcherThatIsEndedIsSilent) {
  const auto store = std::make_shared<GradualStore>();
  const WatchedStore watched(store);
  std::vector<std::uint64_t> seen;
  watched.watch([&](Bytes ready, Bytes) { seen.push_back(ready.count); });
  watched.watch({});
  store->let_go();
  EXPECT_THAT(seen, testing::ElementsAre(4));
}

}  // namespace
}  // namespace tensor_pager::qwen_prefill
