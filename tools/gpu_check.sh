#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# On a machine with a GPU: builds if need be, runs all GPU tests under a time limit, measures, and prints one table.
set -euo pipefail
repository=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
source "$repository/tools/build_setup.sh"

usage() {
  cat <<'END'
usage: tools/gpu_check.sh [--bin DIR] [--work DIR] [--only PART,...] [--sanitize]
  --bin DIR    take the programs and tests from DIR (tools/gpu_bundle.sh) instead of building them
  --work DIR   where models of up to 35 GiB are written, one at a time (default /dev/shm)
  --only ...   of tests, sanitizers, perplexity, link, prefill, bench
  --sanitize   run the tests under compute-sanitizer as well (minutes)
Exit status: 0 if every check passed, 1 otherwise.
END
}

bin='' work=/dev/shm parts=tests,perplexity,link,prefill,bench
while (($# > 0)); do
  case $1 in
    --bin) bin=$2 && shift 2 ;;
    --work) work=$2 && shift 2 ;;
    --only) parts=$2 && shift 2 ;;
    --sanitize) parts+=,sanitizers && shift ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done

command -v nvidia-smi >/dev/null || fail "there is no nvidia-smi, so no GPU"
if [[ -z $bin ]]; then
  install_packages "${build_packages[@]}"
  configure release
  build release
  bin=$work/gpu_check_bin
  mkdir -p "$bin"
  find "$repository/build/release" -path '*/consumer' -prune -o \
    -type f -perm -u+x \( -path '*/bin/*' -o -name '*_test' -o -name '*_tests' \) -exec ln -sf {} "$bin/" \;
fi

# What tools/gpu_bundle.sh collected; the tests' data is in this working tree, wherever they were built.
export LD_LIBRARY_PATH=$bin/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export TENSOR_PAGER_TEST_DATA=$repository/tests/data

failures=0
rows=()
# row NAME RESULT PASSED: one line of the table; PASSED is yes, no, or - for a measurement without a bound.
row() {
  rows+=("| $1 | $2 | $3 |")
  [[ $3 != no ]] || failures=$((failures + 1))
  printf '   %s: %s\n' "$1" "$2"
}

# gtest NAME PROGRAM ARGUMENTS...: a GoogleTest program, at most five minutes.
gtest() {
  local name=$1 log=$work/gpu_check.log passed=yes
  shift
  timeout 300 "$@" >"$log" 2>&1 || passed=no
  grep -qE '^\[       OK' "$log" || passed=no  # all skipped
  row "$name" "$(grep -cE '^\[       OK' "$log") passed, $(grep -cE '^\[  FAILED  \].*ms\)' "$log") failed" $passed
  [[ $passed == yes ]] || grep -B5 -E '^\[  FAILED|SUMMARY|=== (Error|Warning|Invalid)' "$log" | head -n 60 || true
}

tests() {
  announce "tests"
  gtest "device, stores (contract suites)" "$bin/device_tests" --gtest_filter='*Cuda*:*Pinned*'
  gtest "each call of the device fails once" "$bin/fault_walk_tests" --gtest_filter='*Cuda*'
  gtest "pager with kernels that check their pages" "$bin/cuda_pager_tests"
  gtest "boundary: device, capture, fork, arena" "$bin/cuda_boundary_tests"
  gtest "kernels" "$bin/cuda_kernels_test"
  gtest "logits, bit-identity, host waits" "$bin/cuda_inference_test"
}

# Our kernels at the smallest shapes that reach every path. Products are left out of racecheck: it does not understand the
# barriers that cuBLASLt's kernels wait at, and reports them.
races='*HonoursStrides*:*LargeScores*:*CacheOfFloats*:*OneToken*:CudaDequantize.*:CudaNorm.*:CudaRope.*:CudaActivation.*'
races+=':CudaKvCache.*-CudaMatmul.*'
sanitizers() {
  announce "compute-sanitizer"
  local checker=(compute-sanitizer --error-exitcode 9 --report-api-errors no)
  gtest "memcheck: device, stores" "${checker[@]}" "$bin/device_tests" --gtest_filter='*Cuda*:*Pinned*'
  gtest "memcheck: pager" "${checker[@]}" "$bin/cuda_pager_tests"
  gtest "memcheck: kernels" "${checker[@]}" "$bin/cuda_kernels_test" --gtest_filter='-*TwentyRuns*'
  gtest "racecheck: kernels" "${checker[@]}" --tool racecheck "$bin/cuda_kernels_test" --gtest_filter="$races"
}

# within VALUE EXPECTED TOLERANCE
within() { awk -v v="$1" -v e="$2" -v t="$3" 'BEGIN { print (v >= e - t && v <= e + t) ? "yes" : "no" }'; }
at_least() { awk -v v="$1" -v e="$2" 'BEGIN { print (v >= e) ? "yes" : "no" }'; }

