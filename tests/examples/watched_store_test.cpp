#include "watched_store.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
  void announce(std::function<void(ByteRange)> ready) const override {
    ready_ = std::move(ready);
    if (ready_) ready_({{0}, {4}});
  }
  void let_go() const {
    std::thread([this] { ready_({{4}, {3}}); }).join();
    std::thread([this] { ready_({{7}, {3}}); }).join();
  }

 private:
  mutable std::function<void(ByteRange)> ready_;
};

TEST(WatchedStore, TellsWhatIsReadyAndPassesItOn) {
  const auto store = std::make_shared<GradualStore>();
  const WatchedStore watched(store);
  std::vector<std::uint64_t> passed_on;
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

TEST(WatchedStore, BeginsAnewForWhoeverAsksNext) {
  const auto store = std::make_shared<GradualStore>();
  const WatchedStore watched(store);
  watched.announce([](ByteRange) {});
  watched.announce({});
  watched.announce([](ByteRange) {});
  std::vector<std::uint64_t> seen;
  watched.watch([&](Bytes ready, Bytes) { seen.push_back(ready.count); });
  watched.watch({});
  store->let_go();
  EXPECT_THAT(seen, testing::ElementsAre(4));
}

}  // namespace
}  // namespace tensor_pager::qwen_prefill
