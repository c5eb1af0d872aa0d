# The table of targets against what was measured. bench/README.md has the floor of each target.
# shellcheck shell=bash disable=SC2154

# A row of the benches: its time, rate, ceiling and share; or its rate alone, where a row is of
# several steps.
row() { # beginning of its name, dtype, tokens
  local n='([0-9.]+)'
  grep -E "^$1[^|]* +$2 +$3 +[0-9.]+ us" "$out/bench.txt" 2>/dev/null | head -n 1 |
    sed -E "s/^.* $n us +$n of +$n ([A-Z]+\/s) +$n %   best .*/\1 us, \2 of \3 \4 (\5 %)/"
}
rate() {
  row "$@" | sed 's/^[^,]*, //'
}
gain() { # tau: of 8192 tokens
  grep -E "^\{.*\"tokens\":8192,\"tau\":$1," "$out/expert-forward.txt" 2>/dev/null | head -n 1 |
    sed -E 's/.*"moeppSeconds":([0-9.]+),"vanillaSeconds":([0-9.]+).*/\1 \2/' |
    awk '{ printf "%.2f x vanilla", $2 / $1 }'
}
line() { # what, target, measured
  printf '| %s | %s | %s |\n' "$1" "$2" "${3:-not measured}"
}
# The folder that the table alone reads: $OUT, or the last one of this checkout.
table_folder() {
  local each
  out=$given_out
  [ -z "$out" ] || return 0
  for each in build/gpu-*; do
    [ "$each/bench.txt" -nt "$out/bench.txt" ] && out=$each
  done
  [ -z "$out" ] || echo "measured in $out:"
  out=${out:-build/gpu-*}
}
stage_table() {
  local lines
  if [ ! -r "$out/bench.txt" ]; then
    echo "there is no $out/bench.txt: the stage bench writes it"
    return 1
  fi
  printf '| | target on an H100 | measured, of the ceiling of the same run |\n|---|---|---|\n'
  lines=$(targets)
  echo "$lines"
  note "$(grep -vc '| not measured |$' <<<"$lines") of $(wc -l <<<"$lines") targets measured"
}
targets() {
  local tokens each
  for tokens in 8192 16384; do
    line "grouped GEMM, gather + SwiGLU fused, $tokens tokens" ">= 500 TFLOP/s; then 600" \
      "$(rate 'grouped_gemm 1536 -> 2 x 4096, swiglu' bf16 $tokens)"
  done
  line "MoE layer, 2048 tokens" "<= 320 us; 270 with bf16 activations" \
    "$(row 'moe_layer 1536' bf16 2048)"
  for each in "1 2.5 us" "8 2.5 us" "2048 20 us; 10 with bf16 activations" \
    "8192 70 us; 36 with bf16 activations"; do
    line "router + zero-computation experts, T = ${each%% *}" "<= ${each#* }" \
      "$(row 'norm_route_top_k 1536' f32 "${each%% *}")"
  done
  for each in "1 1.10 ms; then 0.93" "8 3.8 ms" "64 8.0 ms"; do
    line "decode, batch ${each%% *}, context 512, bf16" "<= ${each#* }" \
      "$(row 'decode, context 512, 24 layers' bf16 "${each%% *}")"
  done
  line "expert forward, 8192 tokens, tau 0.75" "1.29 x vanilla" "$(gain 0.75)"
  line "expert forward, 8192 tokens, tau 0.1" "2.8 x vanilla at 600 TFLOP/s" "$(gain 0.1)"
}
