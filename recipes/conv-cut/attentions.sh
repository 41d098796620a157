#!/usr/bin/env bash
# Conv-cut's attentions, each trained for all seeds and scored alone, in shuffled batches of 32 and in batches of 32 of
# one class: how far the published attention over the batch depends on an image's neighbours.
#
#   DATASET=ferplus SEEDS=0,1,2 recipes/conv-cut/attentions.sh --set model.backbone=tf_efficientnet_lite0
#   python -m benchmarks.attentions   # the table
#
# Options of 'fer train' follow. Nothing is done twice: the same line resumes.
set -euo pipefail

: "${DATASET:=ferplus}" "${SEEDS:=0,1,2}" "${FER:=fer}"
for attention in tokens channels none batch; do
  $FER train conv-cut "$DATASET" --seeds "$SEEDS" "$@" --set "model.attention=$attention"
  for batching in alone shuffled sorted; do
    $FER eval --batching $batching # the study that was trained, or confirmed, just now
  done
done
