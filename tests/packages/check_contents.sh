#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check_contents.sh FOLDER: the .debs in FOLDER hold what Debian asks of packages, depend on what their programs and
# libraries are linked with, and make embedders of the pager alone take nothing else. Installs nothing.
set -euo pipefail
shopt -s nullglob
folder=$1
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
failures=0

complain() {
  printf 'check_contents.sh: %s\n' "$1" >&2
  failures=$((failures + 1))
}

field() { dpkg-deb --field "$work/$1.deb" "$2"; }

check_fields() {
  local name=$1 key
  for key in Package Version Architecture Maintainer Section Description Installed-Size; do
    [[ -n $(field "$name" "$key") ]] || complain "$name has no $key"
  done
  [[ $(field "$name" Source) == tensor-pager ]] || complain "$name is not of source tensor-pager"
  [[ $(field "$name" Version) == "$(field tensor-pager Version)" ]] || complain "$name has another version than the programs"
  [[ $(field "$name" Description | wc -l) -gt 2 ]] || complain "$name is described in a line"
  [[ $(field "$name" Description | wc -L) -le 80 ]] || complain "$name is described in lines that are too long"
}

check_documents() {
  local name=$1 document
  for document in copyright changelog.gz changelog.Debian.gz; do
    [[ -s $work/$name/usr/share/doc/$name/$document ]] || complain "$name has no $document"
  done
  zcat "$work/$name/usr/share/doc/$name/changelog.Debian.gz" | dpkg-parsechangelog -l- >"$work/changelog" 2>&1 ||
    complain "$name: $(<"$work/changelog")"
  grep -qxF "Version: $(field "$name" Version)" "$work/changelog" || complain "$name: its changelog is of another version"
}

# Owners, modes, places and checksums.
check_files() {
  local name=$1 mode owner path foreign
  while read -r mode owner _ _ _ path _; do
    [[ $owner == root/root ]] || complain "$name: $path belongs to $owner"
    case $path in ./ | ./usr/*) ;; *) complain "$name: $path is outside /usr" ;; esac
    case $mode in
      drwxr-xr-x | lrwxrwxrwx) ;;
      -rwxr-xr-x) [[ $path == ./usr/bin/* ]] || complain "$name: $path can be run" ;;
      -rw-r--r--) [[ $path != ./usr/bin/* ]] || complain "$name: $path cannot be run" ;;
      *) complain "$name: $path has mode $mode" ;;
    esac
  done < <(dpkg-deb --contents "$work/$name.deb")
  dpkg-deb --ctrl-tarfile "$work/$name.deb" | tar -xO ./md5sums 2>/dev/null >"$work/md5sums" ||
    dpkg-deb --ctrl-tarfile "$work/$name.deb" | tar -xO md5sums >"$work/md5sums"
  (cd "$work/$name" && md5sum --check --quiet "$work/md5sums") || complain "$name: files differ from their checksums"
  foreign=$(cd "$work/$name" && find . -type f | wc -l)
  [[ $foreign == $(wc -l <"$work/md5sums") ]] || complain "$name: $foreign files, other than md5sums has"
}

# provider LIBRARY: the package that must be in Depends where it is linked; nothing for Debian's, which dpkg-shlibdeps knows.
provider() {
  case $1 in
    libtensor_pager_*.so.*) sed -E 's/^libtensor_pager_([a-z]+)\.so\.(.*)/libtensor-pager-\1\2/' <<<"$1" ;;
    libcublasLt.so.*) echo libcublas- ;;
    libtbb.so.*) echo libtbb ;;
    libfmt.so.*) echo libfmt ;;
    libedit.so.*) echo libedit ;;
    libpcre2-8.so.*) echo libpcre2-8- ;;
    libutf8proc.so.*) echo libutf8proc ;;
    libxxhash.so.*) echo libxxhash ;;
    libhwloc.so.*) echo libhwloc ;;
    libstdc++.so.*) echo 'libstdc\+\+' ;;
    libgcc_s.so.*) echo libgcc-s ;;
    libc.so.* | libm.so.* | ld-linux-*) echo libc6 ;;
    *) echo "$1, which this script does not know" ;;
  esac
}

check_binaries() {
  local name=$1 binary library package
  while IFS= read -r binary; do
    [[ $(head -c 4 -- "$binary") == $'\x7fELF' ]] || continue
    readelf --wide --dynamic "$binary" >"$work/dynamic"
    ! grep -qE 'RPATH|RUNPATH' "$work/dynamic" || complain "$binary has a search path of its own"
    ! readelf --wide --sections "$binary" | grep -qF ' .symtab ' || complain "$binary is not stripped"
    ! grep -qF "$(git rev-parse --show-toplevel 2>/dev/null || echo /nowhere)" "$binary" ||
      complain "$binary names the folder that it was built in"
    while IFS= read -r library; do
      package=$(provider "$library")
      field "$name" Depends | grep -qE "(^|, )$package" || complain "$binary is linked with $library, but $name does not depend on $package"
    done < <(sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p' "$work/dynamic")
  done < <(find "$work/$name" -type f \( -path '*/usr/bin/*' -o -name '*.so.*' \))
}

check_programs() {
  local program
  for program in qwen_chat qwen_prefill pager_bench pager_sim pager_stats make_gguf; do
    [[ -x $work/tensor-pager/usr/bin/$program ]] || complain "there is no program $program"
  done
  for program in "$work"/tensor-pager/usr/bin/*; do
    program=${program##*/}
    zcat "$work/tensor-pager/usr/share/man/man1/$program.1.gz" | grep -q "^$program " || complain "$program has no manual page"
    [[ -s $work/tensor-pager/usr/share/bash-completion/completions/$program ]] || complain "$program has no completion"
  done
}

