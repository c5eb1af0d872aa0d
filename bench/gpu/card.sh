# The card: which one CUDA takes, and what there is to say about it.
# shellcheck shell=bash disable=SC2154,SC2034

nothing_tested() { # reason
  echo "bench/gpu.sh: nothing was tested: $1" >&2
  exit 2
}

# A GPU that has fallen off the bus can make nvidia-smi hang.
smi() {
  timeout -k 5 "${MOEPP_SMI_SECONDS:-20}" nvidia-smi "$@"
}

# The card that CUDA calls device 0: sets index, card, capability, mig_mode and notes.
find_card() {
  # The order of nvidia-smi, so that it and CUDA speak of the same card.
  export CUDA_DEVICE_ORDER=PCI_BUS_ID
  local rows wanted row status
  command -v nvidia-smi >/dev/null ||
    nothing_tested "there is no NVIDIA driver on this machine (nvidia-smi was not found)"
  rows=$(smi --query-gpu=index,uuid,compute_cap,name --format=csv,noheader 2>&1)
  status=$?
  case $status in
    0) ;;
    124 | 137) nothing_tested "the driver does not answer: nvidia-smi did not end" ;;
    *) nothing_tested "the driver does not answer: $(head -n 1 <<<"$rows")" ;;
  esac
  rows=$(grep -E '^[0-9]+, *GPU-' <<<"$rows") || nothing_tested "the driver finds no GPU"
  wanted=${CUDA_VISIBLE_DEVICES-0}
  wanted=${wanted%%,*}
  row=$(row_of "$wanted" "$rows")
  [ -n "$row" ] || nothing_tested \
    "CUDA_VISIBLE_DEVICES is '${CUDA_VISIBLE_DEVICES-}', and no GPU is called so: $rows"
  IFS=, read -r index _ capability card <<<"$row"
  card=${card# }
  capability=$(tr -d ' .' <<<"$capability")
  ((capability >= 75)) || nothing_tested \
    "GPU $index ($card) is too old: compute capability 7.5 or newer is needed, it has \
${capability%?}.${capability: -1}"
  mig_mode=$(query mig.mode.current)
  if [ "$mig_mode" = Enabled ] && [ -z "$(slices)" ]; then
    nothing_tested "MIG is enabled on GPU $index, but it is not divided: make an instance \
(nvidia-smi mig -cgi ... -C) or switch MIG off"
  fi
  notes=$(advise "$rows")
  [ -z "$notes" ] || echo "$notes"
}

# The row of a GPU by index, by the beginning of its UUID, or by the UUID of its slice.
row_of() { # name, rows
  case "$1" in
    GPU-*) grep -F ", $1" <<<"$2" | head -n 1 ;;
    MIG-*)
      grep "^$(smi -L | awk -v slice="$1" '/^GPU / { gpu = $2 + 0 }
        index($0, "UUID: " slice) { print gpu; exit }')," <<<"$2"
      ;;
    *[!0-9]* | "") return 1 ;;
    *) grep "^$1," <<<"$2" ;;
  esac
}
slices() { # of the card that is used
  smi -L | awk -v wanted="$index" '/^GPU / { gpu = $2 + 0 } /UUID: MIG-/ && gpu == wanted'
}

# A fact about the card; empty where this driver does not know it.
query() {
  smi --id="$index" --query-gpu="$1" --format="csv,noheader${2-}" 2>/dev/null |
    grep -v -i -E 'not a valid field|^\[?(N/A|not supported)\]?$' | head -n 1
}
fact() { # in words, field
  local value
  value=$(query "$2")
  printf '%-22s %s\n' "$1:" "${value:-the driver does not say}"
}

