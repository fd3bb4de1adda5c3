// SPDX-License-Identifier: Apache-2.0
// What the driver promises and its simulator does not look at.
#include "driver/driver.hpp"

#include <gtest/gtest.h>

#include <array>
#include <sstream>
#include <string>

#include "pager/memory_store.hpp"
#include "simulated_device.hpp"

namespace tensor_pager::testing {
namespace {

constexpr Bytes kPage{64};

// A caller may be the one who learns that a copy has ended; the trace has it as the caller does.
TEST(Driver, TraceKnowsOfAnArrivalAsSoonAsACallerDoes) {
  Trace trace;
  const std::array<std::byte, 2 * kPage.count> image{};
  const MemoryStore store(image);
  SimulatedDevice device(1);
  const PageLayout layout{.image = kPage * 2, .page = kPage};
  Driver driver(device, store,
                {.layout = layout, .frames = 2, .policy = {}, .host_pages_ready = true},
                {.arena = kPage * 2, .page = kPage, .trace = &trace});
  const ByteRange range{.offset = {}, .size = kPage};
  driver.prefetch({&range, 1});
  const auto work = driver.take_work();
  ASSERT_TRUE(work);
  driver.carried_out(*work, driver.carry_out(*work));

  device.end_copy(true);
  driver.observe();
  ASSERT_TRUE(driver.resident({&range, 1}));
  std::ostringstream out;
  trace.write(out);
  // [time, first page, pages, whether they arrived]
  EXPECT_NE(out.str().find(",0,1,1]"), std::string::npos) << out.str();
}

}  // namespace
}  // namespace tensor_pager::testing
