#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2016  # what dpkg-query is to write
# Installs Debian packages of this project in a bare system of their own, uses them as people would, and removes them.
set -euo pipefail
repository=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
source "$repository/tools/build_setup.sh"

usage() {
  cat <<'END'
usage: tools/check_packages.sh [FOLDER]
Checks the packages in FOLDER (default: those of tools/packages.sh, which are built first). Needs root and a mirror of Debian.
Their contents; lintian; then in a Debian without anything (mmdebstrap): an upgrade from an older version, the chat through
a pipe, the demo's model, programs that are built with the pager alone and with all libraries, by CMake and by pkg-config;
and that nothing is left of them. Packages with CUDA are not installed, since they need NVIDIA's repository.
END
}

case ${1:-} in
  -h | --help) usage && exit 0 ;;
  -*) usage >&2 && exit 2 ;;
esac
((EUID == 0)) || fail "this needs root, for a chroot"
debs=${1:-}
if [[ -z $debs ]]; then
  "$repository/tools/packages.sh"
  debs=$repository/build/packages/debs
fi
compgen -G "$debs/*.deb" >/dev/null || fail "there are no packages in $debs; make them: tools/packages.sh"
debs=$(realpath -- "$debs")
install_packages lintian mmdebstrap

# What is mounted below goes with this script, however it ends.
if [[ -z ${CHECK_PACKAGES_MOUNTS:-} ]]; then
  CHECK_PACKAGES_MOUNTS=own exec unshare --mount --propagation private "$0" "$debs"
fi

work=$(mktemp -d)
trap 'umount --recursive "$work" 2>/dev/null || true; rm -rf -- "$work"' EXIT
mount -t tmpfs -o size=4g tmpfs "$work"
root=$work/root
suite=bookworm

inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive HOME=/root "$@"; }

# apt ARGUMENTS...: quietly, unless it fails.
apt() {
  inside apt-get -y --no-install-recommends "$@" >"$work/apt.log" 2>&1 </dev/null && return
  cat "$work/apt.log" >&2
  fail "apt-get $* failed"
}

# files LIST: what is on the disk, less what apt and dpkg keep for themselves.
files() {
  (cd "$root" && find . -xdev \( -path ./debs -o -path ./models -o -path ./consumer -o -path ./tmp -o -path ./var/lib/apt \
    -o -path ./var/cache -o -path ./var/log -o -path ./var/lib/dpkg -o -path ./etc/ld.so.cache \) -prune -o -print) | sort >"$1"
  inside dpkg-query -W -f '${Package} ${db:Status-Status}\n' >>"$1"
}

# removed BEFORE: purges all of ours and what came with it; nothing is left that BEFORE did not have.
removed() {
  apt purge '?source-package(^tensor-pager$)'
  apt autoremove --purge
  files "$work/after"
  diff "$1" "$work/after" >"$work/left" || fail "this is left after a purge, or missing: $(<"$work/left")"
}

