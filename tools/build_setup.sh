# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by tools/test.sh, tools/demo.sh and .ci/run: installs the packages that the build needs, configures, builds.
# The sourcing script sets -euo pipefail and `repository`, the root of the working tree.

build_packages=(g++ cmake ninja-build pkg-config libtbb-dev libhwloc-dev libgtest-dev libgmock-dev libpcre2-dev
  libutf8proc-dev libbenchmark-dev nlohmann-json3-dev libcli11-dev libfmt-dev libxxhash-dev
  libedit-dev)

fail() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  exit 1
}

# announce TEXT: what happens next, set off from the output of the tools.
announce() { printf '== %s\n' "$1"; }

# missing_packages PACKAGE...: those that are not there, one per line. A program may come from anywhere, a library from
# its package; without dpkg libraries are left to cmake, which names the one that it does not find.
missing_packages() {
  local installed='' package program
  if command -v dpkg-query >/dev/null; then
    installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
  fi
  for package in "$@"; do
    case $package in
      *-dev) program='' ;;
      ninja-build) program=ninja ;;
      *) program=$package ;;
    esac
    if [[ -n $program ]]; then
      command -v "$program" >/dev/null || printf '%s\n' "$package"
    elif command -v dpkg-query >/dev/null; then
      grep -qxF "$package installed" <<<"$installed" || printf '%s\n' "$package"
    fi
  done
}

# show_apt_progress VERB: shows apt's status lines (kind:package:percent:text) and puts all others in $apt_log. On a
# terminal one line is rewritten; elsewhere a line is printed whenever a further quarter is done.
show_apt_progress() {
  local line percent text stage last=''
  while IFS= read -r line; do
    case $line in
      dlstatus:*) [[ $1 == update ]] && stage="package lists" || stage="downloading" ;;
      pmstatus:*) stage="installing" ;;
      *)
        printf '%s\n' "$line" >>"$apt_log"
        continue
        ;;
    esac
    IFS=: read -r _ _ percent text <<<"$line"
    percent=${percent%%[.,]*}
    if [[ -t 1 ]]; then
      printf '\r   %-13s %3d%%  %-50.50s' "$stage" "$percent" "$text"
    elif [[ "$stage $((percent / 25))" != "$last" ]]; then
      last="$stage $((percent / 25))"
      printf '   %-13s %3d%%\n' "$stage" "$percent"
    fi
  done
  [[ ! -t 1 ]] || printf '\r%-72s\r' ''
}

# run_apt_get ARGUMENTS...: apt-get without questions, with its progress shown and its log in $apt_log.
run_apt_get() {
  local -a as_root=()
  ((EUID == 0)) || as_root=(sudo)
  "${as_root[@]}" env LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -y --no-install-recommends \
    -o APT::Status-Fd=1 -o DPkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 "$@" \
    2>>"$apt_log" </dev/null | show_apt_progress "$1"
}

# install_packages PACKAGE...: needs neither apt nor a network if all of them are there.
install_packages() {
  local -a missing
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]} > 0)) || return 0
  command -v apt-get >/dev/null || fail "there is no apt-get; install these packages yourself: ${missing[*]}"
  ((EUID == 0)) || command -v sudo >/dev/null ||
    fail "neither root nor sudo; let root run: apt-get install ${missing[*]}"

  announce "installing ${#missing[@]} packages: ${missing[*]}"
  local apt_log
  apt_log=$(mktemp)
  run_apt_get update || true # one unreachable source need not matter; the installation tells
  if ! run_apt_get install "${missing[@]}"; then
    local reason
    reason=$(grep -m1 '^E:' "$apt_log" || echo "see the log")
    fail "apt-get failed, $reason (log: $apt_log); repeat, or install yourself: ${missing[*]}"
  fi
  rm -f "$apt_log"
}

# configure PRESET [CMAKE_ARGUMENT...]
configure() {
  local preset=$1
  shift
  announce "configuring $preset"
  # Always given, so that a ccache that has gone since the last run is not called.
  cmake --preset "$preset" -S "$repository" -DCMAKE_CXX_COMPILER_LAUNCHER="$(command -v ccache || true)" "$@"
}

# build PRESET [TARGET...]
build() {
  local preset=$1
  shift
  announce "building ${*:-everything} ($preset)"
  cmake --build "$repository/build/$preset" ${1+--target "$@"}
}
