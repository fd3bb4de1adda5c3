# SPDX-License-Identifier: Apache-2.0
# What cpack makes: Debian's packages, one for each install component (docs/packages.md). With static libraries there are
# no packages of shared ones, and those for developers hold archives.
set(TENSOR_PAGER_MAINTAINER "tensor-pager maintainers <maintainers@tensor-pager.example>" CACHE STRING
  "Who answers for Debian packages: a name and an address")
set(soversion ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
get_property(layers GLOBAL PROPERTY TENSOR_PAGER_LAYERS)
get_property(programs GLOBAL PROPERTY TENSOR_PAGER_PROGRAMS)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME tensor-pager)
set(CPACK_PACKAGE_VENDOR "tensor-pager")
set(CPACK_PACKAGE_CONTACT "${TENSOR_PAGER_MAINTAINER}")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_SOURCE_IGNORE_FILES "/build/" "/\\\\.git")
set(CPACK_THREADS 0)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SOURCE tensor-pager)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
# Below Debian's own first revision, which would replace ours. A build with CUDA replaces one without.
set(version ${PROJECT_VERSION}-0upstream1)
set(area "")
if(TENSOR_PAGER_HAS_CUDA)
  find_package(CUDAToolkit QUIET REQUIRED)
  set(cuda ${CUDAToolkit_VERSION_MAJOR}.${CUDAToolkit_VERSION_MINOR})
  string(REPLACE "." "-" cuda_suffix ${cuda})
  string(APPEND version "+cuda${cuda}")
  set(area "contrib/")  # it needs what is not in Debian's main
endif()
set(CPACK_DEBIAN_PACKAGE_VERSION ${version})

# What Debian calls the CMake packages that static libraries are linked with, and CUDA's headers.
set(debian_of_TBB libtbb-dev)
set(debian_of_fmt libfmt-dev)
set(debian_of_HWLOC libhwloc-dev)
set(debian_of_PCRE2 libpcre2-dev)
set(debian_of_UTF8PROC libutf8proc-dev)
set(debian_of_CUDAToolkit cuda-cudart-dev-${cuda_suffix})
if(NOT BUILD_SHARED_LIBS)
  list(APPEND debian_of_CUDAToolkit libcublas-dev-${cuda_suffix})
endif()

set(CPACK_COMPONENTS_ALL "")
# package(COMPONENT NAME SECTION DEPENDS SYNOPSIS TEXT)
macro(package component name section depends synopsis text)
  string(TOUPPER ${component} upper)
  list(APPEND CPACK_COMPONENTS_ALL ${component})
  set(CPACK_DEBIAN_${upper}_PACKAGE_NAME ${name})
  set(CPACK_DEBIAN_${upper}_PACKAGE_SECTION ${area}${section})
  set(CPACK_DEBIAN_${upper}_PACKAGE_DEPENDS "${depends}")
  set(CPACK_DEBIAN_${upper}_DESCRIPTION "${synopsis}\n${text}")
endmacro()

