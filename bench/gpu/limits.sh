# Time limits: of each program, and of the stage that it is part of. The end of all of them.
# shellcheck shell=bash disable=SC2034

start_stage() {
  stage_end=$((SECONDS + ${MOEPP_STAGE_SECONDS:-540}))
}
seconds_left() {
  echo $((stage_end - SECONDS))
}

# seconds, command ...: runs it for so long at most. $verdict is PASS, FAIL, HANG, CRASH or NOT RUN
# (no time is left in the stage), $took its seconds. Status 124: it hung.
limited() {
  local limit=$1 left status started tenths
  shift
  left=$(seconds_left)
  took=0.0
  # Nothing more is started when the script itself was killed.
  if ((left <= 0)) || ! kill -0 $$ 2>/dev/null; then
    verdict="NOT RUN"
    return 125
  fi
  ((left < limit)) && limit=$left
  started=$(date +%s%N)
  timeout -k 5 "$limit" "$@"
  status=$?
  tenths=$((($(date +%s%N) - started) / 100000000))
  took=$((tenths / 10)).$((tenths % 10))
  # KILL comes from timeout where TERM did not help, or long before from elsewhere.
  if [ $status = 137 ]; then
    if ((tenths >= limit * 10)); then
      status=124
    else
      echo "ended by KILL: perhaps there was too little memory"
    fi
  fi
  verdict=$(verdict_of $status)
  return $status
}

verdict_of() { # exit status
  case $1 in
    0) echo PASS ;;
    124) echo HANG ;;
    125) echo "NOT RUN" ;;
    *) if (($1 > 128)); then echo CRASH; else echo FAIL; fi ;;
  esac
}

# A process and its descendants. Each is stopped before its children are read, so that none is new.
stopped_tree() { # pid
  local child
  kill -STOP "$1" 2>/dev/null || return 0
  echo "$1"
  for child in $(grep -lsx "PPid:[[:space:]]*$1" /proc/[0-9]*/status | tr -cd '0-9\n'); do
    stopped_tree "$child"
  done
}
# Ends all that this script has started: a program must not run on beside the next one.
end_all() { # pid
  local tree round
  tree=$(stopped_tree "$1")
  # shellcheck disable=SC2086 # a list
  {
    kill -TERM $tree
    kill -CONT $tree
    # timeout sends KILL after 5 s.
    for ((round = 0; round < 60; ++round)); do
      kill -0 $tree || break
      sleep 0.1
    done
  } 2>/dev/null
  echo "bench/gpu.sh: was ended" >&2
  exit 143
}
