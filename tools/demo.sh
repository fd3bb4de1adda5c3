#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what the build needs (apt, only what is missing), builds qwen_prefill, and lets a small trained model continue
# a prompt while only a quarter of its weights fits in the arena.
set -euo pipefail
repository=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
source "$repository/tools/build_setup.sh"

if (($# > 0)); then
  printf 'usage: tools/demo.sh (no arguments)\n' >&2
  [[ $1 == -h || $1 == --help ]] && exit 0
  exit 2
fi

model=tests/data/models/tiny-qwen2-q4_k_m.gguf
[[ -f $repository/$model ]] || fail "the demo's model $model is not in this working tree; clone the repository again"

install_packages "${build_packages[@]}"
configure release
build release qwen_prefill

announce "qwen_prefill: $model, a quarter of its weights in the arena"
cd "$repository"
exec build/release/bin/qwen_prefill --device host -m "$model" -p "And the LORD said unto Moses," -n 48 --arena 25%
