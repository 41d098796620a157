"""Studies: models of one system and recipe that differ in their seed or their fold, put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from fer_cli.artifacts.payload import json_bytes
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.store import Artifact, Plan, Store
from fer_cli.core.progress import note
from fer_cli.datasets.fold_view import protocol_of_all

REVISION: Final = 1
STUDY: Final = "study.json"


def study_of(
    store: Store, system: str, models: Sequence[Artifact], seeds: Sequence[int], folds: Sequence[int] = ()
) -> Result:
    """Put the models of several seeds, of all folds, or of both together.

    Args:
        store: where they are.
        system: of all.
        models: one a seed, or all folds of the first seed, then those of the next.
        seeds: theirs.
        folds: theirs; empty where they are of none.
    """
    name = models[0].name.rpartition("-seed")[0]
    if folds:
        name = f"{name.rpartition('-fold')[0]}-all-folds"
    roles = [f"fold{fold}-seed{seed}" for seed in seeds for fold in folds] or [f"seed{seed}" for seed in seeds]
    plan = Plan(
        kind="study",
        name=name,
        stage="train",
        revision=REVISION,
        config={"system": system, "seeds": list(seeds), **({"folds": list(folds)} if folds else {})},
        inputs={role: model.as_input() for role, model in zip(roles, models, strict=True)},
        seeds=list(seeds),
    )
    with store.make(plan) as work:
        if work.committed is not None:
            return Result(work.committed, up_to_date=True)
        selected = {
            metric: [model.manifest.summary["selected"][metric] for model in models]
            for metric in ("accuracy", "balanced_accuracy", "macro_f1")
        }
        work.write(STUDY, json_bytes({"models": [model.as_input().model_dump() for model in models], **selected}))
        what = f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'}"
        if folds:
            what = f"{len(folds)} folds, {what}"
        artifact = work.commit(
            summary={
                "headline": f"{what}, validation accuracy {np.mean(selected['accuracy']):.1%}",
                "seeds": list(seeds),
                "selected": selected,
            },
            protocol=protocol_of_all(models) if folds else models[0].manifest.protocol,
            warnings=list(dict.fromkeys(text for model in models for text in model.manifest.warnings)),
        )
        note(f"study {artifact.reference} holds the {len(models)} models")
        return Result(artifact, up_to_date=False)
