"""Stage ``fit-ahm``: features in, the AHM projection and two plain classifiers on the same features out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.manifest import Input
from fer_cli.artifacts.naming import composed_name, number_word
from fer_cli.artifacts.payload import table_bytes, tensors_bytes
from fer_cli.artifacts.protocol import Numerics, Selection, TrainingProtocol
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import AhmConfig, AhmSummary, FeaturesSummary, Measured, ReducedClass, ValidationScores
from fer_cli.artifacts.work import Plan
from fer_cli.core import machine
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.progress import note, warn
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.models.features import Features, open_features
from fer_cli.systems.ahm.fit import CENTRINGS, CS, RELATIVE_LAMBDAS, Centring, FitResult, Metric, accuracies, fit
from fer_cli.systems.ahm.hierarchy import Hierarchy, default_hierarchy, load_hierarchy, semantic_prototypes
from fer_cli.systems.ahm.predictors import SOFTMAX, PredictorName
from fer_cli.systems.ahm.projection import RIDGE
from fer_cli.training.resume import finished, note_other_version, with_numerics

REVISION: Final = 1
PATHS: Final = ("shared", "full")
METRICS: Final[tuple[Metric, ...]] = ("accuracy", "balanced")
DIRECTIONS: Final[tuple[PredictorName, ...]] = ("ahm-semantic", "ahm-visual")


def fit_ahm(
    *,
    store: Store,
    features: str | None = None,
    hierarchy: Path | None = None,
    paths: str = "shared",
    lambdas: Sequence[float] = RELATIVE_LAMBDAS,
    ridge: float = RIDGE,
    metric: str = "accuracy",
    centring: str = "features",
    reduce: Mapping[str, float] | None = None,
    seed: int = 0,
    force: bool = False,
    name: str | None = None,
) -> Result:
    """Fit nearest mean, logistic regression and both directions of AHM (Zhang & Dong) on one features artifact.

    Of features of a trained model its own softmax stands beside them. Every view of the train split is fitted on;
    lambda, C and the better direction are chosen on the validation split's original view.

    Args:
        store: where artifacts are.
        features: reference of the features; the newest where it is None.
        hierarchy: a TOML file in the form of fer's own, which is taken where it is None.
        paths: ``shared`` (one entry of the semantic vector a part and AU) or ``full`` (one an expression, part and AU).
        lambdas: multiples of the lambda at which both terms of Eq. 6 weigh the same.
        ridge: on SS' and XX', relative to the mean of their diagonals.
        metric: ``accuracy`` or ``balanced``: what the choices are made by.
        centring: of X and S in AHM's projection: ``features`` (X is standardised), ``none`` (both as they are, as the
            paper has it), ``both`` (S less its mean too), ``intercept`` (X standardised, with a constant).
        reduce: class -> share of its training images that are fitted on, to see what scarcity does.
        seed: of the choice of these.
        force: rebuild it even when it is up to date.
        name: of what is made; from its inputs and settings where it is None.

    Raises:
        FerError: the hierarchy, the features or the data set's splits are at fault.
    """
    chosen_metric = _check_options(paths, lambdas, ridge, metric)
    chosen_centring = _centring(centring)
    artifact = store.find(features, ["features"])
    dataset = open_dataset(open_parent(store, artifact, "dataset"))
    opened = open_features(artifact, dataset.artifact)
    if len(dataset.classes) < 2:
        raise FerError(
            f"the dataset has a single class, {dataset.classes[0]}: nothing to classify",
            hint="prepare a dataset with two classes or more",
            path=dataset.artifact.path,
        )
    train, kept = _reduced(dataset, reduce or {}, seed)
    tree = default_hierarchy() if hierarchy is None else load_hierarchy(hierarchy)
    is_own = tree.text != default_hierarchy().text
    prototypes, path_names = semantic_prototypes(tree, dataset.classes, "full" if paths == "full" else "shared")
    plan = Plan(
        kind="ahm",
        name=name
        or _name(artifact, paths, lambdas, ridge, metric, hierarchy if is_own else None, centring, kept, seed),
        stage="fit-ahm",
        revision=REVISION,
        config=AhmConfig(
            paths="full" if paths == "full" else "shared",
            relative_lambdas=tuple(float(value) for value in lambdas),
            Cs=CS,
            ridge=ridge,
            metric=chosen_metric,
            standardise="mean and standard deviation of the train split",
            centring=None if chosen_centring == "features" else chosen_centring,
            reduced=kept or None,
            reduced_seed=seed if kept else None,
        ).record(),
        # Labels and splits come from the data set: features of other labels can be equal to the bit.
        inputs={
            "features": artifact.as_input(),
            "dataset": dataset.artifact.as_input(),
            "hierarchy": _hierarchy_input(tree),
        },
        seeds=[seed] if kept else [],
    )
    numerics = _numerics(store, plan, force=force)
    plan = with_numerics(plan, numerics)
    with store.make(plan, force=force) as work:
        if work.committed is not None:
            return Result(work.committed, up_to_date=True)
        validation = dataset.rows("validation")
        labels = dataset.labels if dataset.targets is None else dataset.targets

        def blocks() -> Iterator[tuple[NDArray[np.float32], NDArray[Any]]]:
            return opened.blocks(train, labels)

        try:
            with machine.array_threads(numerics.get("threads")):
                result = fit(
                    blocks,
                    (opened.rows("original", validation), dataset.labels[validation]),
                    classes=dataset.classes,
                    prototypes=prototypes,
                    relative_lambdas=list(lambdas),
                    ridge=ridge,
                    metric=chosen_metric,
                    centring=chosen_centring,
                    progress=lambda what: note(f"fit-ahm: {what}"),
                )
        except FerError as error:  # the mathematics knows no files: say whose data it was
            raise FerError(error.what, hint=error.hint, path=artifact.path) from error
        work.write("ahm.safetensors", tensors_bytes(result.predictors.to_tensors()))
        work.write("path.parquet", _path_table(result))
        work.write("hierarchy.toml", tree.text.encode("utf-8"))
        fitted = work.commit(
            summary=_summary(result, dataset, path_names, chosen_metric, _own_scores(opened, dataset, validation)),
            protocol=_protocol(artifact, result, chosen_metric, len(validation), numerics, len(train)),
            measured=Measured(
                seconds_by_value={f"{p.predictor} {p.value:.4g}": round(p.seconds, 4) for p in result.path}
            ),
            warnings=list(result.notes),
        )
    for text in result.notes:
        warn(text)
    return Result(fitted, up_to_date=False)


def _reduced(
    dataset: Dataset, shares: Mapping[str, float], seed: int
) -> tuple[NDArray[np.int64], dict[str, ReducedClass]]:
    """Return the training rows of which some classes keep a share, and what each of these keeps.

    The share of a class is a part of any larger share of it: the same images, in one random order.
    """
    train = dataset.rows("train")
    if unknown := [name for name in shares if name not in dataset.classes]:
        raise UsageError(f"--reduce names {unknown[0]!r}", hint=f"the classes are {', '.join(dataset.classes)}")
    kept: dict[str, ReducedClass] = {}
    for name, share in shares.items():
        if not 0 < share < 1:
            raise UsageError(f"--reduce {name}={share:g} is no share", hint="write it as disgust=0.1, above 0, below 1")
        own = train[dataset.labels[train] == dataset.classes.index(name)]
        order = np.random.default_rng([seed, dataset.classes.index(name)]).permutation(own)
        chosen = order[: max(1, round(share * len(own)))]
        train = np.setdiff1d(train, np.setdiff1d(own, chosen))
        kept[name] = ReducedClass(share=float(share), images=len(chosen), of=len(own))
    return train, kept


def _own_scores(features: Features, dataset: Dataset, rows: NDArray[np.int64]) -> ValidationScores | None:
    """Return how the classifier of the model does that the features are of; None where it does not know all classes."""
    if not features.logits or not set(dataset.classes) <= set(features.classes):
        return None
    accuracy, balanced = accuracies(features.probabilities("original", rows, dataset.classes), dataset.labels[rows])
    return ValidationScores(accuracy=accuracy, balanced_accuracy=balanced)


def _name(
    features: Artifact,
    paths: str,
    lambdas: Sequence[float],
    ridge: float,
    metric: str,
    hierarchy: Path | None,
    centring: str,
    reduced: Mapping[str, ReducedClass],
    seed: int,
) -> str:
    """Return the name of the features, and what is other than usual."""
    words = [
        *([] if paths == "shared" else [paths]),
        *([] if hierarchy is None else [f"hierarchy-{hierarchy.stem}"]),
        *([] if tuple(lambdas) == tuple(RELATIVE_LAMBDAS) else ["lambdas", *map(number_word, lambdas)]),
        *([] if ridge == RIDGE else [f"ridge{number_word(ridge)}"]),
        *([] if metric == "accuracy" else [metric]),
        *([] if centring == "features" else [f"centring-{centring}"]),
        *(f"{name}{number_word(one.share)}" for name, one in reduced.items()),
        *([f"seed{seed}"] if reduced and seed else []),
    ]
    return composed_name(features.name, words)


def _centring(centring: str) -> Centring:
    for known in CENTRINGS:
        if centring == known:
            return known
    raise UsageError(f"--centring {centring!r} is not a choice", hint=f"take {', '.join(CENTRINGS)}")


def _check_options(paths: str, lambdas: Sequence[float], ridge: float, metric: str) -> Metric:
    if paths not in PATHS:
        raise UsageError(f"--paths {paths!r} is not a choice", hint=f"take {' or '.join(PATHS)}")
    if not lambdas or not all(1e-12 <= value <= 1e12 for value in lambdas):
        raise UsageError("--lambdas wants numbers from 1e-12 to 1e12", hint="write them as 0.01,1,100")
    if not (np.isfinite(ridge) and 0 <= ridge <= 1):
        raise UsageError(f"--ridge {ridge} is out of range", hint="take 0 to 1")
    for known in METRICS:
        if metric == known:
            return known
    raise UsageError(f"--metric {metric!r} is not a choice", hint=f"take {' or '.join(METRICS)}")


def _hierarchy_input(tree: Hierarchy) -> Input:
    return Input(kind="files", name="hierarchy.toml", content=hashlib.sha256(tree.text.encode("utf-8")).hexdigest())


def _path_table(result: FitResult) -> bytes:
    """Return every point of the paths as a table; ``chosen`` marks what validation chose."""
    points = result.path
    best = {name: validated.setting for name, validated in result.chosen.items()}
    return table_bytes(
        {
            "predictor": [point.predictor for point in points],
            "parameter": [point.setting for point in points],
            "value": [point.value for point in points],
            "relative": [point.relative for point in points],
            "accuracy": [point.accuracy for point in points],
            "balanced_accuracy": [point.balanced_accuracy for point in points],
            "residual": [point.residual for point in points],
            "iterations": [point.iterations for point in points],
            "converged": [point.converged for point in points],
            "chosen": [point == best.get(point.predictor) for point in points],
        }
    )


def _summary(
    result: FitResult, dataset: Dataset, path_names: Sequence[str], metric: Metric, own: ValidationScores | None
) -> AhmSummary:
    validated = result.chosen

    def quality(name: PredictorName) -> float:
        scores = validated[name]
        return scores.accuracy if metric == "accuracy" else scores.balanced_accuracy

    chosen = max(DIRECTIONS, key=quality)
    settings = {name: best.setting.value for name, best in validated.items() if best.setting is not None}
    return AhmSummary(
        headline=f"{chosen}, lambda {settings[chosen]:.4g}; validation accuracy {validated[chosen].accuracy:.1%}, "
        f"logistic {validated['logistic'].accuracy:.1%}",
        chosen=chosen,
        settings={str(name): float(value) for name, value in settings.items()},
        balance=float(result.balance),
        validation={
            name: ValidationScores(accuracy=float(scores.accuracy), balanced_accuracy=float(scores.balanced_accuracy))
            for name, scores in validated.items()
        }
        | ({} if own is None else {SOFTMAX: own}),
        classes=dataset.classes,
        paths=tuple(path_names),
        training_samples=int(result.training_samples),
        dead_features=int(result.dead_features),
        worst_residual=float(max(point.residual for point in result.path if point.residual is not None)),
    )


def _numerics(store: Store, plan: Plan, *, force: bool) -> dict[str, Any]:
    """Return what the fit is computed with: as an equal one that is there was, or here."""
    asked = machine.threads_asked_for()
    there = [] if force else list(finished(store, plan))
    if alike := [record for record in there if asked in {None, record.get("threads")}]:
        return alike[0]
    here = Numerics(**machine.array_numerics()).record()
    if there:
        note_other_version(plan, there[0], here)
    return here


def _protocol(
    features: Artifact, result: FitResult, metric: Metric, images: int, record: dict[str, Any], fitted_on: int
) -> TrainingProtocol:
    lambdas = len({point.value for point in result.path if point.setting == "lambda"})
    Cs = len({point.value for point in result.path if point.setting == "C"})
    selection = Selection(
        split="validation",
        metric=metric,
        what=f"lambda of each direction, the better direction, and C, on {images:,} images ({lambdas} lambdas in 2 "
        f"directions, {Cs} values of C)",
        tried=2 * lambdas + Cs,
    )
    views = FeaturesSummary.of(features).views
    before = TrainingProtocol.of(features)
    numerics = Numerics.model_validate(record) if record else None
    data = before.data.model_copy(update={"n": {**before.data.n, "train": fitted_on}})
    return before.model_copy(
        update={"data": data, "selection": selection, "views": views, "numerics": numerics, "features": before.numerics}
    )
