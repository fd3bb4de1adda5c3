#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every source names its licence in its first line, or in the second after "#!". `--add` adds what is missing.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
line='SPDX-License-Identifier: Apache-2.0'

# comment FILE: the line as the file's language has it.
comment() {
  case $1 in
    *.cpp | *.hpp | *.cu | *.cuh | *.js) echo "// $line" ;;
    *.css) echo "/* $line */" ;;
    *) echo "# $line" ;;
  esac
}

missing=0
while IFS= read -r -d '' file; do
  head -n 2 -- "$file" | grep -qF "$line" && continue
  if [[ ${1:-} == --add ]]; then
    after=0
    [[ $(head -c 2 -- "$file") == '#!' ]] && after=1
    { head -n "$after" -- "$file" && comment "$file" && tail -n +"$((after + 1))" -- "$file"; } >"$file.new"
    cat -- "$file.new" >"$file"
    rm -- "$file.new"
  else
    echo "$file does not name its licence; run: tools/licence_lines.sh --add" >&2
    missing=1
  fi
done < <(git -c safe.directory="$PWD" ls-files -z -- '*.cpp' '*.hpp' '*.cu' '*.cuh' '*.js' '*.css' '*.sh' '*.py' '*.cmake' \
  'CMakeLists.txt' '*/CMakeLists.txt' .ci/run)
exit "$missing"
