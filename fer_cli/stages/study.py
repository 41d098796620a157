"""Studies: models of one system and recipe that differ in their seed, put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from fer_cli.artifacts.payload import json_bytes
from fer_cli.artifacts.store import Artifact, Plan, Store
from fer_cli.progress import note
from fer_cli.stages.result import Result

REVISION: Final = 1
STUDY: Final = "study.json"


def study_of(store: Store, system: str, models: Sequence[Artifact], seeds: Sequence[int]) -> Result:
    """Put the models of several seeds together.

    Args:
        store: where they are.
        system: of all.
        models: one a seed.
        seeds: theirs.
    """
    name = models[0].name.rpartition("-seed")[0]
    plan = Plan(
        kind="study",
        name=name,
        stage="train",
        revision=REVISION,
        config={"system": system, "seeds": list(seeds)},
        inputs={f"seed{seed}": model.as_input() for seed, model in zip(seeds, models, strict=True)},
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
        artifact = work.commit(
            summary={
                "headline": f"{len(models)} seeds, validation accuracy {np.mean(selected['accuracy']):.1%}",
                "seeds": list(seeds),
                "selected": selected,
            },
            protocol=models[0].manifest.protocol,
            warnings=models[0].manifest.warnings,
        )
        note(f"study {artifact.reference} holds the {len(models)} models")
        return Result(artifact, up_to_date=False)
