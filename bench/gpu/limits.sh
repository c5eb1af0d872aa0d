# Time limits: of each program, and of the stage that it is part of.
# shellcheck shell=bash disable=SC2034

start_stage() {
  stage_end=$((SECONDS + ${MOEPP_STAGE_SECONDS:-540}))
}
seconds_left() {
  echo $((stage_end - SECONDS))
}

# seconds, command ...: runs it for so long at most. $verdict is PASS, FAIL, HANG, CRASH or NOT RUN
# (no time is left in the stage), $took its seconds.
limited() {
  local limit=$1 left status started tenths
  shift
  left=$(seconds_left)
  took=0.0
  if ((left <= 0)); then
    verdict="NOT RUN"
    return 125
  fi
  ((left < limit)) && limit=$left
  started=${EPOCHREALTIME/[.,]/}
  timeout -k 5 "$limit" "$@"
  status=$?
  tenths=$(((${EPOCHREALTIME/[.,]/} - started) / 100000))
  took=$((tenths / 10)).$((tenths % 10))
  verdict=$(verdict_of $status)
  return $status
}

verdict_of() { # exit status
  case $1 in
    0) echo PASS ;;
    124 | 137) echo HANG ;; # ended by TERM, or by KILL
    *) if (($1 > 128)); then echo CRASH; else echo FAIL; fi ;;
  esac
}
