#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Collects what tools/gpu_check.sh runs in a folder, for a machine with a GPU and without this project's packages: programs
# and tests without debug information, and the libraries that they need beside CUDA's and the system's own.
set -euo pipefail
repository=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
source "$repository/tools/build_setup.sh"

usage() {
  cat <<'END'
usage: tools/gpu_bundle.sh DIR
On the other machine, in a copy of this repository with DIR in it: tools/gpu_check.sh --bin DIR
CUDAARCHS=90a-real in the environment builds for Hopper alone.
END
}
case ${1:-} in
  -h | --help) usage && exit 0 ;;
  '' | -*) usage >&2 && exit 2 ;;
esac
folder=$1

targets=(qwen_prefill pager_bench pager_link pager_sim make_gguf
  pager_tests device_tests fault_walk_tests cuda_pager_tests cuda_boundary_tests
  cuda_kernels_test cuda_inference_test cuda_kernels_benchmark)
install_packages "${build_packages[@]}"
configure release
build release "${targets[@]}"

announce "collecting in $folder"
mkdir -p "$folder/lib"
for target in "${targets[@]}"; do
  program=$(find "$repository/build/release" -path '*/consumer' -prune -o -type f -perm -u+x -name "$target" -print)
  strip -o "$folder/$target" "$program"
  # By name: those of the compiler and the C library are the other machine's.
  ldd "$program" | awk '$1 ~ /^lib(tbb|hwloc|fmt|pcre2-8|utf8proc|xxhash|gtest|gmock|benchmark)\.so/ { print $1, $3 }' |
    while read -r name path; do cp -L "$path" "$folder/lib/$name"; done
done
du -sh "$folder"
