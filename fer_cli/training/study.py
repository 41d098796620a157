"""Studies: models of one system and recipe that differ in their seed or their fold, put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from pydantic import ValidationError

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.payload import json_bytes
from fer_cli.artifacts.protocol import TrainingProtocol, shared_numerics
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.sections import Record
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ModelConfig, ModelSummary, SelectedOfAll, StudyConfig, StudySummary
from fer_cli.artifacts.work import Plan
from fer_cli.core.errors import FerError
from fer_cli.core.progress import note
from fer_cli.datasets.fold_view import protocol_of_all

REVISION: Final = 1
STUDY: Final = "study.json"


class Member(Record):
    """A model of a study, with its seed and, over folds, its fold."""

    name: str
    version: str
    content: str
    seed: int
    fold: int | None = None

    @property
    def reference(self) -> str:
        """The reference that finds it."""
        return f"model/{self.name}@{self.version}"


class Study(Record):
    """The whole of ``study.json``."""

    members: tuple[Member, ...]
    selected: SelectedOfAll


def read_study(artifact: Artifact) -> Study:
    """Return which models a study is of.

    Raises:
        FerError: the file does not have this form.
    """
    path = artifact.file(STUDY)
    try:
        return Study.model_validate_json(path.read_bytes())
    except ValidationError as error:
        hint = "check it with 'fer verify', make the study again with --force"
        raise FerError("not the members of a study", hint=hint, path=path) from error


def models_of(store: Store, artifact: Artifact) -> dict[str, Artifact]:
    """Return the models of a study by name, or the one that a model artifact is."""
    if artifact.kind == "model":
        return by_seed([artifact])
    members = read_study(artifact).members
    models = [store.find(member.reference, ["model"]) for member in members]
    if StudyConfig.of(artifact).folds is None:
        return by_seed(models)
    several = len({member.seed for member in members}) > 1
    names = [f"fold {member.fold}{f', seed {member.seed}' if several else ''}" for member in members]
    return dict(zip(names, models, strict=True))


def by_seed(models: Sequence[Artifact]) -> dict[str, Artifact]:
    """Return models by the names that they have as outputs."""
    return {f"seed {ModelConfig.of(model).seed}": model for model in models}


def _member(model: Artifact) -> Member:
    config = ModelConfig.of(model)
    return Member(
        name=model.name,
        version=model.version,
        content=model.manifest.content,
        seed=config.seed,
        fold=config.fold,
    )


def study_of(
    store: Store,
    system: str,
    models: Sequence[Artifact],
    seeds: Sequence[int],
    folds: Sequence[int] = (),
    *,
    what: str = "",
) -> Result:
    """Put the models of several seeds, of all folds, or of both together.

    Args:
        store: where they are.
        system: of all.
        models: one a seed, or all folds of the first seed, then those of the next.
        seeds: theirs.
        folds: theirs; empty where they are of none.
        what: they all are, for the study's headline; the system's name where it is empty.
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
        config=StudyConfig(system=system, seeds=tuple(seeds), folds=tuple(folds) or None).record(),
        inputs={role: model.as_input() for role, model in zip(roles, models, strict=True)},
        seeds=list(seeds),
    )
    with store.make(plan) as work:
        if work.committed is not None:
            return Result(work.committed, up_to_date=True)
        scores = [ModelSummary.of(model).selected for model in models]
        selected = SelectedOfAll(
            accuracy=tuple(one.accuracy for one in scores),
            balanced_accuracy=tuple(one.balanced_accuracy for one in scores),
            macro_f1=tuple(one.macro_f1 for one in scores),
        )
        protocols = [TrainingProtocol.of(model) for model in models]
        protocol = protocol_of_all(models) if folds else protocols[0]
        warnings = list(dict.fromkeys(text for model in models for text in model.manifest.warnings))
        if len(computed := {one.computed_with for one in protocols}) > 1:
            warnings.append(f"the models were not computed alike: {'; '.join(sorted(computed))}")
        study = Study(members=tuple(_member(model) for model in models), selected=selected)
        work.write(STUDY, json_bytes(study.record()))
        counts = f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'}"
        if folds:
            counts = f"{len(folds)} folds, {counts}"
        accuracy = f"validation accuracy {np.mean(selected.accuracy):.1%}, SD {np.std(selected.accuracy, ddof=1):.1%}"
        artifact = work.commit(
            summary=StudySummary(
                headline=f"{what or system}: {counts}, {accuracy}",
                seeds=tuple(seeds),
                selected=selected,
            ),
            protocol=protocol.model_copy(update=shared_numerics(protocols)),
            warnings=warnings,
        )
        note(f"study {artifact.reference} holds the {len(models)} models")
        return Result(artifact, up_to_date=False)
