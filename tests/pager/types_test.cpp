// SPDX-License-Identifier: Apache-2.0
#include "pager/types.hpp"

#include <gtest/gtest.h>

#include "pager/pager.hpp"

namespace tensor_pager {
namespace {

TEST(Bytes, AreShownInUnitsForPeople) {
  EXPECT_EQ(to_string(Bytes{512}), "512 B");
  EXPECT_EQ(to_string(MiB(16)), "16 MiB");
  EXPECT_EQ(to_string(GiB(1) + MiB(512)), "1.50 GiB");
}

TEST(PageLayout, LastPageMayBeShort) {
  const PageLayout layout{Bytes{10000}, KiB(4)};
  EXPECT_EQ(layout.page_count(), 3U);
  EXPECT_EQ(layout.bytes_of({2}).size, Bytes{10000 - 8192});
  EXPECT_EQ(layout.bytes_of({1}, 2).size, Bytes{10000 - 4096});
}

TEST(DefaultPageSize, FollowsTheImage) {
  EXPECT_EQ(default_page_size(MiB(3), KiB(4)), KiB(16));
  EXPECT_EQ(default_page_size(GiB(20), KiB(4)), MiB(16));
  EXPECT_EQ(default_page_size(MiB(300), MiB(2)), MiB(2));
  EXPECT_EQ(default_page_size(GiB(1), MiB(2)), MiB(4));
  EXPECT_EQ(default_page_size(GiB(500), KiB(4)), MiB(16));
}

}  // namespace
}  // namespace tensor_pager
