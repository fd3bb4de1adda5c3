#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds Debian packages of the libraries, of what developers need, and of the programs: docs/packages.md.
set -euo pipefail
repository=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
source "$repository/tools/build_setup.sh"

usage() {
  cat <<'END'
usage: tools/packages.sh [--cuda] [--output DIR]
Installs what is missing (apt), builds in build/packages, and puts the packages into DIR. Their maintainer is DEBFULLNAME
<DEBEMAIL>, if these variables are set.
  --cuda         with the CUDA device and kernels, in build/packages-cuda; needs nvcc here, and NVIDIA's libcublas there
  --output DIR   where the packages go (default build/packages/debs, or build/packages-cuda/debs)
END
}

preset=packages
output=''
while (($# > 0)); do
  case $1 in
    --cuda) preset=packages-cuda ;;
    --output)
      (($# > 1)) || fail "--output needs a folder"
      output=$2
      shift
      ;;
    -h | --help) usage && exit 0 ;;
    *)
      usage >&2
      printf 'packages.sh: unknown argument: %s\n' "$1" >&2
      exit 2
      ;;
  esac
  shift
done
output=$(realpath -m -- "${output:-$repository/build/$preset/debs}")

install_packages "${build_packages[@]}" dpkg-dev
maintainer=()
if [[ -n ${DEBFULLNAME:-} && -n ${DEBEMAIL:-} ]]; then
  maintainer=("-DTENSOR_PAGER_MAINTAINER=$DEBFULLNAME <$DEBEMAIL>")
fi
configure "$preset" "${maintainer[@]}"
build "$preset"
umask 022 # the packages' bytes are not to depend on it
announce "packing into $output"
mkdir -p -- "$output"
rm -f -- "$output"/libtensor-pager-*.deb "$output"/tensor-pager_*.deb # of another version
cpack -G DEB --config "$repository/build/$preset/CPackConfig.cmake" -B "$output"
rm -rf -- "$output/_CPack_Packages"
ls -l -- "$output"
