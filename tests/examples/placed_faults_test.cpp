// SPDX-License-Identifier: Apache-2.0
// A walk along everything that can fail while processors and device generate together: a small run
// is repeated, and each time the next call of the device, or of the store, fails. Each run ends by
// itself, with an exception or with the right answer, and leaves no thread at work.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../pager/faulty_device.hpp"
#include "../temporary_directory.hpp"
#include "golden_models.hpp"
#include "model_run.hpp"
#include "pager/errors.hpp"
#include "qwen/error.hpp"
#include "random_model.hpp"

namespace tensor_pager::qwen {
namespace {

using namespace std::chrono_literals;

using testing::FaultPlan;
using testing::FaultSite;

constexpr std::size_t kPrompt = 3;
constexpr std::size_t kTokens = 5;
// Beyond so many calls, of which each is tried, only some are: what comes then has been seen.
constexpr std::uint64_t kEach = 2000;
constexpr std::uint64_t kStride = 23;
// A run that hangs ends the program by a signal.
constexpr unsigned kPatience = 100;

/// A store that fails to read or to say where its bytes are.
class FaultyFiles final : public BackingStore {
 public:
  FaultyFiles(std::shared_ptr<const BackingStore> files, std::shared_ptr<FaultPlan> plan)
      : files_(std::move(files)), plan_(std::move(plan)) {}

  Bytes size() const override { return files_->size(); }
  void read(Bytes offset, std::span<std::byte> out) const override {
    plan_->pass<StoreError>(FaultSite::read);
    files_->read(offset, out);
  }
  const std::byte* address(ByteRange range) const override {
    ++addresses_;
    plan_->pass<StoreError>(FaultSite::read);
    return files_->address(range);
  }
  std::uint64_t addresses() const { return addresses_; }

 private:
  const std::shared_ptr<const BackingStore> files_;
  const std::shared_ptr<FaultPlan> plan_;
  mutable std::atomic<std::uint64_t> addresses_ = 0;
};

std::size_t threads() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)));
}

class PlacedFaults : public ::testing::Test {
 protected:
  PlacedFaults() : model_(open_model(file())), tokens_(golden_tokens()) { tokens_.resize(kTokens); }

  std::filesystem::path file() const {
    make_gguf::write_random_model(directory_ / "m.gguf",
                                  {.architecture = "qwen2", .type = "q4_k_m", .seed = 7});
    return directory_ / "m.gguf";
  }

  struct Outcome {
    std::string injected;
    std::string reported;  // empty: nothing
    std::vector<float> logits;
    std::uint64_t calls = 0;
    std::set<FaultSite> seen;
    std::uint64_t addresses = 0;
  };

  // A prompt and tokens, of which processors compute every other layer, while the n-th call fails.
  Outcome run(std::uint64_t n) const {
    const auto plan = std::make_shared<FaultPlan>(n);
    Outcome outcome;
    ::alarm(kPatience);
    try {
      Backend backend = host_backend(model_);
      backend.device = std::make_unique<testing::FaultyDevice>(
          std::move(backend.device), plan, [](const MemoryStatistics& /*left*/) {});
      const auto files = std::make_shared<FaultyFiles>(std::move(backend.store), plan);
      backend.store = files;
      MemoryPlan memory = plan_memory(
          model_, request_for(backend, model_,
                              generation_request(kPrompt, kTokens,
                                                 {.arena = Percent{60}, .page = KiB(16)})));
      const loaders::Places places = places_of_layers(memory.graph, 0x55555555);
      Inference inference(model_, std::move(memory), std::move(backend),
                          {.publish = false, .generation = {.places = places}});
      outcome.logits = generated_logits(inference, model_, tokens_, kPrompt);
      outcome.addresses = files->addresses();
    } catch (const tensor_pager::Error& error) {
      outcome.reported = error.what();
    } catch (const qwen::Error& error) {
      outcome.reported = error.what();
    }
    ::alarm(0);
    outcome.injected = plan->injected();
    outcome.calls = plan->calls();
    outcome.seen = plan->seen();
    return outcome;
  }

