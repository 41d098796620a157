#!/usr/bin/env bash
# Every row of the tables of SLFER's paper, and the control that it lacks: masks that are the same for every face.
#
#   DATASET=ferplus SEEDS=0,1,2 recipes/slfer/tables.sh tasks lambda1 lambda2 components masks --set data.size=64
#
# The paper's own settings: --recipe recipes/slfer/paper.toml. Masks are made where there are none (fer parse-masks).
# Nothing is done twice: the same line resumes.
set -euo pipefail

: "${DATASET:=ferplus}" "${SEEDS:=0,1,2}" "${FER:=fer}" "${PARSER:=compact}"
tables=()
while [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; do
  tables+=("$1")
  shift
done
[ ${#tables[@]} -gt 0 ] || tables=(tasks lambda1 lambda2 components masks)
options=("$@")
for table in "${tables[@]}"; do
  case $table in
  tasks | lambda1 | lambda2 | components | masks) ;;
  *)
    echo "there is no table '$table': take tasks, lambda1, lambda2, components or masks" >&2
    exit 2
    ;;
  esac
done

row() { # name, masks, settings
  echo "== $1" >&2
  local masks=$2 trained
  shift 2
  trained=$($FER train slfer "$DATASET" --masks "$masks" --seeds "$SEEDS" "${options[@]+"${options[@]}"}" \
    "${@/#/--set=}" --json)
  $FER eval "$(path "$trained")" --report
}

path() { # of the artifact that a command's --json names
  [[ $1 =~ \"artifact\":\ \{[^}]*\"path\":\ \"([^\"]*)\" ]] && echo "${BASH_REMATCH[1]}"
}

found=$($FER parse-masks "$DATASET" --parser "$PARSER" --json)
masks=$(path "$found")
for table in "${tables[@]}"; do
  case $table in
  tasks) # table 1, RAF-DB and SFEW: 86.93/52.98, 87.77/55.73, 87.87/54.35, 88.01/59.63, 88.33/59.86
    row "baseline" "$masks" model.attention=none loss.segmentation=0 loss.components=0
    row "CT" "$masks" model.attention=none loss.segmentation=0
    row "ST" "$masks" model.attention=none loss.components=0
    row "CT + ST" "$masks" model.attention=none
    row "proposed" "$masks" model.attention=se
    ;;
  lambda1) # table 3a: 87.54, 87.90, 88.07, 88.33, 88.13
    for value in 0 0.001 0.1 0.5 1; do row "lambda1 $value" "$masks" loss.segmentation=$value; done
    ;;
  lambda2) # table 3b: 87.74, 87.84, 87.77, 88.33, 87.64
    for value in 0 0.001 0.1 0.5 1; do row "lambda2 $value" "$masks" loss.components=$value; done
    ;;
  components) # figure 3
    for value in 1 2 3 4 5 6; do row "n $value" "$masks" loss.top_k_regions=$value; done
    ;;
  masks) # the control: masks of each face, the mean face's for all, none
    mean=$($FER parse-masks "$DATASET" --parser template --json)
    row "masks of each face" "$masks"
    row "the mean face's masks" "$(path "$mean")"
    row "no masks" "$masks" loss.segmentation=0 loss.components=0
    ;;
  esac
done
