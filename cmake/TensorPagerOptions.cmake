# Options of the build. Programs, tests and install rules default to on only when this is the top-level project, so that
# add_subdirectory(tensor-pager) gives an embedder the libraries and nothing else.
option(TENSOR_PAGER_BUILD_PROGRAMS "Build examples/ and tools/" ${PROJECT_IS_TOP_LEVEL})
option(TENSOR_PAGER_BUILD_TESTS "Build tests/ (needs GoogleTest and the programs)" ${PROJECT_IS_TOP_LEVEL})
option(TENSOR_PAGER_INSTALL "Generate install rules" ${PROJECT_IS_TOP_LEVEL})
option(TENSOR_PAGER_WERROR "Treat warnings in our own code as errors" ${PROJECT_IS_TOP_LEVEL})
set(TENSOR_PAGER_SANITIZE "" CACHE STRING "Sanitizers to build with: address,undefined or thread")
set(PAGER_CUDA "AUTO" CACHE STRING "Build the CUDA device and kernels: AUTO (if nvcc is found), ON, OFF")
set_property(CACHE PAGER_CUDA PROPERTY STRINGS AUTO ON OFF)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Build type" FORCE)
endif()

if(TENSOR_PAGER_SANITIZE)
  add_compile_options(-fsanitize=${TENSOR_PAGER_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${TENSOR_PAGER_SANITIZE})
endif()

# TENSOR_PAGER_HAS_CUDA says whether the CUDA parts are built.
set(TENSOR_PAGER_HAS_CUDA OFF)
if(NOT PAGER_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(TENSOR_PAGER_HAS_CUDA ON)
  elseif(PAGER_CUDA STREQUAL "ON")
    message(FATAL_ERROR "PAGER_CUDA=ON, but no CUDA compiler was found. Put nvcc on PATH or set CMAKE_CUDA_COMPILER.")
  endif()
endif()
