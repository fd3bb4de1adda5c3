#include "cuda_test_device.hpp"
