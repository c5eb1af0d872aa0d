#!/usr/bin/env bash
# All that a machine with an NVIDIA GPU can say of the CUDA kernels, in one report: builds moepp-native for the card (needs nvcc,
# CMake, a C++17 compiler; no Node), runs the GPU tests, compute-sanitizer on them where it is installed, then the benches.
#
#   bench/gpu.sh [--tests] [report]     --tests: build and test, no report
#
# The report is build/gpu-<card>.txt unless named. Exit status: 0 all is right; 1 something failed; 2 there is no GPU or no nvcc.
set -uo pipefail
cd "$(dirname "$0")/.."

tests_only=
report=
for argument in "$@"; do
  case "$argument" in
    --tests) tests_only=1 ;;
    -*) echo "bench/gpu.sh: there is no option $argument" >&2; exit 2 ;;
    *) report=$argument ;;
  esac
done

missing() {
  echo "bench/gpu.sh: nothing was tested: $1" >&2
  exit 2
}
command -v nvidia-smi >/dev/null || missing "no NVIDIA driver (nvidia-smi was not found)"
card=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .)
[ -n "$card" ] && [ -n "$capability" ] || missing "the driver finds no GPU"
PATH=$PATH:/usr/local/cuda/bin
command -v nvcc >/dev/null || missing "nvcc was not found; the CUDA toolkit is needed to build the kernels"
command -v cmake >/dev/null || missing "CMake was not found"

# wgmma and setmaxnreg are in sm_90a alone.
architecture=$capability-real
[ "$capability" = 90 ] && architecture=90a-real
build=build/gpu-sm_$capability
program=$build/moepp-native
cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DMOEPP_ADDON=OFF -DMOEPP_NATIVE=ON -DMOEPP_SIMT=OFF -DMOEPP_CUDA=ON \
  -DMOEPP_CUDA_ARCHITECTURES="$architecture" >/dev/null || exit 1
cmake --build "$build" --target moepp-native --parallel || exit 1

status=0
if [ -n "$tests_only" ]; then
  "$program" test --gpu
  exit
fi

section() { # title, command ...: its output under the title; a failure is noted and the rest goes on
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
    printf '\n== compute-sanitizer was not found: memcheck and racecheck were not run\n'
    return
  fi
  # The tests that move the most memory through shared memory; the emulation's sanitizers see all of them in CI.
  section memcheck compute-sanitizer --tool memcheck --error-exitcode 1 "$program" test --gpu
  for name in grouped_gemm attention rms_norm combine route_top_k top_logits; do
    section "racecheck $name" compute-sanitizer --tool racecheck --error-exitcode 1 "$program" test --gpu "simt_$name"
  done
}

measure() {
  echo "moepp on $card"
  date -u +%Y-%m-%d
  git log -1 --format='commit %h' 2>/dev/null
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv
  nvcc --version | tail -n 2
  section tests "$program" test --gpu
  sanitized
  section "checks of the benches" "$program" bench --device=cuda --check
  section benches "$program" bench --device=cuda
  for tokens in 1,8,64,512 2048,8192; do
    section "expert forward, 7B, $tokens tokens" "$program" bench expert-forward --device=cuda --hidden=1536 --ffn=4096 \
      --ffn-experts=16 --constants=2 --tokens="$tokens"
  done
  if command -v node >/dev/null && [ -d node_modules ]; then
    section "expert forward, the paper's models" env MOEPP_NATIVE_PROGRAM="$program" node bench/expert-forward.mjs --device=cuda \
      --tokens=8192 --curve=1,16,64,512,2048,8192
  fi
  if ((status)); then echo "SOMETHING FAILED: search for FAILED and WRONG"; else echo "all is right"; fi
  return $status
}

report=${report:-build/gpu-$(echo "$card" | tr -cs 'A-Za-z0-9\n' - | sed 's/-*$//').txt}
measure | tee "$report"
status=${PIPESTATUS[0]}
echo "the report is in $report"
exit "$status"
