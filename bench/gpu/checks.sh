# The stages that check: tests, compute-sanitizer, whole models.
# shellcheck shell=bash disable=SC2154

indented() {
  tail -n "${1:-20}" | sed 's/^/    /'
}

# Adds 1 to the count of a verdict in $counts.
count_verdict() {
  counts[$verdict]=$((${counts[$verdict]:-0} + 1))
}
counted() {
  local each text=
  for each in PASS FAIL HANG CRASH "NOT RUN"; do
    [ -z "${counts[$each]:-}" ] || text="$text, ${counts[$each]} $each"
  done
  echo "${text#, }"
}

# A test that hangs, or leaves the GPU lost, costs itself only.
stage_tests() {
  local name names bad=() log=$out/.output status=0
  local -A counts=()
  names=$(limited "${MOEPP_TEST_SECONDS:-60}" "$program" test --gpu --list) || {
    echo "$(verdict_of $?): $program names no tests of a GPU"
    return 1
  }
  for name in $names; do
    limited "${MOEPP_TEST_SECONDS:-60}" "$program" test --gpu --exact "$name" >"$log" 2>&1
    count_verdict
    printf '%-7s %6s s  %s\n' "$verdict" "$took" "$name"
    if [ "$verdict" != PASS ]; then
      status=1
      bad+=("$verdict $name")
      [ "$verdict" = "NOT RUN" ] || indented <"$log"
    fi
  done
  rm -f "$log"
  note "$(counted)${bad[*]:+: ${bad[*]:0:5}}"
  return $status
}

# Kernels with tests of small shapes; a step of a whole model is too slow under these tools.
memcheck_parts="simt_warp simt_atomics simt_cp_async simt_ldmatrix simt_mma simt_tma simt_wgmma
  simt_tiled simt_piped simt_count_best cuda_device"
kernel_parts="simt_grouped_gemm simt_linear simt_attention simt_rms_norm simt_combine
  simt_route_top_k simt_norm_route_top_k simt_rope_store simt_top_logits"

# A tool over parts of the tests, for so long in all.
sanitize() { # tool, parts ...
  local tool=$1 part log=$out/.output limit late=
  local until=$((SECONDS + ${MOEPP_SANITIZE_SECONDS:-130}))
  shift
  for part in "$@"; do
    limit=$((until - SECONDS))
    if ((limit > 0)); then
      limited $limit compute-sanitizer --tool "$tool" --error-exitcode 1 \
        "$program" test --gpu "$part" >"$log" 2>&1
    else
      verdict="NOT RUN" took=0.0
    fi
    count_verdict
    printf '%-7s %6s s  %s %s\n' "$verdict" "$took" "$tool" "$part"
    case $verdict in
      PASS) ;;
      HANG | "NOT RUN") late=" $tool" ;;
      *)
        indented 40 <"$log"
        failing="$failing $tool:$part"
        ;;
    esac
  done
  unfinished=$unfinished$late
  rm -f "$log"
}
stage_sanitize() {
  local unfinished='' failing=''
  local -A counts=()
  if ! command -v compute-sanitizer >/dev/null; then
    skip "compute-sanitizer was not found: memcheck, synccheck, racecheck, initcheck did not run"
    return
  fi
  # shellcheck disable=SC2086 # lists of words
  {
    sanitize memcheck $kernel_parts $memcheck_parts
    sanitize synccheck $kernel_parts
    sanitize racecheck $kernel_parts
    # A step may read the device's own memory before it writes it: the workspace is not cleared.
    sanitize initcheck cuda_device
  }
  note "$(counted)${failing:+; errors:$failing}${unfinished:+; out of time:$unfinished}"
  [ -z "$failing" ] && [ -n "${counts[PASS]:-}" ]
}

# generate, golden models, int8 and int4 on the card, through the addon;
# build/Release/moepp.node is built for it.
stage_node() {
  local each
  for each in node npm nvcc; do
    if ! command -v $each >/dev/null; then
      skip "$each was not found: nothing was tested through the addon"
      return
    fi
  done
  if [ ! -d node_modules ]; then
    skip "there is no node_modules (npm ci makes it): nothing was tested through the addon"
    return
  fi
  limited 400 env MOEPP_CUDA=ON MOEPP_WERROR=OFF MOEPP_CUDA_ARCHITECTURES="$architectures" \
    node scripts/setup.mjs
  if [ "$verdict" = PASS ]; then
    limited 400 env MOEPP_TEST_GPU=1 node scripts/run-tests.mjs test/cuda/*.test.ts
  fi
  note "$verdict"
  [ "$verdict" = PASS ]
}

# Ranks with a GPU each: whole models and the ops between ranks, over NCCL. Other stages take one
# card, this one all.
stage_nccl() {
  local count each bad=()
  count=$(smi --query-gpu=index --format=csv,noheader | grep -c '^[0-9]')
  if ((count < 2)); then
    skip "there are not two GPUs: nothing was exchanged between GPUs"
    return
  fi
  for each in node mpirun mpicc; do
    if ! command -v $each >/dev/null; then
      skip "$each was not found: nothing was exchanged between GPUs"
      return
    fi
  done
  if [ ! -f build/Release/moepp.node ]; then
    skip "there is no addon (the stage node makes it): nothing was exchanged between GPUs"
    return
  fi
  across_gpus() { # name, seconds, command ...
    local name=$1
    shift
    limited "$1" env -u CUDA_VISIBLE_DEVICES "${@:2}"
    printf '%-7s %6s s  %s\n' "$verdict" "$took" "$name"
    [ "$verdict" = PASS ] || bad+=("$verdict $name")
  }
  across_gpus test 240 env MOEPP_TEST_GPU=1 node scripts/run-tests.mjs test/cuda/nccl.slow.test.ts
  for each in dispatch_tokens collect_tokens; do
    across_gpus "bench $each" 60 "$program" bench --device=cuda --exact "$each"
  done
  across_gpus "bench of $count ranks" 180 mpirun -n "$count" node dist/cli/main.js bench \
    --model npm:moepp-books-7m --expert-parallel --device cuda
  note "$count GPUs${bad[*]:+: ${bad[*]}}"
  ((${#bad[@]} == 0))
}
