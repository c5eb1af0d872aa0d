#!/usr/bin/env bash
# Tests and measures the CUDA kernels on a machine with an NVIDIA GPU, in one report. It builds
# moepp-native for the card (needs nvcc, CMake, a C++17 compiler) and runs the GPU tests. It runs
# compute-sanitizer on them where that is installed, then the benches, and ends with the table of
# targets. With Node, the addon is built for the card too, and whole models are tested from
# TypeScript.
#
#   bench/gpu.sh [--tests] [report]     --tests: build and test, no report
#   bench/gpu.sh --table report         the table of targets, from a report
#
# The report is build/gpu-<card>.txt unless named. Exit status: 0 all is right; 1 something failed;
# 2 there is no GPU or no nvcc.
set -uo pipefail
cd "$(dirname "$0")/.."

tests_only=
table_only=
report=
for argument in "$@"; do
  case "$argument" in
    --tests) tests_only=1 ;;
    --table) table_only=1 ;;
    -*) echo "bench/gpu.sh: there is no option $argument" >&2; exit 2 ;;
    *) report=$argument ;;
  esac
done

# A row of the benches in the report: its time, rate, ceiling and share; or its rate alone, where a
# row is of several steps.
row() { # beginning of its name, dtype, tokens
  local n='([0-9.]+)'
  grep -E "^$1[^|]* +$2 +$3 +[0-9.]+ us" "$report" | head -n 1 |
    sed -E "s/^.* $n us +$n of +$n ([A-Z]+\/s) +$n %   best .*/\1 us, \2 of \3 \4 (\5 %)/"
}
rate() {
  row "$@" | sed 's/^[^,]*, //'
}
gain() { # tau: of 8192 tokens
  grep -E "^\{.*\"tokens\":8192,\"tau\":$1," "$report" | head -n 1 |
    sed -E 's/.*"moeppSeconds":([0-9.]+),"vanillaSeconds":([0-9.]+).*/\1 \2/' |
    awk '{ printf "%.2f x vanilla", $2 / $1 }'
}
line() { # what, target, measured
  printf '| %s | %s | %s |\n' "$1" "$2" "${3:-not measured}"
}
table() {
  printf '\n| | target on an H100 | measured, of the ceiling of the same run |\n|---|---|---|\n'
  for tokens in 8192 16384; do
    line "grouped GEMM, gather + SwiGLU fused, $tokens tokens" ">= 500 TFLOP/s; then 600" \
      "$(rate 'grouped_gemm 1536 -> 2 x 4096, swiglu' bf16 $tokens)"
  done
  line "MoE layer, 2048 tokens" "<= 250 us" "$(row 'moe_layer 1536' bf16 2048)"
  for each in "1 2.5" "8 2.5" "2048 6" "8192 20"; do
    line "router + zero-computation experts, T = ${each% *}" "<= ${each#* } us" \
      "$(row 'norm_route_top_k 1536' f32 "${each% *}")"
  done
  for each in "1 1.10 ms; then 0.93" "8 3.8" "64 8.0"; do
    line "decode, batch ${each%% *}, context 512, bf16" "<= ${each#* } ms" \
      "$(row 'decode, context 512, 24 layers' bf16 "${each%% *}")"
  done
  line "expert forward, 8192 tokens, tau 0.75" "1.29 x vanilla" "$(gain 0.75)"
  line "expert forward, 8192 tokens, tau 0.1" "2.8 x vanilla" "$(gain 0.1)"
}
if [ -n "$table_only" ]; then
  if [ ! -r "$report" ]; then
    echo "bench/gpu.sh: --table needs a report, '$report' cannot be read" >&2
    exit 2
  fi
  table
  exit
fi

missing() {
  echo "bench/gpu.sh: nothing was tested: $1" >&2
  exit 2
}
command -v nvidia-smi >/dev/null || missing "no NVIDIA driver (nvidia-smi was not found)"
# The order of nvidia-smi, so that it and CUDA speak of the same card.
export CUDA_DEVICE_ORDER=PCI_BUS_ID
first=${CUDA_VISIBLE_DEVICES:-0}
query() {
  nvidia-smi --id="${first%%,*}" --query-gpu="$1" --format="${2:-csv,noheader}"
}
card=$(query name 2>/dev/null) && capability=$(query compute_cap 2>/dev/null | tr -d .) ||
  missing "the driver finds no GPU"
