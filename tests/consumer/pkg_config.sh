#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# pkg_config.sh COMPILER FOLDER MODULE [PREFIX LIBDIR]: builds the consumer in FOLDER with nothing but the compiler and what
# pkg-config says of MODULE, tensor_pager_pager or tensor_pager (all libraries); and runs it. Without PREFIX they are where
# the system has libraries.
set -euo pipefail
compiler=$1
folder=$2
module=$3
source=$(dirname -- "${BASH_SOURCE[0]}")/main.cpp
rm -rf -- "$folder"
mkdir -p -- "$folder"
search=()
flags=()
if (($# > 3)); then
  # Where they are is their own matter: what is installed is moved, and to places with blanks.
  ln -s -- "$4" "$folder/a prefix"
  export PKG_CONFIG_PATH="$folder/a prefix/$5/pkgconfig"
  eval "search=($(pkg-config --libs-only-L "$module"))"
  search=("${search[@]/#-L/-Wl,-rpath,}") # not where the system looks
fi
uses=()
[[ $module != tensor_pager ]] || uses=(-DUSES_kernels -DUSES_loaders)
eval "flags=($(pkg-config --cflags --libs "$module"))" # as shells and make read them

if [[ $module == tensor_pager_pager ]] && foreign=$(grep -oE 'tbb|fmt|pcre2|utf8proc|kernels|loaders' <<<"${flags[*]}"); then
  printf 'pkg_config.sh: the pager alone needs what it should not: %s\n' "$foreign" >&2
  exit 1
fi
"$compiler" -std=c++20 "${uses[@]}" "-DPACKAGE_VERSION=\"$(pkg-config --modversion "$module")\"" "$source" \
  -o "$folder/consumer" "${flags[@]}" "${search[@]}"
"$folder/consumer"
