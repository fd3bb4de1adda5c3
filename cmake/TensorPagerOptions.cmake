# SPDX-License-Identifier: Apache-2.0
# Options of the build. Programs, tests and install rules default to on only when this is the top-level project, so that
# add_subdirectory(tensor-pager) gives an embedder the libraries and nothing else.
option(BUILD_SHARED_LIBS "Build the layers as shared libraries" OFF)
option(TENSOR_PAGER_BUILD_PROGRAMS "Build examples/ and tools/" ${PROJECT_IS_TOP_LEVEL})
option(TENSOR_PAGER_BUILD_TESTS "Build tests/ (needs GoogleTest and the programs)" ${TENSOR_PAGER_BUILD_PROGRAMS})
option(TENSOR_PAGER_INSTALL "Generate install rules" ${PROJECT_IS_TOP_LEVEL})
option(TENSOR_PAGER_WERROR "Treat warnings in our own code as errors, as the project's own presets do" OFF)
set(TENSOR_PAGER_COMPONENTS "pager;kernels;loaders" CACHE STRING
  "Libraries to build; pager alone needs nothing but threads, and hwloc with CUDA")
set(TENSOR_PAGER_ZSH_FOLDER "site-functions" CACHE STRING
  "Where zsh finds completions, below share/zsh; Debian's packages have them in vendor-completions")
set(TENSOR_PAGER_SANITIZE "" CACHE STRING "Sanitizers to build with: address,undefined or thread")
set(PAGER_CUDA "AUTO" CACHE STRING "Build the CUDA device and kernels: AUTO (if nvcc is found), ON, OFF")
set_property(CACHE PAGER_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT PAGER_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "PAGER_CUDA is '${PAGER_CUDA}'; it must be AUTO, ON or OFF.")
endif()

set(tensor_pager_layers pager kernels loaders)
foreach(component IN LISTS TENSOR_PAGER_COMPONENTS)
  if(NOT component IN_LIST tensor_pager_layers)
    message(FATAL_ERROR "TENSOR_PAGER_COMPONENTS names '${component}'; there are pager, kernels and loaders.")
  endif()
endforeach()
if(TENSOR_PAGER_BUILD_TESTS AND NOT TENSOR_PAGER_BUILD_PROGRAMS)
  message(FATAL_ERROR "TENSOR_PAGER_BUILD_TESTS=ON needs the programs; add TENSOR_PAGER_BUILD_PROGRAMS=ON, or leave the "
    "tests out with TENSOR_PAGER_BUILD_TESTS=OFF.")
endif()
foreach(layer IN LISTS tensor_pager_layers)
  if(TENSOR_PAGER_BUILD_PROGRAMS AND NOT layer IN_LIST TENSOR_PAGER_COMPONENTS)
    message(FATAL_ERROR "Programs need all libraries, and TENSOR_PAGER_COMPONENTS lacks ${layer}; add it, or leave the "
      "programs and tests out with TENSOR_PAGER_BUILD_PROGRAMS=OFF.")
  endif()
endforeach()

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

if(TENSOR_PAGER_SANITIZE)
  add_compile_options(-fsanitize=${TENSOR_PAGER_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${TENSOR_PAGER_SANITIZE})
endif()

# TENSOR_PAGER_HAS_CUDA says whether the CUDA parts are built. Neither finding nvcc nor choosing architectures looks at
# a GPU, so a build machine needs none.
set(TENSOR_PAGER_HAS_CUDA OFF)
if(NOT PAGER_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  if(NOT DEFINED ENV{CUDACXX})  # the toolkit's own folder is seldom on PATH
    find_program(TENSOR_PAGER_NVCC nvcc PATHS /usr/local/cuda/bin DOC "CUDA compiler")
    mark_as_advanced(TENSOR_PAGER_NVCC)
    if(TENSOR_PAGER_NVCC)
      set(ENV{CUDACXX} "${TENSOR_PAGER_NVCC}")
    endif()
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(TENSOR_PAGER_HAS_CUDA ON)
  elseif(PAGER_CUDA STREQUAL "ON")
    message(FATAL_ERROR "PAGER_CUDA=ON, but no working CUDA compiler was found. Put nvcc on PATH, set CUDACXX, or use "
      "PAGER_CUDA=AUTO.")
  endif()
endif()

file(GLOB_RECURSE TENSOR_PAGER_CUDA_SOURCES CONFIGURE_DEPENDS
  ${PROJECT_SOURCE_DIR}/kernels/*.cu ${PROJECT_SOURCE_DIR}/tests/*.cu)
if(TENSOR_PAGER_HAS_CUDA AND TENSOR_PAGER_CUDA_SOURCES)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
    # Code for Ampere, with PTX that later GPUs compile when they load it, and for Hopper, whose wgmma and TMA need 90a.
    set(CMAKE_CUDA_ARCHITECTURES "80;90a-real" CACHE STRING "CUDA architectures to build for")
  endif()
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc 12 and later speak C++20
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
endif()