[ -n "$card" ] && [ -n "$capability" ] || missing "the driver finds no GPU"
PATH=$PATH:/usr/local/cuda/bin
command -v nvcc >/dev/null ||
  missing "nvcc was not found; the CUDA toolkit is needed to build the kernels"
command -v cmake >/dev/null || missing "CMake was not found"

# wgmma and setmaxnreg are in sm_90a alone.
architecture=$capability-real
[ "$capability" = 90 ] && architecture=90a-real
build=build/gpu-sm_$capability
program=$build/moepp-native
cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DMOEPP_ADDON=OFF -DMOEPP_NATIVE=ON \
  -DMOEPP_SIMT=OFF -DMOEPP_CUDA=ON -DMOEPP_CUDA_ARCHITECTURES="$architecture" >/dev/null || exit 1
cmake --build "$build" --target moepp-native --parallel || exit 1

# generate, golden models and layers, int8 and int4 on the card, through the addon;
# build/Release/moepp.node is built for it.
typescript_tests() {
  MOEPP_CUDA=ON MOEPP_CUDA_ARCHITECTURES=$architecture node scripts/setup.mjs &&
    MOEPP_TEST_GPU=1 node scripts/run-tests.mjs test/cuda/*.test.ts
}
no_node="Node and npm were not found: the native tests alone were run, none through the addon"
has_node() {
  command -v node >/dev/null && command -v npm >/dev/null
}

status=0
if [ -n "$tests_only" ]; then
  "$program" test --gpu
  status=$?
  [ $status = 2 ] && exit 2  # CUDA finds no GPU that it can use
  if has_node; then
    typescript_tests || status=1
  else
    echo "bench/gpu.sh: $no_node"
  fi
  exit $status
fi

# title, command ...: its output under the title; a failure is noted and the rest goes on
section() {
  local title=$1
  shift
  printf '\n== %s\n$ %s\n' "$title" "$*"
  if ! "$@" 2>&1; then
    echo "FAILED: $title"
    status=1
  fi
}

sanitized() {
  if ! command -v compute-sanitizer >/dev/null; then
    printf '\n== compute-sanitizer was not found: %s were not run\n' \
      'memcheck, racecheck, synccheck and initcheck'
    return
  fi
  section memcheck compute-sanitizer --tool memcheck --error-exitcode 1 "$program" test --gpu
  # The kernels that share memory between threads; the emulation's sanitizers see all of them in CI.
  for name in grouped_gemm linear attention rms_norm combine route_top_k norm_route_top_k \
    rope_store top_logits; do
    for tool in racecheck synccheck; do
      section "$tool $name" compute-sanitizer --tool $tool --error-exitcode 1 \
        "$program" test --gpu "simt_$name"
    done
  done
  # A step may read the device's own memory before it writes it: the workspace is never cleared.
  section initcheck compute-sanitizer --tool initcheck --error-exitcode 1 \
    "$program" test --gpu cuda_device
}

measure() {
  echo "moepp on $card"
  date -u +%Y-%m-%d
  git log -1 --format='commit %h' 2>/dev/null
  query name,driver_version,memory.total,clocks.max.sm,power.limit csv
  nvcc --version | tail -n 2
  section tests "$program" test --gpu
  if has_node; then
    section "tests through the addon" typescript_tests
  else
    printf '\n== %s\n' "$no_node"
  fi
  sanitized
  section "checks of the benches" "$program" bench --device=cuda --check
  section benches "$program" bench --device=cuda
  for tokens in 1,8,64,512 2048,8192; do
    section "expert forward, 7B, $tokens tokens" "$program" bench expert-forward \
      --device=cuda --hidden=1536 --ffn=4096 --ffn-experts=16 --constants=2 --tokens="$tokens"
  done
  if command -v node >/dev/null && [ -d node_modules ]; then
    section "expert forward, the paper's models" env MOEPP_NATIVE_PROGRAM="$program" \
      node bench/expert-forward.mjs --device=cuda --tokens=8192 --curve=1,16,64,512,2048,8192
  fi
  if ((status)); then
    echo "SOMETHING FAILED: search for FAILED and WRONG"
  else
    echo "all is right"
  fi
  return $status
}

report=${report:-build/gpu-$(echo "$card" | tr -cs 'A-Za-z0-9\n' - | sed 's/-*$//').txt}
measure | tee "$report"
status=${PIPESTATUS[0]}
targets=$(table)
echo "$targets" | tee -a "$report"
echo "the report is in $report"
exit "$status"
