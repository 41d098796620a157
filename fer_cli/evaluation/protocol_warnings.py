"""What makes a number unsound, and what a reader must know of it: read from protocols, said in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

SUSPICIOUS: Final = {"rafdb": 0.93, "fer2013": 0.77, "ferplus": 0.92}
"""Accuracy above which one model without extra face data should be taken for a bug until shown otherwise."""


FEW: Final = 100
"""Images below which a selection split decides more by chance than by merit: its standard error is 5 points."""


@dataclass(frozen=True, slots=True)
class ProtocolWarnings:
    """``unsound`` are marked in red wherever the number appears, ``cautions`` in amber; one phrase each."""

    unsound: tuple[str, ...]
    cautions: tuple[str, ...]


def judge(
    protocol: Mapping[str, Any], *, split: str, accuracy: float, own: bool = True, known: bool = True
) -> ProtocolWarnings:
    """Return what is to be said of an accuracy, measured on a split under a protocol.

    ``own``: on the data set that was learned from. Its splits say nothing of another data set's. ``known``: whether it
    is known what was learned from; where it is not, it may have been this data set.
    """
    unsound, cautions = [], []
    selection = protocol.get("selection", {}).get("split")
    if not own:
        pass
    elif split == "train":
        unsound.append("scored on the training split: this is no estimate of anything else")
    elif split == selection:
        unsound.append("selection split: optimistic")
    elif selection == "test":
        unsound.append("selected on test: optimistic everywhere")
    if split == "train" and not known:
        cautions.append("Scored on the training split: an estimate only where other images were learned from")
    if (own or not known) and protocol.get("unsound_split"):
        unsound.append(str(protocol["unsound_split"]))
    if protocol.get("mixes_batch") and protocol.get("batching") != "alone":
        unsound.append(f"predictions depend on the images beside them in the batch ({protocol['batching']})")
    for key, thing in (("subjects_across_splits", "persons"), ("sequences_across_splits", "sequences")):
        if own and protocol.get(key):
            unsound.append(f"{protocol[key]} {thing} stand in more than one split: optimistic")
        elif not known and protocol.get(key):
            cautions.append(f"{protocol[key]} {thing} stand in more than one split: optimistic if it was learned from")
    if protocol.get("missing"):
        cautions.append(f"The source was incomplete: {'; '.join(protocol['missing'])}")
    if str(protocol.get("alignment", "")).startswith("none"):
        cautions.append("Pictures were taken as face crops: faces were to be aligned, and no detector was there")
    if (own or not known) and protocol.get("duplicates_across_splits"):
        cautions.append(
            f"{protocol['duplicates_across_splits']} groups of equal images stand in more than one split: optimistic"
        )
    if selection in (chosen_on := protocol.get("trained_on", protocol).get("n", {})) and chosen_on[selection] < FEW:
        cautions.append(f"Chosen on {chosen_on[selection]} {selection} images: too few to choose well")
    if "random" in str(protocol.get("pretraining", "")):
        cautions.append("The backbone has random weights: this tests the chain, not a method")
    dataset = str(protocol.get("dataset", "")).partition("-")[0]
    if accuracy > SUSPICIOUS.get(dataset, 1.0):
        cautions.append(
            f"Accuracy above {SUSPICIOUS[dataset]:.0%} on {dataset} without extra face data: suspect a bug or a leak"
        )
    if dataset == "synth":
        cautions.append("Drawn faces: a test bench, no claim about real ones")
    return ProtocolWarnings(tuple(unsound), tuple(cautions))
