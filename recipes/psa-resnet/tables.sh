#!/usr/bin/env bash
# Every row of the tables of PSA-ResNet's paper, one key changed a row; each row is trained for all seeds and scored.
#
#   DATASET=fer2013 SEEDS=0,1,2 recipes/psa-resnet/tables.sh ablation attention networks --set data.size=64
#
# The paper's own settings: --recipe recipes/psa-resnet/paper.toml. Nothing is done twice: the same line resumes.
set -euo pipefail

: "${DATASET:=fer2013}" "${SEEDS:=0,1,2}" "${FER:=fer}"
tables=()
while [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; do
  tables+=("$1")
  shift
done
[ ${#tables[@]} -gt 0 ] || tables=(ablation attention networks)
options=("$@")
for table in "${tables[@]}"; do
  case $table in
  ablation | attention | networks) ;;
  *)
    echo "there is no table '$table': take ablation, attention or networks" >&2
    exit 2
    ;;
  esac
done

row() { # name, settings
  echo "== $1" >&2
  shift
  local trained
  trained=$($FER train psa-resnet "$DATASET" --seeds "$SEEDS" "${options[@]+"${options[@]}"}" "${@/#/--set=}" --json)
  $FER eval "$(path "$trained")" --report
}

path() { # of the artifact that a command's --json names
  [[ $1 =~ \"artifact\":\ \{[^}]*\"path\":\ \"([^\"]*)\" ]] && echo "${BASH_REMATCH[1]}"
}

for table in "${tables[@]}"; do
  case $table in
  ablation) # table 4, FER2013: 69.92, 71.67, 72.45, 74.26
    row "basic" model.attention=none loss.name=cross-entropy
    row "basic + joint loss" model.attention=none loss.name=island
    row "basic + PSA" model.attention=psa loss.name=cross-entropy
    row "basic + PSA + joint loss" model.attention=psa loss.name=island
    ;;
  attention) # table 3, CK+: 94.80, 96.80, 97.62, 97.82, 98.07, and 98.35 of psa with the joint loss
    for attention in none se cbam eca aff psa; do
      row "attention $attention" model.attention=$attention loss.name=cross-entropy
    done
    row "attention psa + joint loss" model.attention=psa loss.name=island
    ;;
  networks) # table 5, FER2013: 68.79, 69.01, 70.80, 72.30, 74.26; InceptionV4 is named and has no figure
    for backbone in vgg16_bn vgg19_bn resnet50 mobilenetv2_100 densenet121; do
      row "$backbone" model.backbone=$backbone model.attention=none loss.name=cross-entropy
    done
    row "ours" model.attention=psa loss.name=island
    row "inception_v4" model.backbone=inception_v4 model.attention=none loss.name=cross-entropy # takes 75 px or more
    ;;
  esac
done
