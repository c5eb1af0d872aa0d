#!/usr/bin/env bash
# Tests and measures the CUDA kernels on a machine with an NVIDIA GPU, in stages.
#
#   bench/gpu.sh [options] [stage ...]      without stages: all of them, in this order
#
#   build           moepp-native for the card; needs nvcc, CMake and a C++17 compiler
#   probe           opens the device; card, driver, clocks, memory and what slows it down
#   tests           every test in a process of its own: PASS, FAIL, HANG or CRASH
#   first           six rows of the benches, with each part of the CUDA device switched off in turn
#   counters        Nsight Compute (ncu) on four kernels
#   sanitize        compute-sanitizer's four tools
#   node            whole models through the addon, from TypeScript
#   nccl            ranks with a GPU each, over NCCL; needs two GPUs or more, and an MPI
#   bench           every bench in a process of its own, and the clocks meanwhile
#   expert-forward  the paper's headline
#   table           the targets against what the stages above measured; needs no GPU
#
#   --program FILE           a moepp-native built elsewhere: neither nvcc nor CMake is needed
#   --architectures LIST     of `build`, where the card is not at hand: "90a-real;89-real;120-real"
#
# A stage writes <stage>.txt while it runs, and a line to summary.txt. They lie in $OUT if that is
# set, else in build/gpu-<card>/. Every stage but `build` ends after MOEPP_STAGE_SECONDS (540) at
# the latest. `table` alone writes nothing: it reads $OUT, or the newest build/gpu-<card>/.
#
# Exit status:
#
#   0    all is right
#   1    something failed, or all stages that were named were skipped
#   2    there is no GPU that can be used, nothing was tested
#   64   wrong use
#   143  a signal ended this script, and all that it had started ended with it
# shellcheck disable=SC2317 # stages are called by their names
set -uo pipefail
caller=$PWD
cd "$(dirname "$0")/.." || exit 1
. bench/gpu/limits.sh
. bench/gpu/card.sh
. bench/gpu/build.sh
. bench/gpu/checks.sh
. bench/gpu/measure.sh
. bench/gpu/table.sh

all_stages="build probe tests first counters sanitize node nccl bench expert-forward table"

wrong_use() {
  echo "bench/gpu.sh: $1" >&2
  exit 64
}
# A path that the caller gave, from wherever that was.
from_caller() {
  case "$1" in
    /* | "") echo "$1" ;;
    *) echo "$caller/$1" ;;
  esac
}

program=
given_out=$(from_caller "${OUT-}")
architectures=
stages=()
while (($#)); do
  case "$1" in
    --program | --architectures)
      [ -n "${2-}" ] || wrong_use "$1 needs a value"
      if [ "$1" = --program ]; then program=$(from_caller "$2"); else architectures=$2; fi
      shift
      ;;
    --help | -h)
      sed -n '2,/^set/{/^# shellcheck/d;s/^# \{0,1\}//p}' bench/gpu.sh
      exit 0
      ;;
    -*) wrong_use "there is no option $1 (--help lists them)" ;;
    *)
      [[ " $all_stages " == *" $1 "* ]] || wrong_use "there is no stage $1: $all_stages"
      stages+=("$1")
      ;;
  esac
  shift
done
named=${#stages[@]}
((named)) || read -ra stages <<<"$all_stages"
asked_for() {
  [[ " ${stages[*]} " == *" $1 "* ]]
}

failed=()
skipped=()

# Runs a stage with its output in a file. It says in $note what it came to, in a few words; status
# 77: it was skipped.
run_stage() {
  local stage=$1 started=$SECONDS status line
  printf '\n== %s\n' "$stage"
  : >"$out/.note"
  start_stage
  "stage_${stage//-/_}" </dev/null 2>&1 | tee "$out/$stage.txt"
  status=${PIPESTATUS[0]}
  line="$stage: $(outcome "$status"), $((SECONDS - started)) s$(sed 's/^/; /' "$out/.note")"
  rm -f "$out/.note"
  printf -- '-- %s\n' "$line"
  echo "$line" >>"$out/summary.txt"
  case $status in
    0) ;;
    77) skipped+=("$line") ;;
    *) failed+=("$line") ;;
  esac
  return "$status"
}
outcome() {
  case $1 in
    0) echo right ;;
    77) echo SKIPPED ;;
    *) echo FAILED ;;
  esac
}
# A few words on the stage, for the summary.
note() {
  echo "$*" >"$out/.note"
}
skip() {
  echo "SKIPPED: $*"
  note "$*"
  return 77
}

# Ends all where the program finds no GPU that it can use.
open_device() {
  local said status
  start_stage
  said=$(limited "${MOEPP_TEST_SECONDS:-60}" "$program" device 2>&1)
  status=$?
  [ $status = 2 ] && nothing_tested "${said#moepp-native: nothing was tested: }"
  if [ $status != 0 ]; then
    failed+=("device: FAILED, $(verdict_of $status): $said")
    finish
  fi
}

finish() {
  printf '\n== summary, in %s\n' "$out/summary.txt"
  ((${#skipped[@]})) && printf '%s\n' "${skipped[@]}"
  if ((${#failed[@]})); then
    printf '%s\n' "${failed[@]}"
    echo "SOMETHING FAILED"
    exit 1
  fi
  # A build that no one named is never skipped.
  if ((named && ${#skipped[@]} == named)); then
    echo "NOTHING WAS RUN"
    exit 1
  fi
  echo "all is right"
  exit 0
}

run_stages() {
  local stage opened='' status
  if [ "${stages[*]}" = table ]; then
    note() { :; }
    table_folder
    stage_table
    exit
  fi
  # A build for other machines needs no GPU.
  if [ "${stages[*]}" = build ] && [ -n "$architectures" ]; then card=none; else find_card; fi
  results_folder
  ((named)) || : >"$out/summary.txt"
  program_of_build
  if ! asked_for build && [ ! -x "$program" ]; then stages=(build "${stages[@]}"); fi
  for stage in "${stages[@]}"; do
    if [ -z "$opened" ] && [ "$stage" != build ] && [ "$stage" != table ]; then
      open_device
      opened=1
    fi
    run_stage "$stage"
    status=$?
    # Nothing can run without a program.
    if [ "$stage" = build ] && [ $status != 0 ] && [ $status != 77 ]; then finish; fi
  done
  finish
}

# In the background, because a shell hears no signal while it waits for a program.
run_stages &
running=$!
trap 'end_all $running' INT TERM HUP
wait $running
