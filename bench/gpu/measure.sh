# The stages that measure: benches, their parts switched off, counters.
# shellcheck shell=bash disable=SC2154,SC2034

# name | bench | its arguments
first_rows="grouped_gemm, 8192 tokens|grouped_gemm_bf16|--tokens=8192 --row=swiglu
linear, 2048 tokens|linear_bf16|--tokens=2048
norm_route_top_k, 1 token|norm_route_top_k|--tokens=1
decode, batch 1, 8 layers|decode|--tokens=1 --layers=8
attention, prefill of 2048|attention_bf16|--tokens=2048
attention, decode after 4096|attention_bf16|--tokens=1 --row=decode, context 4096"
switches="no-pdl no-graph no-prefetch no-wgmma no-bf16 no-fuse no-split"

# The time of a row of a bench in us, or why there is none. Its output goes to first-rows.txt.
time_of() { # bench, arguments, words for MOEPP_CUDA_DEBUG
  local log=$out/.row arguments=() time
  # Only --row has spaces in it, and it is the last.
  [[ "$2" == *--row=* ]] && arguments=("--row=${2#*--row=}")
  # shellcheck disable=SC2086 # a list of words
  limited "${MOEPP_ROW_SECONDS:-60}" env -u MOEPP_CUDA_DEBUG ${3:+MOEPP_CUDA_DEBUG="$3"} \
    "$program" bench --device=cuda --exact "$1" --seconds=0.2 ${2%%--row=*} "${arguments[@]}" \
    >"$log" 2>&1
  printf '\n$ %s: %s, %s\n' "${3:-nothing is off}" "$1 $2" "$verdict" >>"$out/first-rows.txt"
  cat "$log" >>"$out/first-rows.txt"
  time=$(sed -n -E 's/^.* ([0-9.]+) us .*   best .*/\1/p' "$log" | head -n 1)
  [ "$verdict" = PASS ] || time=$verdict
  grep -q '  does not fit: ' "$log" && time='too large'
  echo "${time:-no row}"
  rm -f "$log"
  [ "$verdict" = PASS ]
}

# A row's time as it is, then its factor with each part of the device switched off.
stage_first() {
  local name bench arguments base time word words=$switches status=0
  : >"$out/first-rows.txt"
  ((capability >= 90)) && words="$words persistent"
  # shellcheck disable=SC2086 # a list of words
  printf '%-30s %10s' '' 'us' && printf ' %12s' $words && echo
  while IFS='|' read -r name bench arguments; do
    base=$(time_of "$bench" "$arguments" '') || status=1
    printf '%-30s %10s' "$name" "$base"
    for word in $words; do
      time=$(time_of "$bench" "$arguments" "$word") || status=1
      factor "$time" "$base"
    done
    echo
  done <<<"$first_rows"
  echo "A factor above 1 is a gain of the part that is off there. The rows: first-rows.txt."
  echo "persistent is switched on there, and gains by a factor below 1."
  note "$(grep -c '^\$' "$out/first-rows.txt") rows"
  return $status
}
factor() { # time, base
  awk -v time="$1" -v base="$2" 'BEGIN {
    if (time + 0 > 0 && base + 0 > 0) printf " %10.3f x", time / base
    else printf " %12s", time }'
}

# kernel | bench | its arguments
counted_kernels="multiply_wgmma|grouped_gemm_bf16|--tokens=8192 --row=swiglu
multiply_streamed|linear_bf16|--tokens=1
norm_and_route|norm_route_top_k|--tokens=1
attend|attention_bf16|--tokens=1 --row=decode, context 4096
attend_wgmma|attention_bf16|--tokens=2048"

stage_counters() {
  local kernel bench arguments row log=$out/.output status=0 missing=''
  if ! command -v ncu >/dev/null; then
    skip "ncu was not found: no counters were read"
    return
  fi
  while IFS='|' read -r kernel bench arguments; do
    row=()
    [[ "$arguments" == *--row=* ]] && row=("--row=${arguments#*--row=}")
    echo "== $kernel"
    # shellcheck disable=SC2086 # a list of words
    limited 120 ncu --set basic --metrics lts__t_sectors_op_read.sum --launch-count 2 \
      --kernel-name "regex:$kernel" "$program" bench --device=cuda --check --exact "$bench" \
      ${arguments%%--row=*} "${row[@]}" >"$log" 2>&1
    cat "$log"
    if grep -q ERR_NVGPUCTRPERM "$log"; then
      rm -f "$log"
      skip "only an administrator may read the counters of this driver \
(NVreg_RestrictProfilingToAdminUsers=0)"
      return
    fi
    if [ "$verdict" != PASS ] || ! grep -q lts__t_sectors_op_read "$log"; then
      echo "$verdict: no counters of $kernel"
      missing="$missing $kernel"
      status=1
    fi
  done <<<"$counted_kernels"
  rm -f "$log"
  note "${missing:+none of$missing}"
  return $status
}

# The benches that the table of targets is about come first.
bench_names() {
  local names first="decode moe_layer grouped_gemm_bf16 norm_route_top_k linear_bf16 attention_bf16"
  names=$(limited "${MOEPP_TEST_SECONDS:-60}" "$program" bench --list) || return
  echo "$first"
  grep -v -x -F "$(tr ' ' '\n' <<<"$first")" <<<"$names"
}

stage_bench() {
  local name watcher names bad=() log=$out/.output samples=$out/clocks.csv status=0
  local -A counts=()
  names=$(bench_names) || {
    echo "$(verdict_of $?): $program names no benches"
    return 1
  }
  watch_clocks "$samples"
  for name in $names; do
    limited "${MOEPP_BENCH_SECONDS:-120}" "$program" bench --device=cuda --exact "$name" 2>&1 |
      tee "$log"
    verdict=$(verdict_of "${PIPESTATUS[0]}")
    count_verdict
    if [ "$verdict" != PASS ]; then
      echo "$verdict: $name"
      bad+=("$verdict $name")
      status=1
    fi
    grep -q '  does not fit: ' "$log" && bad+=("$name does not fit")
  done
  rm -f "$log"
  kill "$watcher" 2>/dev/null
  wait "$watcher" 2>/dev/null
  clocks_summary "$samples"
  note "$(counted)${bad[*]:+: $(printf '%s; ' "${bad[@]}")}"
  return $status
}

# The 7B shape; with Node, the paper's models and a picture too.
stage_expert_forward() {
  local tokens bad=()
  for tokens in 1,8,64,512 2048,8192; do
    limited 120 "$program" bench expert-forward --device=cuda --hidden=1536 --ffn=4096 \
      --ffn-experts=16 --constants=2 --tokens="$tokens"
    [ "$verdict" = PASS ] || bad+=("$verdict $tokens tokens")
  done
  if command -v node >/dev/null && [ -d node_modules ]; then
    limited 300 env MOEPP_NATIVE_PROGRAM="$program" node bench/expert-forward.mjs --device=cuda \
      --tokens=8192 --curve=1,16,64,512,2048,8192 --out="$out/expert-forward"
    [ "$verdict" = PASS ] || bad+=("$verdict the paper's models")
  else
    echo "SKIPPED: the paper's other models, for which Node and node_modules are needed"
  fi
  note "${bad[*]}"
  ((${#bad[@]} == 0))
}
