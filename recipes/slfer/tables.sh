#!/usr/bin/env bash
# Every row of the tables of SLFER's paper, and the control that it lacks: masks that are the same for every face.
#
#   DATASET=ferplus SEEDS=0,1,2 recipes/slfer/tables.sh tasks lambda1 lambda2 components masks --set data.size=64
#
# The paper's own settings: --recipe recipes/slfer/paper.toml. Masks are made where there are none (fer parse-masks).
# Nothing is done twice: the same line goes on.
set -euo pipefail

: "${DATASET:=ferplus}" "${SEEDS:=0,1,2}" "${FER:=fer}" "${PARSER:=compact}"
tables=()
while [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; do
  tables+=("$1")
  shift
done
[ ${#tables[@]} -gt 0 ] || tables=(tasks lambda1 lambda2 components masks)
options=("$@")

row() { # name, parser, settings
  echo "== $1" >&2
  local parser=$2
  shift 2
  $FER train slfer "$DATASET" --masks "$DATASET-$parser" --seeds "$SEEDS" "${options[@]+"${options[@]}"}" "${@/#/--set=}"
  $FER eval --report
}

$FER parse-masks "$DATASET" --parser "$PARSER"
for table in "${tables[@]}"; do
  case $table in
  tasks) # table 1, RAF-DB and SFEW: 86.93/52.98, 87.77/55.73, 87.87/54.35, 88.01/59.63, 88.33/59.86
    row "baseline" "$PARSER" model.attention=none loss.segmentation=0 loss.components=0
    row "CT" "$PARSER" model.attention=none loss.segmentation=0
    row "ST" "$PARSER" model.attention=none loss.components=0
    row "CT + ST" "$PARSER" model.attention=none
    row "proposed" "$PARSER" model.attention=se
    ;;
  lambda1) # table 3a: 87.54, 87.90, 88.07, 88.33, 88.13
    for value in 0 0.001 0.1 0.5 1; do row "lambda1 $value" "$PARSER" loss.segmentation=$value; done
    ;;
  lambda2) # table 3b: 87.74, 87.84, 87.77, 88.33, 87.64
    for value in 0 0.001 0.1 0.5 1; do row "lambda2 $value" "$PARSER" loss.components=$value; done
    ;;
  components) # figure 3
    for value in 1 2 3 4 5 6; do row "n $value" "$PARSER" loss.largest=$value; done
    ;;
  masks) # the control: masks of each face, the mean face's for all, none
    $FER parse-masks "$DATASET" --parser template
    row "masks of each face" "$PARSER"
    row "the mean face's masks" template
    row "no masks" "$PARSER" loss.segmentation=0 loss.components=0
    ;;
  *)
    echo "there is no table '$table': take tasks, lambda1, lambda2, components or masks" >&2
    exit 2
    ;;
  esac
done
