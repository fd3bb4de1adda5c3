// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace tensor_pager::tests {

/// Expects a text to be that of a file under tests/data. With TENSOR_PAGER_WRITE_GOLDEN set in the
/// environment it becomes that.
inline void expect_golden(const std::string& file, const std::string& text) {
  const std::string path = std::string(TEST_DATA_DIR) + "/" + file;
  if (std::getenv("TENSOR_PAGER_WRITE_GOLDEN") != nullptr) std::ofstream(path) << text;
  std::ostringstream golden;
  golden << std::ifstream(path).rdbuf();
  EXPECT_EQ(text, golden.str()) << "of " << file;
}

}  // namespace tensor_pager::tests
