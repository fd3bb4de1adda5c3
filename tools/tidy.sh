#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs clang-tidy 14 as .clang-tidy says over sources of the project, several at once.
set -euo pipefail
repository=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
source "$repository/tools/build_setup.sh"

usage() {
  cat <<'END'
usage: tools/tidy.sh [--since COMMIT] [--within SECONDS] [--build DIR] [FILE...]
Checks the files, or all of pager/, kernels/, loaders/, examples/ and tools/ (no CUDA sources, no tests). Ends with 1 if there is
anything to mend.
  --since COMMIT    only what was changed after it, newest first, the working tree included
  --within SECONDS  begins no further file after that long, and says how many were left out
  --build DIR       a build's folder, whose compile commands are used (default build/release)
END
}

reject() {
  usage >&2
  printf 'tidy.sh: %s\n' "$1" >&2
  exit 2
}

since=''
within=''
build=$repository/build/release
files=()
while (($# > 0)); do
  case $1 in
    --since | --within | --build)
      (($# > 1)) || reject "$1 needs a value"
      case $1 in
        --since) since=$2 ;;
        --within) within=$2 ;;
        --build) build=$2 ;;
      esac
      shift
      ;;
    -h | --help) usage && exit 0 ;;
    -*) reject "unknown argument: $1" ;;
    *) files+=("$1") ;;
  esac
  shift
done
[[ -z $within || $within =~ ^[0-9]+$ ]] || reject "--within needs a number of seconds, not $within"
[[ -f $build/compile_commands.json ]] || fail "$build has no compile commands; build first: tools/test.sh"

# The clone may belong to another user than the one who runs this.
run_git() { git -C "$repository" -c safe.directory="$repository" "$@"; }

# list_files: sources with a compile command of their own.
list_files() {
  local -a folders=('pager/*.cpp' 'kernels/*.cpp' 'loaders/*.cpp' 'examples/*.cpp' 'tools/*.cpp')
  if [[ -n $since ]]; then
    {
      run_git diff --name-only --diff-filter=d HEAD -- "${folders[@]}"
      run_git log --name-only --format= "$since..HEAD" -- "${folders[@]}"
    } | awk '!seen[$0]++' | while read -r file; do
      [[ ! -f $repository/$file ]] || printf '%s\n' "$file"
    done
  else
    run_git ls-files -- "${folders[@]}"
  fi
}

# check_file FILE: what clang-tidy says of it, all at once, or nothing.
check_file() {
  local said
  if [[ -n $within ]] && ((SECONDS >= within)); then
    printf '%s\n' "$1" >>"$left_out"
    return 0
  fi
  # GCC's warnings have names that clang does not know. What it counts on stderr is of no interest.
  if ! said=$(cd "$repository" && clang-tidy-14 -p "$build" --quiet --warnings-as-errors='*' \
    --extra-arg=-Wno-unknown-warning-option "$1" 2>"$errors.$BASHPID"); then
    printf '%s\n' "$said"
    [[ -n $said ]] || cat "$errors.$BASHPID" # it could not even begin
    return 1
  fi
}

command -v clang-tidy-14 >/dev/null || install_packages clang-tidy-14
if ((${#files[@]} == 0)); then
  if [[ -n $since ]]; then
    run_git rev-parse --quiet --verify "$since^{commit}" >/dev/null || fail "there is no commit $since"
  fi
  mapfile -t files < <(list_files)
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
left_out=$scratch/left_out
errors=$scratch/errors
: >"$left_out"
status=0
running=0
for file in "${files[@]}"; do
  if ((running == $(nproc))); then
    wait -n || status=1
    running=$((running - 1))
  fi
  check_file "$file" &
  running=$((running + 1))
done
for (( ; running > 0; --running)); do wait -n || status=1; done
count=$(wc -l <"$left_out")
((count == 0)) || announce "clang-tidy: left out after $within s: $count of ${#files[@]} files"
((status == 0)) || fail "clang-tidy has something to mend"
announce "clang-tidy: $((${#files[@]} - count)) files are clean ($SECONDS s)"
