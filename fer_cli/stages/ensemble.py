"""Stage ``ensemble``: models and studies in, an artifact out that answers by the mean of their probabilities."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.naming import composed_name
from fer_cli.artifacts.payload import json_bytes
from fer_cli.artifacts.protocol import (
    Batching,
    DatasetProtocol,
    EnsembleTraining,
    EnsembleWeights,
    MemberTraining,
    Pretraining,
    Selection,
    StartingWeights,
    TrainingProtocol,
    shared_numerics,
)
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.sections import SplitName
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import (
    EnsembleConfig,
    EnsembleSummary,
    Measured,
    ModelConfig,
    ModelSummary,
    SelectedScores,
    StudyConfig,
    member_role,
)
from fer_cli.artifacts.work import Plan
from fer_cli.core import machine
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.progress import warn
from fer_cli.datasets.dataset import Dataset
from fer_cli.evaluation.predictors.ensemble import ENSEMBLE, Members, run, shared_dataset, training_rows
from fer_cli.evaluation.predictors.model import Networks
from fer_cli.metrics.values import class_values, mean_of_present
from fer_cli.training.ensemble import ENSEMBLE as FILE
from fer_cli.training.ensemble import Ensemble, Member, fitted_weights, log_mean, mixed
from fer_cli.training.study import models_of

REVISION: Final = 1
KINDS: Final = ("model", "study")
FITTED_ON: Final[SplitName] = "validation"


def ensemble(
    *,
    store: Store,
    members: Sequence[str],
    weights: EnsembleWeights = "equal",
    device: str = "auto",
    force: bool = False,
    name: str | None = None,
) -> Result:
    """Put models and studies together.

    The payload is ``ensemble.json``: references with hashes, weights and temperatures; the networks stay where they
    are. A member's answer is the mean of its networks' calibrated probabilities, and the ensemble's the weighted mean
    of these, at a temperature of its own that is fitted on the validation split.

    Args:
        store: where artifacts are.
        members: references of models and studies of seeds.
        weights: ``equal``, or ``fitted``: those of the least cross-entropy on the validation split.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        force: make it anew even when it is up to date.
        name: of what is made; from the dataset and the number of members where it is None.

    Raises:
        FerError: a reference leads to nothing, or the members do not fit together: they know other classes, were
            trained on other splits, or one of them is there twice.
    """
    if weights not in get_args(EnsembleWeights):  # a caller's, who has no type checker
        raise UsageError(
            f"--weights {weights!r} is not a choice", hint=f"take {' or '.join(get_args(EnsembleWeights))}"
        )
    if len(members) < 2:
        raise UsageError("an ensemble has two members or more", hint="name models or studies: fer ensemble A B")
    artifacts = [store.find(member, KINDS) for member in members]
    opened = _opened(store, artifacts)
    shared = shared_dataset(store, opened)
    widest = next(model for model in opened.models.values() if _is_of(model, shared))
    plan = Plan(
        kind="ensemble",
        name=name
        or composed_name(
            f"{shared.artifact.name}-ensemble-of-{len(artifacts)}", [weights] if weights != "equal" else []
        ),
        stage="ensemble",
        revision=REVISION,
        config=EnsembleConfig(weights=weights).record(),
        inputs={
            "dataset": open_parent(store, widest, "dataset").as_input(),
            **{member_role(number): artifact.as_input() for number, artifact in enumerate(artifacts)},
        },
    )
    with store.make(plan, force=force) as work:
        if work.committed is not None:
            return Result(work.committed, up_to_date=True)
        rows = shared.rows(FITTED_ON)
        batching: Batching = "alone" if opened.mixes_batch else "stored"
        answers, _, _ = run(opened, Networks(device).of(opened.models), shared, rows, tta="none", batching=batching)
        tables, true = opened.means(answers), shared.labels[rows]
        parts = list(tables.values())
        shares = fitted_weights(parts, true) if weights == "fitted" else (1 / len(parts),) * len(parts)
        temperature = _temperature(parts, shares, true)
        whole = mixed(parts, shares, temperature)
        said = Ensemble(
            members=tuple(
                Member(
                    kind="model" if artifact.kind == "model" else "study",
                    name=artifact.name,
                    version=artifact.version,
                    content=artifact.manifest.content,
                    output=output,
                    weight=share,
                    temperatures=tuple(opened.temperatures[one] for one, of in opened.of.items() if of == output),
                )
                for artifact, output, share in zip(artifacts, tables, shares, strict=True)
            ),
            temperature=temperature,
        )
        work.write(FILE, json_bytes(said.record()))
        scores = _scores(whole, true, len(shared.classes))
        networks = [ModelSummary.of(model) for model in opened.models.values()]
        artifact = work.commit(
            summary=EnsembleSummary(
                headline=f"{len(artifacts)} members, {len(networks)} networks, {weights} weights: validation accuracy "
                f"{scores.accuracy:.1%}, balanced {scores.balanced_accuracy:.1%}",
                classes=shared.classes,
                members=tuple(one.reference for one in artifacts),
                outputs=tuple(tables),
                weights=shares,
                temperature=temperature,
                selected=scores,
                member_accuracy=tuple(float((table.argmax(1) == true).mean()) for table in parts),
                networks=len(networks),
                parameters=sum(one.parameters for one in networks),
                multiply_adds=sum(one.multiply_adds for one in networks),
            ),
            protocol=_protocol(store, opened, artifacts, shared, weights, shares),
            measured=Measured(
                command=shlex.join(
                    ["fer", "ensemble", *(one.reference for one in artifacts), *_option("--weights", weights)]
                ),
                **machine.usage(machine.device_name(device)),
            ),
            warnings=list(dict.fromkeys(text for one in artifacts for text in one.manifest.warnings)),
        )
        return Result(artifact, up_to_date=False)


def _option(option: str, weights: EnsembleWeights) -> list[str]:
    return [] if weights == "equal" else [option, weights]


def _is_of(model: Artifact, dataset: Dataset) -> bool:
    return model.manifest.inputs["dataset"].content == dataset.artifact.manifest.content


def _opened(store: Store, artifacts: Sequence[Artifact]) -> Members:
    """Return the networks of the members, the members named as outputs.

    Raises:
        FerError: a network is there twice, a study is over folds, or members know other classes.
    """
    times = Counter(artifact.name for artifact in artifacts)
    opened, seen = [], dict[str, Artifact]()
    classes: tuple[str, ...] | None = None
    for artifact in artifacts:
        if artifact.kind == "study" and StudyConfig.of(artifact).folds is not None:
            raise FerError(
                f"{artifact.reference} is over folds: no split is new to all of its models",
                hint="take models of one fold, or of the dataset's own splits",
            )
        models = models_of(store, artifact)
        for model in models.values():
            if (other := seen.setdefault(model.manifest.content, artifact)) is not artifact:
                both = "is given twice" if other.version == artifact.version else f"is in {other.reference} too"
                raise FerError(f"{model.reference} {both}", hint="give each model once; weights come from --weights")
            known = ModelConfig.of(model).classes
            classes = classes or known
            if known != classes:
                raise FerError(
                    f"{model.reference} knows {', '.join(known)}, and {artifacts[0].reference} {', '.join(classes)}",
                    hint="take members with the same classes in the same order",
                )
        degrees = [ModelSummary.of(model).temperature for model in models.values()]
        if None in degrees:
            warn(
                f"{artifact.reference} was trained before fer fitted temperatures: its probabilities count as they are"
            )
        unique = times[artifact.name] == 1 and artifact.name != ENSEMBLE
        output = artifact.name if unique else f"{artifact.name}@{artifact.version}"
        opened.append((output, models, [degree or 1.0 for degree in degrees]))
    return Members.named(opened)


def _temperature(parts: Sequence[NDArray[np.float64]], shares: Sequence[float], true: NDArray[np.int64]) -> float:
    from fer_cli.training.validation import fitted_temperature

    return round(fitted_temperature(log_mean(parts, shares), true), 4)


def _scores(shares: NDArray[np.float64], true: NDArray[np.int64], classes: int) -> SelectedScores:
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (true, shares.argmax(1)), 1)
    _, recall, f1 = class_values(confusion)
    likelihood = np.maximum(shares[np.arange(len(true)), true], np.finfo(np.float64).tiny)
    return SelectedScores(
        accuracy=float(np.trace(confusion) / len(true)),
        balanced_accuracy=float(mean_of_present(recall)),
        macro_f1=float(mean_of_present(f1)),
        validation_loss=float(-np.log(likelihood).mean()),
    )


def _protocol(
    store: Store,
    opened: Members,
    artifacts: Sequence[Artifact],
    shared: Dataset,
    weights: EnsembleWeights,
    shares: Sequence[float],
) -> TrainingProtocol:
    """Return the protocols of all networks as one: what any of them saw or was selected on, the ensemble was."""
    protocols = [TrainingProtocol.of(model) for model in opened.models.values()]
    widest = next(
        protocol.data
        for model, protocol in zip(opened.models.values(), protocols, strict=True)
        if _is_of(model, shared)
    )
    data = widest.model_copy(
        update={
            "n": {**widest.n, "train": len(training_rows(store, opened, shared))},
            **{name: max(getattr(one.data, name) for one in protocols) for name in _LEAKS},
        }
    )
    own = [TrainingProtocol.of(artifact) for artifact in artifacts]
    return TrainingProtocol(
        data=data,
        pretraining=_pretraining([one.pretraining for one in protocols]),
        start=_start([one.start for one in protocols if one.start is not None]),
        selection=_selection(
            [one.selection for one in protocols if one.selection is not None], weights, len(artifacts)
        ),
        ensemble=EnsembleTraining(
            weights=weights,
            fitted_on=FITTED_ON,
            members=tuple(
                MemberTraining(
                    reference=artifact.reference,
                    weight=share,
                    pretraining=one.pretraining,
                    selection=one.selection,
                    teacher=one.teacher,
                )
                for artifact, one, share in zip(artifacts, own, shares, strict=True)
            ),
        ),
    ).model_copy(update=shared_numerics(protocols))


_LEAKS: Final = tuple(name for name in DatasetProtocol.model_fields if name.endswith("_across_splits"))


def _pretraining(each: Sequence[Pretraining]) -> Pretraining:
    """Return what all began with; where they differ the weights of all that had any."""
    loaded = list(dict.fromkeys(one for one in each if one.kind != "random"))
    if len(loaded) < 2:
        return loaded[0] if loaded else each[0]
    trained_on = dict.fromkeys(one.trained_on for one in loaded if one.trained_on is not None)
    sources = dict.fromkeys(one.source for one in loaded if one.source is not None)
    return Pretraining(kind=loaded[0].kind, trained_on="; ".join(trained_on), source="; ".join(sources))


def _start(each: Sequence[StartingWeights]) -> StartingWeights | None:
    """Return all models that any network began with, and the most that any of them had seen."""
    if not each:
        return None
    models = dict.fromkeys(model for one in each for model in one.models)
    most = [
        {split: max(getattr(one, name).get(split, 0) for one in each) for one in each for split in getattr(one, name)}
        for name in ("trained_on", "selected_by")
    ]
    unknown = dict.fromkeys(name for one in each for name in one.unknown)
    return StartingWeights(models=tuple(models), trained_on=most[0], selected_by=most[1], unknown=tuple(unknown))


def _selection(each: Sequence[Selection], weights: EnsembleWeights, members: int) -> Selection:
    """Return the selections of all networks as one, and that of the weights where they were fitted."""
    metrics = dict.fromkeys(one.metric for one in each)
    what = "the epoch of each network"
    if weights == "fitted":
        metrics["cross-entropy"] = None
        what = f"{what}, and the weights of the {members} members"
    return Selection(
        split="test" if any(one.split == "test" for one in each) else FITTED_ON,
        metric=" and ".join(metrics),
        what=what,
        tried=sum(one.tried for one in each) + (members if weights == "fitted" else 0),
    )
