# The card: which one CUDA takes, and what there is to say about it.
# shellcheck shell=bash disable=SC2154 # out and program are gpu.sh's

nothing_tested() { # reason
  echo "bench/gpu.sh: nothing was tested: $1" >&2
  exit 2
}

# The card that CUDA calls device 0: sets index, card, capability, mig_mode and notes.
find_card() {
  # The order of nvidia-smi, so that it and CUDA speak of the same card.
  export CUDA_DEVICE_ORDER=PCI_BUS_ID
  local rows wanted row
  command -v nvidia-smi >/dev/null ||
    nothing_tested "there is no NVIDIA driver on this machine (nvidia-smi was not found)"
  rows=$(nvidia-smi --query-gpu=index,uuid,compute_cap,name --format=csv,noheader 2>&1) ||
    nothing_tested "the driver does not answer: $(head -n 1 <<<"$rows")"
  rows=$(grep -E '^[0-9]+, *GPU-' <<<"$rows") || nothing_tested "the driver finds no GPU"
  wanted=${CUDA_VISIBLE_DEVICES-0}
  wanted=${wanted%%,*}
  row=$(row_of "$wanted" "$rows")
  [ -n "$row" ] || nothing_tested \
    "CUDA_VISIBLE_DEVICES is '${CUDA_VISIBLE_DEVICES-}', and no GPU is called so: $rows"
  IFS=, read -r index _ capability card <<<"$row"
  card=${card# }
  capability=$(tr -d ' .' <<<"$capability")
  mig_mode=$(query mig.mode.current)
  if [ "$mig_mode" = Enabled ] && [ -z "$(slices)" ]; then
    nothing_tested "MIG is enabled on GPU $index, but it is not divided: make an instance \
(nvidia-smi mig -cgi ... -C) or switch MIG off"
  fi
  notes=$(advise "$rows")
  [ -z "$notes" ] || echo "$notes"
}
# A build takes minutes, which such a driver makes useless.
refuse_old_driver() {
  local driver
  driver=$(query driver_version)
  if [ -n "$driver" ] && ((${driver%%.*} < 580)); then
    nothing_tested "the driver is $driver, and CUDA 13 needs 580 or newer; update it, or bring \
a program and NVIDIA's cuda-compat (--program)"
  fi
}

# The row of a GPU by index, by the beginning of its UUID, or by the UUID of its slice.
row_of() { # name, rows
  case "$1" in
    GPU-*) grep -F ", $1" <<<"$2" | head -n 1 ;;
    MIG-*)
      grep "^$(nvidia-smi -L | awk -v slice="$1" '/^GPU / { gpu = $2 + 0 }
        index($0, "UUID: " slice) { print gpu; exit }')," <<<"$2"
      ;;
    *[!0-9]* | "") return 1 ;;
    *) grep "^$1," <<<"$2" ;;
  esac
}
slices() { # of the card that is used
  nvidia-smi -L | awk -v wanted="$index" '/^GPU / { gpu = $2 + 0 } /UUID: MIG-/ && gpu == wanted'
}

# A fact about the card; empty where this driver does not know it.
query() {
  nvidia-smi --id="$index" --query-gpu="$1" --format="csv,noheader${2-}" 2>/dev/null |
    grep -v -i -E 'not a valid field|not supported|^\[?N/A\]?$' | head -n 1
}
fact() { # in words, field
  local value
  value=$(query "$2")
  printf '%-22s %s\n' "$1:" "${value:-the driver does not say}"
}

# Notes on facts that the results depend on.
advise() { # rows of all cards
  local count mode power
  count=$(wc -l <<<"$1")
  if ((count > 1)); then
    echo "note: of $count GPUs, GPU $index is used ($card); CUDA_VISIBLE_DEVICES names another"
  fi
  if [ "$mig_mode" = Enabled ]; then
    echo "note: MIG is enabled: CUDA sees one slice of the card, and the ceilings are the slice's"
    [[ "${CUDA_VISIBLE_DEVICES-}" == MIG-* ]] || slices | sed 's/^ */note: a slice: /'
  fi
  mode=$(nvidia-smi -q --id="$index" 2>/dev/null | sed -n 's/^ *Virtualization Mode *: *//p')
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
  out=${OUT:-build/gpu-$(tr -cs 'A-Za-z0-9\n' - <<<"$card" | sed 's/-*$//')}
  mkdir -p "$out" || exit 1
}

# The active reasons for lower clocks, in words: from the bits that NVML gives them.
reasons_of() { # 0x0000000000000004
  local bits=$(($1)) words=()
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
throttle_reasons() {
  local bits
  bits=$(query clocks_event_reasons.active)
  echo "${bits:-$(query clocks_throttle_reasons.active)}"
}

# Samples clocks once a second until it is ended.
watch_clocks() { # file
  local sample
  while :; do
    sample=$(query clocks.sm,clocks.mem,temperature.gpu,power.draw ,nounits)
    [ -n "$sample" ] && echo "$sample, $(throttle_reasons)" >>"$1"
    sleep "${MOEPP_SAMPLE_SECONDS:-1}"
  done
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
  local bits
  echo "moepp on $card, $(date -u +%Y-%m-%d)"
  printf '%-22s %s\n' commit: "$(program_commit)"
  fact driver driver_version
  fact "compute capability" compute_cap
  fact memory memory.total
  fact ECC ecc.mode.current
  printf '%-22s %s\n' MIG: "${mig_mode:-the driver does not say}"
  fact "clock now" clocks.sm
  fact "clock at most" clocks.max.sm
  fact "memory clock at most" clocks.max.mem
  bits=$(throttle_reasons)
  [ -z "$bits" ] || printf '%-22s %s\n' "clocks lowered by:" "$(reasons_of "$bits")"
  fact "power limit" power.limit
  fact temperature temperature.gpu
  limited "${MOEPP_TEST_SECONDS:-60}" "$program" device
  [ -z "$notes" ] || echo "$notes"
  note "$card"
  [ "$verdict" = PASS ]
}
