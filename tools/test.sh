#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what the build needs (apt, only what is missing), builds, and runs the tests.
set -euo pipefail
repository=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
source "$repository/tools/build_setup.sh"

usage() {
  cat <<'END'
usage: tools/test.sh [--preset release|debug|asan|tsan] [--only pager] [-- CTEST_ARGUMENT...]
  --preset NAME   the build to test, in build/NAME (default release)
  --only pager    builds and runs the tests of the pager and of what pages with it alone
  -- ...          passed to ctest, for example: -- -R pager
END
}

preset=release
targets=()
only=()
while (($# > 0)); do
  case $1 in
    --preset)
      (($# > 1)) || fail "--preset needs a name: release, debug, asan or tsan"
      preset=$2
      shift 2
      ;;
    --preset=*)
      preset=${1#*=}
      shift
      ;;
    --only)
      [[ ${2-} == pager ]] || fail "--only is for the tests of one part: pager"
      targets=(pager_checks)
      only=(-L '^pager$')
      shift 2
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    --)
      shift
      break
      ;;
    *)
      usage >&2
      printf 'test.sh: unknown argument: %s\n' "$1" >&2
      exit 2
      ;;
  esac
done
case $preset in
  release | debug | asan | tsan) ;;
  *)
    printf 'test.sh: unknown preset: %s (release, debug, asan or tsan)\n' "$preset" >&2
    exit 2
    ;;
esac

install_packages "${build_packages[@]}"
configure "$preset"
build "$preset" "${targets[@]}"
announce "testing ($preset)"
cd "$repository"
exec ctest --preset "$preset" -j "$(nproc)" "${only[@]}" "$@"