  tests::TemporaryDirectory directory_;
  Model model_;
  std::vector<loaders::TokenId> tokens_;
};

TEST_F(PlacedFaults, EachEndsAsAnExceptionOrWithTheRightAnswer) {
  const Outcome whole = run(0);
  ASSERT_EQ(whole.reported, "");
  ASSERT_GT(whole.addresses, 0U) << "processors read nothing";
  const std::size_t before = threads();
  std::uint64_t runs = 0;
  std::uint64_t reported = 0;
  std::uint64_t next_look = 1;
  // Threads take turns differently each time, so the number of calls differs, too.
  for (std::uint64_t n = 1; !HasFailure(); n += n < kEach ? 1 : kStride) {
    const Outcome outcome = run(n);
    if (outcome.injected.empty()) break;
    ++runs;
    if (outcome.reported.empty()) {
      EXPECT_TRUE(outcome.logits == whole.logits) << "after " << outcome.injected;
    } else {
      ++reported;
    }
    if (runs < next_look) continue;
    next_look = runs * 3 / 2 + 1;
    EXPECT_LT(idle_processor_seconds(100ms), 0.03) << "a thread spins after " << outcome.injected;
    EXPECT_LE(threads(), before) << "a thread is left after " << outcome.injected;
  }
  std::cout << runs << " runs, of which " << reported << " reported an error; a whole one makes "
            << whole.calls << " calls that could have failed, and asks for addresses "
            << whole.addresses << " times\n";
  EXPECT_GT(reported, runs / 4);
  EXPECT_LE(threads(), before);
  EXPECT_LT(idle_processor_seconds(100ms), 0.03) << "a thread spins";
}

// In the middle of a token, on the processors' side: of each time that they ask for weights.
TEST_F(PlacedFaults, AStoreThatFailsEndsTheTokenAndTheNextOneWorks) {
  class FailsOnce final : public BackingStore {
   public:
    explicit FailsOnce(std::shared_ptr<const BackingStore> files) : files_(std::move(files)) {}
    Bytes size() const override { return files_->size(); }
    void read(Bytes offset, std::span<std::byte> out) const override { files_->read(offset, out); }
    const std::byte* address(ByteRange range) const override {
      if (fails_in_ > 0 && --fails_in_ == 0) throw StoreError("injected: address");
      return files_->address(range);
    }
    void fail_in(int calls) { fails_in_ = calls; }
    bool failed() const { return fails_in_ == 0; }

   private:
    const std::shared_ptr<const BackingStore> files_;
    mutable std::atomic<int> fails_in_ = 0;
  };
  Backend backend = host_backend(model_);
  const auto files = std::make_shared<FailsOnce>(std::move(backend.store));
  backend.store = files;
  MemoryPlan memory = plan_memory(
      model_,
      request_for(backend, model_, generation_request(kPrompt, kTokens, {.arena = Percent{60}})));
  const loaders::Places places = places_of_layers(memory.graph, ~0U);
  Inference inference(model_, std::move(memory), std::move(backend),
                      {.publish = false, .generation = {.places = places}});
  const std::vector<float> expected = generated_logits(inference, model_, tokens_, kPrompt);
  int failed = 0;
  for (int calls = 1;; ++calls) {
    files->fail_in(calls);
    try {
      EXPECT_TRUE(generated_logits(inference, model_, tokens_, kPrompt) == expected);
    } catch (const StoreError&) {
      ++failed;
    }
    const bool all = !files->failed();
    files->fail_in(0);
    // A sequence begins anew, and what was under way has left nothing.
    if (calls % 5 == 1) {
      EXPECT_TRUE(generated_logits(inference, model_, tokens_, kPrompt) == expected) << calls;
    }
    if (all) break;
  }
  EXPECT_GT(failed, 10);
  EXPECT_LT(idle_processor_seconds(100ms), 0.03) << "a thread spins";
}

}  // namespace
}  // namespace tensor_pager::qwen
