#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds with every compiler, build type and kind of library that users have, one after the other, with warnings as errors.
set -euo pipefail
repository=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
source "$repository/tools/build_setup.sh"

usage() {
  cat <<'END'
usage: tools/build_matrix.sh [OPTION...]
Builds libraries and programs in build/matrix/COMPILER-TYPE-LIBRARIES, and prints a table. Goes on after a failure, and ends
with 1 then. Each option may be repeated; without it, all are built.
  --compiler NAME    g++ or clang++-14, or another that CMake knows
  --type TYPE        Release, Debug or RelWithDebInfo
  --libraries KIND   static or shared
  --test             builds the tests, too, and runs all but those that take minutes
  --cuda on|off|once with nvcc's parts; by default once: where clang's Release is static (there host code sees CUDA's headers)
  --jobs N           at once (default: all processors)
  --remove           removes the folder of each build that passed
END
}

reject() {
  usage >&2
  printf 'build_matrix.sh: %s\n' "$1" >&2
  exit 2
}

compilers=()
types=()
libraries=()
cuda=once
jobs=$(nproc)
with_tests=''
remove=''
while (($# > 0)); do
  case $1 in
    --compiler | --type | --libraries | --cuda | --jobs)
      (($# > 1)) || reject "$1 needs a value"
      case $1 in
        --compiler) compilers+=("$2") ;;
        --type) types+=("$2") ;;
        --libraries) libraries+=("$2") ;;
        --cuda) cuda=$2 ;;
        --jobs) jobs=$2 ;;
      esac
      shift
      ;;
    --test) with_tests=yes ;;
    --remove) remove=yes ;;
    -h | --help) usage && exit 0 ;;
    *) reject "unknown argument: $1" ;;
  esac
  shift
done
((${#compilers[@]} > 0)) || compilers=(g++ clang++-14)
((${#types[@]} > 0)) || types=(Release Debug RelWithDebInfo)
((${#libraries[@]} > 0)) || libraries=(static shared)
for type in "${types[@]}"; do
  case $type in Release | Debug | RelWithDebInfo) ;; *) reject "unknown type: $type" ;; esac
done
for kind in "${libraries[@]}"; do
  case $kind in static | shared) ;; *) reject "unknown kind of library: $kind" ;; esac
done
case $cuda in on | off | once) ;; *) reject "unknown value of --cuda: $cuda" ;; esac
[[ $jobs =~ ^[1-9][0-9]*$ ]] || reject "--jobs needs a number, not $jobs"

# cuda_of COMPILER TYPE KIND: the value of PAGER_CUDA.
cuda_of() {
  case $cuda:$1:$2:$3 in
    on:* | once:clang*:Release:static) echo AUTO ;;
    *) echo OFF ;;
  esac
}

# build_one COMPILER TYPE KIND FOLDER
build_one() {
  local shared=OFF tests=OFF launcher
  [[ $3 == static ]] || shared=ON
  [[ -z $with_tests ]] || tests=ON
  launcher=$(command -v ccache || true)
  # nvcc takes GCC for its own host code, whatever compiles the rest.
  cmake -S "$repository" -B "$4" -G Ninja -DCMAKE_CXX_COMPILER="$1" -DCMAKE_BUILD_TYPE="$2" -DBUILD_SHARED_LIBS=$shared \
    -DTENSOR_PAGER_BUILD_TESTS=$tests -DPAGER_CUDA="$(cuda_of "$@")" -DTENSOR_PAGER_WERROR=ON \
    -DCMAKE_CXX_COMPILER_LAUNCHER="$launcher" -DCMAKE_CUDA_COMPILER_LAUNCHER="$launcher" &&
    cmake --build "$4" -j "$jobs" -- -k 0
}

# test_one FOLDER: what is left out is mutations and consumers, which build much more.
test_one() {
  ctest --test-dir "$1" -j "$jobs" -E '^(simulator\.notices_mutations|consumer\.)' --output-on-failure --no-tests=error
}

packages=("${build_packages[@]}")
for compiler in "${compilers[@]}"; do
  [[ $compiler != clang++-* ]] || packages+=("clang-${compiler#clang++-}")
done
command -v "${compilers[@]}" >/dev/null || install_packages "${packages[@]}"

table=()
status=0
for compiler in "${compilers[@]}"; do
  for type in "${types[@]}"; do
    for kind in "${libraries[@]}"; do
      name=$compiler-$type-$kind
      folder=$repository/build/matrix/${name//\//_}
      announce "$name"
      begin=$SECONDS
      result="builds"
      if ! build_one "$compiler" "$type" "$kind" "$folder"; then
        result="does not build"
      elif [[ -n $with_tests ]]; then
        result="passes"
        test_one "$folder" || result="tests fail"
      fi
      case $result in
        builds | passes) [[ -z $remove ]] || rm -rf "$folder" ;;
        *) status=1 ;;
      esac
      table+=("$(printf '%-12s %-15s %-7s CUDA %-5s %-15s %5d s' "$compiler" "$type" "$kind" \
        "$(cuda_of "$compiler" "$type" "$kind")" "$result" $((SECONDS - begin)))")
    done
  done
done
printf '%s\n' "${table[@]}"
exit $status