# perplexity MODEL EXPECTED TOLERANCE
perplexity() {
  local models=$repository/tests/data/models value
  value=$(timeout 120 "$bin/qwen_prefill" --device cuda -q -m "$models/$1.gguf" -f "$models/heldout.txt" --perplexity \
    -c 512 | awk '/Final estimate/ { print $5 }')
  row "perplexity of $1" "$value (expected $2)" "$(within "$value" "$2" "$3")"
}

# json FILE PATH...: one number of a statistics file.
json() { python3 -c 'import functools, json, sys; print(functools.reduce(lambda o, k: o[k], sys.argv[2:], json.load(open(sys.argv[1]))))' "$@"; }

link() {
  announce "link"
  local out=$work/gpu_check_link.txt
  timeout 200 "$bin/pager_link" "$1" | tee "$out"
  while IFS='|' read -r _ _ arena _ copied optimal rate share _ gaps _; do
    arena=${arena//[ ]/} copied=${copied// /} optimal=${optimal// /} rate=${rate// /} share=${share//[ %]/} gaps=${gaps//[ %]/}
    row "link, arena $arena" "$rate GB/s, $share% of the best copy; copied $copied GB, optimal $optimal" \
      "$(at_least "$share" 95)"
    row "gaps between copies, arena $arena" "$gaps%" "$(at_least 2 "$gaps")"
  done < <(grep -E '^\| [0-9]+ \| [0-9]+%' "$out")
}

# driver_peak COMMAND...: runs it, and sets `driver_mib` to what the driver says that it added to the memory in use.
driver_peak() {
  local samples=$work/gpu_check_memory.txt sampler before
  before=$(nvidia-smi -i 0 --query-gpu=memory.used --format=csv,noheader,nounits)
  nvidia-smi -i 0 --query-gpu=memory.used --format=csv,noheader,nounits -lms 20 >"$samples" &
  sampler=$!
  "$@"
  kill "$sampler"
  wait "$sampler" 2>/dev/null || true
  driver_mib=$(($(sort -n "$samples" | tail -n 1) - before))
}

# run_prefill MODEL TOKENS VRAM: leaves its statistics in $stats.
stats=$work/gpu_check_stats.json
run_prefill() {
  local tokens=$work/gpu_check_tokens.txt
  seq "$2" | awk '{ print ($1 * 7919) % 150000 }' >"$tokens"
  timeout 200 "$bin/qwen_prefill" --device cuda -q -m "$1" --tokens "$tokens" -n 2 --vram "$3" --stats "$stats" >/dev/null
}

# context MODEL: what a run takes beside what it counts itself: the CUDA context with the code of the kernels. It must not
# depend on the budget, so it is measured with another one.
context() {
  driver_peak run_prefill "$1" 2048 3GiB
  context_mib=$((driver_mib - $(json "$stats" memory peak_bytes) / 1048576))
  row "CUDA context and kernels" "$context_mib MiB" -
}

# prefill MODEL TOKENS VRAM
prefill() {
  local start peak budget driver
  driver_peak run_prefill "$1" "$2" "$3"
  start=$(json "$stats" time first_step_s) peak=$(json "$stats" memory peak_bytes) budget=$(json "$stats" memory budget_bytes)
  driver=$(((driver_mib - context_mib) * 1048576))
  row "pp$2, --vram $3" "$(json "$stats" rates prefill_tokens_per_s | cut -c1-7) tokens/s; link $(json "$stats" \
    rates link_gb_per_s | cut -c1-5) GB/s; stalled $(json "$stats" time stall_s | cut -c1-5) s" -
  row "peak memory of pp$2, --vram $3" "$peak of $budget bytes" "$(at_least "$budget" "$peak")"
  row "the same by the driver, less the context" "$driver of $budget bytes" "$(at_least "$budget" "$driver")"
  row "exec to first step of pp$2, --vram $3" "$start s" "$(at_least 2.5 "$start")"
}

# Every row of pager_bench about the model of 32B shapes, for pager_sim to be held against.
bench_rows=$work/gpu_check_rows.jsonl

# predictions MODEL: what pager_sim says of the rows, with rates fitted to those with everything resident.
predictions() {
  local out=$work/gpu_check_predictions.txt passed=yes
  "$bin/pager_sim" -m "$1" --against "$bench_rows" --tolerance 10 >"$out" || passed=no
  cat "$out"
  row "pager_sim against $(grep -c '^| pp' "$out") measured prefills" "$(awk -F'|' '/^\| pp/ {
    error = $8 < 0 ? -$8 : +$8; if (error > worst) worst = error
    if ($11 !~ /equal/) differ++ }
    END { printf "off by %.1f%% at most, bytes differ in %d", worst, differ }' "$out")" $passed
}

