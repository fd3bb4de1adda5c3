// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernel_test_data.hpp"

namespace tensor_pager::kernels::cuda {

inline void require(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

/// Skips every test, by name, on a machine without a GPU.
class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    const cudaError_t status = cudaGetDeviceCount(&devices);
    if (status != cudaSuccess || devices == 0) {
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(status);
    }
    require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  }
  void TearDown() override {
    if (stream == nullptr) return;
    require(cudaStreamSynchronize(stream));
    require(cudaStreamDestroy(stream));
  }

  cudaStream_t stream = nullptr;
};

/// An array in device memory. Copies wait for all work of the device.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t count) : count_(count) {
    require(
        cudaMalloc(reinterpret_cast<void**>(&data_), std::max<std::size_t>(count, 1) * sizeof(T)));
    // Not a number, and for halves as well: what is not written shows.
    require(cudaMemset(data_, 0xFF, count * sizeof(T)));
    require(cudaDeviceSynchronize());
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) { set(values); }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  void set(const std::vector<T>& values) {
    require(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
    require(cudaDeviceSynchronize());
  }
  [[nodiscard]] std::vector<T> get() const {
    std::vector<T> values(count_);
    require(cudaDeviceSynchronize());
    require(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }
  [[nodiscard]] T* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return count_; }

 private:
  T* data_ = nullptr;
  std::size_t count_;
};

/// Success if |got - expected| <= tolerance * scale[i] for all i (scale 1 if empty); otherwise says
/// how many elements are off, and which is the worst.
inline testing::AssertionResult close(const std::vector<float>& got,
                                      const std::vector<float>& expected, double tolerance,
                                      std::size_t columns, const std::vector<double>& scale = {}) {
  std::size_t wrong = 0;
  std::size_t worst = 0;
  double worst_ratio = -1.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double allowed = tolerance * (scale.empty() ? 1.0 : scale[i]);
    double ratio =
        std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])) / allowed;
    if (std::isnan(ratio)) ratio = got[i] == expected[i] ? 0.0 : HUGE_VAL;
    if (ratio > 1.0) ++wrong;
    if (ratio > worst_ratio) worst_ratio = ratio, worst = i;
  }
  if (wrong == 0) return testing::AssertionSuccess();
  std::ostringstream text;
  text << wrong << " of " << expected.size() << " elements are off; the worst is row "
       << worst / columns << ", column " << worst % columns << ": got " << got[worst]
       << ", expected " << expected[worst] << ", " << worst_ratio << " times the tolerance of "
       << tolerance * (scale.empty() ? 1.0 : scale[worst]);
  return testing::AssertionFailure() << text.str();
}

/// Success if the bits are the same; otherwise says how many differ, and which first.
inline testing::AssertionResult equal_bits(const std::vector<float>& got,
                                           const std::vector<float>& expected,
                                           std::size_t columns) {
  std::size_t wrong = 0;
  std::size_t first = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (std::memcmp(&got[i], &expected[i], sizeof(float)) == 0) continue;
    if (wrong++ == 0) first = i;
  }
  if (wrong == 0) return testing::AssertionSuccess();
  std::ostringstream text;
  text.precision(9);
  text << wrong << " of " << expected.size() << " elements differ; the first is row "
       << first / columns << ", column " << first % columns << ": got " << got[first]
       << ", expected " << expected[first];
  return testing::AssertionFailure() << text.str();
}

}  // namespace tensor_pager::kernels::cuda