# Notes on facts that the results depend on.
advise() { # rows of all cards
  local count mode power driver
  count=$(wc -l <<<"$1")
  if ((count > 1)); then
    echo "note: of $count GPUs, GPU $index is used ($card); CUDA_VISIBLE_DEVICES names another"
  fi
  if [ "$mig_mode" = Enabled ]; then
    echo "note: MIG is enabled: CUDA sees one slice of the card, and the ceilings are the slice's"
    [[ "${CUDA_VISIBLE_DEVICES-}" == MIG-* ]] || slices | sed 's/^ */note: a slice: /'
  fi
  driver=$(query driver_version)
  if [[ "$driver" =~ ^[0-9]+ ]] && ((BASH_REMATCH[0] < 580)); then
    echo "note: the driver is $driver: CUDA 13 needs 580 or newer, or its package cuda-compat"
  fi
  if [ "$(query persistence_mode)" = Disabled ]; then
    echo "note: persistence mode is off, so that each test may load the driver anew:" \
      "nvidia-smi -pm 1 (root) switches it on"
  fi
  mode=$(smi -q --id="$index" 2>/dev/null | sed -n 's/^ *Virtualization Mode *: *//p')
  if [ "$mode" = VGPU ]; then
    echo "note: this is a vGPU: others may share the card, so that times mean little, and its" \
      "profile may forbid ncu and compute-sanitizer"
  fi
  power=$(power_note)
  [ -z "$power" ] || echo "note: $power"
}
power_note() {
  local limit default
  limit=$(query power.limit ,nounits)
  default=$(query power.default_limit ,nounits)
  if [ -n "$limit" ] && [ -n "$default" ] && [ "$limit" != "$default" ]; then
    echo "the power limit is $limit W, by default it is $default W"
  fi
}

# Sets out, the folder of the results.
results_folder() {
  out=$given_out
  [ -n "$out" ] || out=build/gpu-$(tr -cs 'A-Za-z0-9\n' - <<<"$card" | sed 's/-*$//')
  mkdir -p "$out" || exit 1
}

# The active reasons for lower clocks, in words: from the bits that NVML gives them.
reasons_of() { # 0x0000000000000004
  local bits=0 words=()
  [[ "$1" == 0x* ]] && bits=$(($1))
  ((bits & 0x2)) && words+=("clocks set by the user")
  ((bits & 0x4)) && words+=("power limit")
  ((bits & 0x8)) && words+=("hardware slowdown")
  ((bits & 0x10)) && words+=("sync boost")
  ((bits & 0x20)) && words+=("heat (driver)")
  ((bits & 0x40)) && words+=("heat (hardware)")
  ((bits & 0x80)) && words+=("power brake")
  ((bits & 0x100)) && words+=("display clocks")
  local IFS=';'
  echo "${words[*]:-none}"
}
# Drivers have two names for the field.
reasons_field() {
  local each
  for each in clocks_event_reasons.active clocks_throttle_reasons.active; do
    [ -z "$(query $each)" ] || { echo $each; return; }
  done
}

# Samples clocks once a second, from now until $watcher or the script is ended.
watch_clocks() { # file
  local field
  field=$(reasons_field)
  sample_clocks "$field" >"$1"
  while sleep "${MOEPP_SAMPLE_SECONDS:-1}" && kill -0 $$; do
    sample_clocks "$field" >>"$1"
  done >/dev/null 2>&1 &
  watcher=$!
}
sample_clocks() { # field of the reasons, if there is one
  query "clocks.sm,clocks.mem,temperature.gpu,power.draw${1:+,$1}" ,nounits
}
clocks_summary() { # file
  [ -s "$1" ] || { echo "clocks: the driver did not say"; return; }
  awk -F', *' '{ if (NR == 1 || $1 < low) low = $1; if ($1 > high) high = $1
      if ($3 > heat) heat = $3; if ($4 > power) power = $4 }
    END { printf "clocks: %d to %d MHz in %d samples, at most %d C and %d W\n",
      low, high, NR, heat, power }' "$1"
  local bits reasons
  awk -F', *' '{ print $5 }' "$1" | sort -u | while read -r bits; do
    reasons=$(reasons_of "${bits:-0}")
    [ "$reasons" = none ] || echo "clocks were lowered: $reasons"
  done
}

stage_probe() {
  local field
  echo "moepp on $card, $(date -u +%Y-%m-%d)"
  printf '%-22s %s\n' commit: "$(program_commit)"
  fact driver driver_version
  fact "compute capability" compute_cap
  fact memory memory.total
  fact ECC ecc.mode.current
  printf '%-22s %s\n' MIG: "${mig_mode:-the driver does not say}"
  fact "persistence mode" persistence_mode
  fact "clock now" clocks.sm
  fact "clock at most" clocks.max.sm
  fact "memory clock at most" clocks.max.mem
  field=$(reasons_field)
  [ -z "$field" ] || printf '%-22s %s\n' "clocks lowered by:" "$(reasons_of "$(query "$field")")"
  fact "power limit" power.limit
  fact temperature temperature.gpu
  limited "${MOEPP_TEST_SECONDS:-60}" "$program" device
  [ -z "$notes" ] || echo "$notes"
  note "$card"
  [ "$verdict" = PASS ]
}