# A library's package is called like its SONAME, tells dpkg-shlibdeps what it has, and has ldconfig run.
check_library() {
  local name=$1 library soname
  for library in "$work/$name"/usr/lib/*/libtensor_pager_*.so.*.*.*; do
    soname=$(readelf --dynamic "$library" | sed -nE 's/.*\(SONAME\).*\[(.*)\]/\1/p')
    [[ $(provider "$soname") == "$name" ]] || complain "$name holds $soname"
    [[ -L ${library%/*}/$soname ]] || complain "$name has no link $soname"
    dpkg-deb --info "$work/$name.deb" shlibs | grep -qE "^${soname%%.so*} ${soname##*.so.} $name " || complain "$name has no shlibs"
    dpkg-deb --info "$work/$name.deb" triggers | grep -qx 'activate-noawait ldconfig' || complain "$name does not have ldconfig run"
  done
}

check_development() {
  local name link
  for name in libtensor-pager-pager-dev libtensor-pager-dev; do
    for link in "$work/$name"/usr/lib/*/*.so; do
      compgen -G "$work/libtensor-pager-*/usr/lib/*/$(readlink "$link")" >/dev/null || complain "$name: $link leads nowhere"
    done
  done
  [[ -n $(find "$work/libtensor-pager-pager-dev" -name 'tensor_pager_pager.pc') ]] || complain "the pager alone has no pkg-config file"
  [[ -n $(find "$work/libtensor-pager-dev" -name 'tensor_pager.pc') ]] || complain "there is no pkg-config file for all libraries"
  [[ -z $(find "$work/libtensor-pager-pager-dev" -path '*/kernels/*' -o -path '*/loaders/*') ]] || complain "the pager alone has others' headers"
}

# What only programs, kernels or loaders need, an embedder of the pager does not install.
check_pager_alone() {
  local name
  for name in libtensor-pager-pager-dev "$work"/libtensor-pager-pager[0-9]*.deb; do
    name=$(basename "$name" .deb)
    ! field "$name" Depends | grep -E 'tbb|fmt|pcre2|utf8proc|edit|xxhash|kernels|loaders|cublas' ||
      complain "$name depends on more than the pager needs"
  done
}

for deb in "$folder"/*.deb; do
  name=$(dpkg-deb --field "$deb" Package)
  ln -s -- "$(realpath -- "$deb")" "$work/$name.deb"
  dpkg-deb --extract "$deb" "$work/$name"
done
names=("$work"/*.deb)
((${#names[@]} >= 3)) || complain "there are ${#names[@]} packages in $folder"
for deb in "${names[@]}"; do
  name=$(basename "$deb" .deb)
  check_fields "$name"
  check_documents "$name"
  check_files "$name"
  check_binaries "$name"
  case $name in libtensor-pager-*[0-9]) check_library "$name" ;; esac
done
check_programs
check_development
check_pager_alone
twice=$(for deb in "${names[@]}"; do dpkg-deb --contents "$deb" | awk '$1 !~ /^d/ { print $6 }'; done | sort | uniq -d)
[[ -z $twice ]] || complain "files of two packages: $twice"
((failures == 0)) || exit 1
echo "${#names[@]} packages are in order"