bare_system() {
  announce "a bare $suite"
  mmdebstrap --quiet --variant=minbase "$suite" "$root"
  local folder
  for folder in proc sys dev; do mount --rbind --make-rslave "/$folder" "$root/$folder"; done
  mkdir "$root/debs" "$root/models" "$root/consumer"
  cp -- "$debs"/*.deb "$root/debs"
  cp -- "$repository/tests/data/models/tiny-qwen2-q4_k_m.gguf" "$root/models"
  cp -r -- "$repository/tests/consumer/." "$root/consumer"
  apt update
}

# The same packages as version 0.0.1.
make_older() {
  local deb version
  mkdir "$root/debs/older"
  for deb in "$debs"/*.deb; do
    version=$(dpkg-deb --field "$deb" Version)
    dpkg-deb --raw-extract "$deb" "$work/older"
    sed -i "s/$version/0.0.1-0/g" "$work/older/DEBIAN/control"
    dpkg-deb --build -Znone "$work/older" "$root/debs/older/" >/dev/null
    rm -r "$work/older"
  done
}

check_programs() {
  announce "programs, over an older version"
  local program
  make_older
  local -a older=("$root"/debs/older/libtensor-pager-*[0-9]_*.deb "$root"/debs/older/tensor-pager_*.deb)
  apt install "${older[@]#"$root"}"
  [[ $(inside dpkg-query -W -f '${Version}' tensor-pager) == 0.0.1-0 ]] || fail "the older version is not installed"
  local -a newer=("$root"/debs/libtensor-pager-*[0-9]_*.deb "$root"/debs/tensor-pager_*.deb)
  apt install "${newer[@]#"$root"}"
  [[ $(inside dpkg-query -W -f '${Version}\n' tensor-pager 'libtensor-pager-*' | sort -u | grep -c .) == 1 ]] ||
    fail "after the upgrade packages differ in version"
  inside dpkg --verify
  for program in $(inside dpkg -L tensor-pager | sed -n 's|^/usr/bin/||p'); do
    inside "$program" --version
    ! inside ldd "/usr/bin/$program" | grep 'not found' || fail "$program lacks libraries"
  done
}

check_models() {
  announce "the chat through a pipe, the demo's model"
  local model=/models/tiny-qwen2-q4_k_m.gguf answer
  answer=$(printf 'Who was Moses?\nAnd his brother?\n' | inside qwen_chat -m $model --device host -n 16 --seed 1 --arena 25%)
  printf '%s\n' "$answer"
  (($(wc -l <<<"$answer") >= 2)) || fail "qwen_chat did not answer both questions"
  answer=$(inside qwen_prefill --device host -m $model -p "And the LORD said unto Moses," -n 48 --arena 25% 2>"$work/summary")
  printf '%s\n' "$answer"
  ((${#answer} > 60)) || fail "qwen_prefill wrote: $answer"
  inside pager_sim -m $model -p 64 --device host --arena 50% --link-rate 1 --arithmetic 0.3 >/dev/null
}

# check_building PACKAGE MODULE COMPONENTS: a consumer built against a package for developers.
check_building() {
  announce "a program built against $1"
  inside /consumer/pkg_config.sh g++ /tmp/pkg_config "$2"
  inside cmake -S /consumer -B "/tmp/find package" -DCONSUMER_COMPONENTS="$3" >/dev/null
  inside cmake --build "/tmp/find package" >/dev/null
  inside "/tmp/find package/consumer"
  rm -r "$root/tmp/find package" "$root/tmp/pkg_config"
}

check_development() {
  local -a pager=("$root"/debs/libtensor-pager-pager*.deb) all=("$root"/debs/libtensor-pager-*.deb)
  local foreign
  apt install "${pager[@]#"$root"}"
  foreign=$(inside dpkg-query -W -f '${Package}\n' | grep -E '^lib(tbb|fmt|pcre2-.*-dev|utf8proc|edit|xxhash.*-dev)|^tensor-pager$' || true)
  [[ -z $foreign ]] || fail "with the pager alone came: $foreign"
  apt install g++ make cmake pkg-config
  check_building libtensor-pager-pager-dev tensor_pager_pager pager
  ! inside pkg-config --exists tensor_pager || fail "the pager alone says that it is all libraries"
  apt install "${all[@]#"$root"}"
  check_building libtensor-pager-dev tensor_pager "pager;kernels;loaders"
}

"$repository/tests/packages/check_contents.sh" "$debs"
announce "lintian"
lintian --fail-on error,warning --tag-display-limit 0 "$debs"/*.deb
if [[ $(dpkg-deb --field "$debs"/tensor-pager_*.deb Section) == contrib/* ]]; then
  announce "packages in $debs: in order as far as they were looked at; with CUDA they are not installed here"
  exit
fi
bare_system
files "$work/before"
check_programs
check_models
removed "$work/before"
check_development
apt purge g++ make cmake pkg-config
removed "$work/before"
announce "packages in $debs: in order"
