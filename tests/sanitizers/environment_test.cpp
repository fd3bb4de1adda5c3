// SPDX-License-Identifier: Apache-2.0
// What tests/CMakeLists.txt promises each test of its environment, seen from inside one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

TEST(Environment, KeptRatesDoNotComeFromTheUser) {
  EXPECT_EQ(variable("XDG_CACHE_HOME"), EXPECTED_CACHE_HOME);
}

#ifdef SANITIZE_THREAD
TEST(Environment, ThreadSanitizerKnowsWhatItCannotSee) {
  EXPECT_THAT(variable("TSAN_OPTIONS"), testing::HasSubstr("tsan.supp"));
}
#endif

}  // namespace
