#!/usr/bin/env bash
# A whole study: datasets x systems x seeds, each trained and scored. Nothing is done twice: after an
# interruption the same line resumes. Prepare the datasets first.
#
#   DATASETS="ferplus fer2013" SYSTEMS="baseline conv-cut" SEEDS=0,1,2 recipes/batch/study.sh --set data.size=112
#
# Options of 'fer train' follow; they hold for every system. Ends with 75 when it was pre-empted (SIGTERM or SIGUSR1).
set -uo pipefail

: "${DATASETS:=synth}" "${SYSTEMS:=baseline conv-cut}" "${SEEDS:=0,1,2}" "${FER:=fer}"
child=
stop() { [ -n "$child" ] && kill -TERM "$child" 2>/dev/null; }
trap stop TERM USR1

run() {
  "$@" &
  child=$!
  wait "$child"
  local code=$?
  while [ $code -gt 128 ] && kill -0 "$child" 2>/dev/null; do # a signal ended the wait, not the command
    wait "$child"
    code=$?
  done
  child=
  [ $code -eq 0 ] || exit $code
}

for dataset in $DATASETS; do
  for system in $SYSTEMS; do
    run $FER train "$system" "$dataset" --seeds "$SEEDS" "$@"
    run $FER eval --report # the study or the model that was trained, or confirmed, just now
  done
done