# bench NAME LEAST_RATE LEAST_SHARE MODEL ARGUMENTS...: tokens/s, and percent of the bound; 0 asks for nothing.
bench() {
  local name=$1 least=$2 least_share=$3 out=$work/gpu_check_bench.json rate share passed doubt
  shift 3
  timeout 300 "$bin/pager_bench" -q -r 5 -o jsonl -m "$@" >"$out"
  cat "$out" >>"$bench_rows"
  doubt=$(json "$out" doubt)
  rate=$(json "$out" median_ts) share=$(json "$out" bound_fraction | awk '{ print 100 * $1 }')
  passed=$(at_least "$rate" "$least")
  [[ $(at_least "$share" "$least_share") == yes ]] || passed=no
  row "$name" "$(printf '%.0f ± %.0f tokens/s, %.1f%% of the bound (link %.3f s, arithmetic %.3f s at %.0f TFLOP/s); %.2f GB copied' \
    "$rate" "$(json "$out" stddev_ts)" "$share" "$(json "$out" bound_link_s)" "$(json "$out" bound_compute_s)" \
    "$(json "$out" calibrated_tflops)" "$(json "$out" copied_bytes | awk '{ print $1 / 1e9 }')")${doubt:+; not to be trusted: $doubt}" \
    "$passed"
}

# sweep NAME MODEL ARGUMENTS...: more memory must never be slower by more than 2%.
sweep() {
  local name=$1 out=$work/gpu_check_sweep.json result
  timeout 300 "$bin/pager_bench" -q -r 5 -o jsonl -m "${@:2}" >"$out"
  cat "$out" >>"$bench_rows"
  local passed=yes
  result=$(python3 -c '
import json, sys
rates = [json.loads(line)["median_ts"] for line in open(sys.argv[1])]
fall = max(1 - rate / max(rates[: i + 1]) for i, rate in enumerate(rates))
print(" ".join(f"{rate:.0f}" for rate in rates), f"tokens/s, falls by {100 * fall:.1f}% at most")
sys.exit(fall > 0.02)' "$out") || passed=no
  row "$name" "$result" $passed
}

benches() {
  : >"$bench_rows"
  bench "pp2048, --vram 8GiB, cold" 4800 90 "$model" -p 2048 --vram 8GiB
  bench "pp8192, --vram 8GiB, cold" 8000 0 "$model" -p 8192 --vram 8GiB
  bench "pp32768, --vram 24GiB, cold" 5500 0 "$model" -p 32768 --vram 24GiB
  bench "pp2048, all resident" 8500 0 "$model" -p 2048 --warm
  bench "pp8192, all resident" 8500 0 "$model" -p 8192 --warm
  bench "pp512, --vram 8GiB, cold" 0 90 "$model" -p 512 --vram 8GiB
  local arenas=1GiB,2GiB,4GiB,8GiB,12GiB,16GiB,20GiB
  sweep "pp2048, arenas $arenas, cold" "$model" -p 2048 --arena $arenas
  sweep "pp2048, arenas $arenas, warm" "$model" -p 2048 --arena $arenas --warm
  bench "pp2048, link of 12 GB/s" 0 95 "$model" -p 2048 --vram 8GiB --link-rate 12
  bench "pp2048, link of 25 GB/s" 0 95 "$model" -p 2048 --vram 8GiB --link-rate 25
  predictions "$model"
  rm -f "$model"
  local other
  for other in "q5_k_m 32b" "q8_0 32b" "q4_k_m 7b"; do
    read -r type preset <<<"$other"
    model=$work/gpu_check_other.gguf
    "$bin/make_gguf" qwen2 "$type" "$model" --preset "$preset" >/dev/null
    bench "pp4096 of $preset $type, --vram 8GiB, cold" 0 85 "$model" -p 4096 --vram 8GiB
    [[ $preset != 7b ]] || bench "pp4096 of $preset $type, all resident" 0 85 "$model" -p 4096 --vram 8GiB --warm
    rm -f "$model"
  done
}

wanted() { [[ ,$parts, == *,$1,* ]]; }

! wanted tests || tests
! wanted sanitizers || sanitizers
if wanted perplexity; then
  announce "perplexity"
  perplexity tiny-qwen2-f16 20.648 0.02
  perplexity tiny-qwen2-q4_k_m 20.818 0.1
  perplexity tiny-qwen3-q8_0 21.674 0.05
fi
if wanted link || wanted prefill || wanted bench; then
  announce "a model of 32B shapes"
  model=$work/gpu_check_32b.gguf
  [[ -f $model ]] || "$bin/make_gguf" qwen2 q4_k_m "$model" --preset 32b
fi
! wanted link || link "$model"
if wanted prefill; then
  announce "prefill"
  context "$model"
  for tokens in 2048 8192; do
    for vram in 4GiB 8GiB 16GiB; do prefill "$model" "$tokens" "$vram"; done
  done
fi
if wanted bench; then
  announce "pager_bench"
  benches
fi

announce "$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -n 1)"
printf '\n| check | result | passed |\n|---|---|---|\n'
printf '%s\n' "${rows[@]}"
printf '\n%d checks failed\n' "$failures"
((failures == 0))