# Lines of at most 79 characters, as dpkg shows them.
set(about_pager "The pager gives every byte of a model's files a permanent device address,
keeps what a byte budget allows in device memory, and has each page there
before the work that reads it starts.")
set(about_kernels "Dequantisation, matrix products, attention and the rest, as functions on
pointers, for all weight types in which Qwen models come.")
set(about_loaders "GGUF files, tokenizers, and the graph of a model as the steps that a pager
plans for.")

# What compilers need of a layer, in Debian's names.
function(development_depends variable)
  set(depends "")
  foreach(layer IN LISTS ARGN)
    if(BUILD_SHARED_LIBS)
      list(APPEND depends "libtensor-pager-${layer}${soversion} (= ${version})")
    endif()
    get_property(packages GLOBAL PROPERTY TENSOR_PAGER_${layer}_PACKAGES)
    foreach(package IN LISTS packages)
      list(APPEND depends ${debian_of_${package}})
    endforeach()
  endforeach()
  list(REMOVE_DUPLICATES depends)
  list(JOIN depends ", " depends)
  set(${variable} "${depends}" PARENT_SCOPE)
endfunction()

if(BUILD_SHARED_LIBS)
  foreach(layer IN LISTS layers)
    package(${layer} libtensor-pager-${layer}${soversion} libs "" "demand-paged tensors in device memory - ${layer}"
      "${about_${layer}}\n\nThis package has the shared library.")
  endforeach()
  set(CPACK_TENSOR_PAGER_LAYERS ${layers})
  if(TENSOR_PAGER_HAS_CUDA)
    set(CPACK_DEBIAN_PAGER_PACKAGE_RECOMMENDS libcuda1)  # looked up at run time
  endif()
elseif(TENSOR_PAGER_HAS_CUDA)
  set(CPACK_DEBIAN_PROGRAMS_PACKAGE_RECOMMENDS libcuda1)
endif()
development_depends(depends pager)
package(pager_development libtensor-pager-pager-dev libdevel "${depends}"
  "demand-paged tensors in device memory - the pager for C++"
  "${about_pager}

This package has what programs that embed the pager alone are built with:
headers, and its files for CMake and pkg-config.")
set(others ${layers})
list(REMOVE_ITEM others pager)
if(others)
  development_depends(depends ${others})
  string(JOIN ", " depends "libtensor-pager-pager-dev (= ${version})" ${depends})
  package(development libtensor-pager-dev libdevel "${depends}"
    "demand-paged tensors in device memory - all libraries for C++"
    "${about_pager}

This package has what programs that use the pager, its loaders of GGUF models
and its kernels are built with: headers, and their files for CMake and
pkg-config.")
endif()
if(others AND TENSOR_PAGER_HAS_CUDA)
  set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_RECOMMENDS cuda-nvcc-${cuda_suffix})  # by which CMake finds CUDA
endif()
if(programs)
  package(programs tensor-pager science "" "Qwen models larger than the memory they are given"
    "Runs models whose weights do not fit into GPU memory, or are not to fill it.
${about_pager}

This package has the programs: qwen_chat and qwen_prefill run models,
pager_stats shows what happened, pager_bench measures what a machine makes of
a model, pager_sim predicts it, and make_gguf writes models of random weights.")
endif()

# For the scripts that cpack runs, which see what is called CPACK_ alone.
set(CPACK_TENSOR_PAGER_SOURCE "${PROJECT_SOURCE_DIR}")
set(CPACK_TENSOR_PAGER_BINARY "${PROJECT_BINARY_DIR}")
set(CPACK_TENSOR_PAGER_LIBDIR "${CMAKE_INSTALL_LIBDIR}")
set(CPACK_TENSOR_PAGER_SOVERSION ${soversion})
set(CPACK_TENSOR_PAGER_SEARCHED "")
foreach(layer IN LISTS layers)
  list(APPEND CPACK_TENSOR_PAGER_SEARCHED "${PROJECT_BINARY_DIR}/${layer}")
endforeach()
set(CPACK_TENSOR_PAGER_DOCUMENTS_pager_development docs/embedding.md)
set(CPACK_TENSOR_PAGER_EXAMPLES_pager_development examples/embed/main.cpp)
set(CPACK_TENSOR_PAGER_DOCUMENTS_programs docs/report.md docs/statistics.md docs/troubleshooting.md)
set(CPACK_TENSOR_PAGER_SHLIBS "")
if(TENSOR_PAGER_HAS_CUDA)
  # NVIDIA's packages do not say which libraries they have in a way that dpkg-shlibdeps reads.
  set(CPACK_TENSOR_PAGER_SHLIBS "libcublasLt ${CUDAToolkit_VERSION_MAJOR} libcublas-${cuda_suffix}")
  list(APPEND CPACK_TENSOR_PAGER_SEARCHED "${CUDAToolkit_LIBRARY_DIR}")
endif()
set(CPACK_PROJECT_CONFIG_FILE ${CMAKE_CURRENT_LIST_DIR}/packages/require_build.cmake)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/packages/finish.cmake)
set(built "")
foreach(target IN LISTS programs)
  string(APPEND built "$<TARGET_FILE:${target}>\n")
endforeach()
foreach(layer IN LISTS layers)
  string(APPEND built "$<TARGET_FILE:tensor_pager_${layer}>\n")
endforeach()
file(GENERATE OUTPUT ${PROJECT_BINARY_DIR}/packaged_files.txt CONTENT "${built}")
include(CPack)
