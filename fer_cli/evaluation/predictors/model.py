"""Scoring deep models: one, or those of a study with the mean of their probabilities."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.manifest import Input
from fer_cli.artifacts.payload import read_json
from fer_cli.artifacts.store import Artifact, Store
from fer_cli.core import machine
from fer_cli.core.errors import FerError
from fer_cli.core.progress import track
from fer_cli.datasets.dataset import Dataset
from fer_cli.datasets.fold_view import dataset_of
from fer_cli.evaluation.common_classes import over_common
from fer_cli.evaluation.cross_dataset import resolve_target
from fer_cli.evaluation.explain import embedded_items, explain
from fer_cli.evaluation.predictor import Origin, Predictor, ReportExtras, Rows, TrainingRecord
from fer_cli.evaluation.report import command_line
from fer_cli.reporting.curves import METRICS, curves_figure
from fer_cli.reporting.report import Cost, FigureSection
from fer_cli.systems import registry
from fer_cli.training.history import HISTORY
from fer_cli.training.study import STUDY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fer_cli.models.trained import TrainedModel

NETWORK: Final = "network"
ENSEMBLE: Final = "ensemble"


class Networks:
    """Opens networks when they are wanted and keeps the last set of them alone: many folds would fill the memory."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._models: Mapping[str, Artifact] = {}
        self._opened: dict[str, TrainedModel] = {}

    def of(self, models: Mapping[str, Artifact]) -> Mapping[str, TrainedModel]:
        """Return the networks of models, by the same names."""
        if models is not self._models:
            machine.tune_allocator()
            target = machine.device_name(self.device)
            from fer_cli.systems.trained import open_trained

            self._models, self._opened = {}, {}
            self._opened = {name: open_trained(model, target) for name, model in models.items()}
            self._models = models
        return self._opened


def model_predictor(
    store: Store, artifact: Artifact, device: str, batching: str | None, data: Artifact | None = None
) -> Predictor:
    """Open a model artifact on the data set that it was trained on, with its fold's splits, or on another one."""
    return models_predictor(
        artifact, dataset_of(store, artifact), {NETWORK: artifact}, Networks(device), batching, data=data
    )


def study_predictor(
    store: Store, artifact: Artifact, device: str, batching: str | None, data: Artifact | None = None
) -> Predictor:
    """Open a study of seeds: every model of it is a predictor, and so is the mean of their probabilities."""
    models = models_of(store, artifact)
    dataset = dataset_of(store, next(iter(models.values())))
    return models_predictor(artifact, dataset, models, Networks(device), batching, data=data)


def models_of(store: Store, artifact: Artifact) -> dict[str, Artifact]:
    """Return the models of a study by name, or the one that a model artifact is."""
    if artifact.kind == "model":
        return by_seed([artifact])
    entries = read_json(artifact.file(STUDY))["models"]
    models = [store.find(f"model/{entry['name']}@{entry['version']}", ["model"]) for entry in entries]
    if "folds" not in artifact.manifest.config:
        return by_seed(models)
    several = len(artifact.manifest.seeds) > 1
    configs = [model.manifest.config for model in models]
    names = [f"fold {one['fold']}{', seed ' + str(one['seed']) if several else ''}" for one in configs]
    return dict(zip(names, models, strict=True))


def by_seed(models: Sequence[Artifact]) -> dict[str, Artifact]:
    """Return models by the names that they have as predictors."""
    return {f"seed {model.manifest.config['seed']}": model for model in models}


def models_predictor(
    artifact: Artifact,
    learned: Dataset,
    models: dict[str, Artifact],
    networks: Networks,
    batching: str | None,
    *,
    data: Artifact | None = None,
    folds: int = 0,
) -> Predictor:
    """Open models that learned from the same images.

    Args:
        artifact: what they are, or are of.
        learned: the data set that they were trained on, with the splits that they saw.
        models: by their predictors' names.
        networks: opens them.
        batching: what stands beside an image when they score it; their own way where it is None.
        data: the data set to score on, over the classes in common; their own where it is None.
        folds: of the study whose models of one fold these are; 0 where they are all that is scored.

    Raises:
        FerError: they do not know the same classes.
    """
    names = (*models, *([ENSEMBLE] if len(models) > 1 else []))
    named = {name: tuple(model.manifest.config["classes"]) for name, model in models.items()}
    first = next(iter(named.values()))
    if other := next((name for name, classes in named.items() if set(classes) != set(first)), None):
        raise FerError(
            f"{artifact.reference} holds models of different classes: {other} knows {', '.join(named[other])}",
            hint="train the study again",
        )
    on = resolve_target(artifact, learned, first, data)
    dataset = on.dataset
    mixes = any(model.manifest.summary.get("mixes_batch") for model in models.values())
    how = batching or ("alone" if mixes else "stored")
    fold = next(iter(models.values())).manifest.config.get("fold")
    # What the last layers take is kept on the way, for a report: a second pass over the images would take minutes.
    taken: dict[str, NDArray[np.float32]] = {}

    def probabilities(rows: Rows, tta: str) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
        from fer_cli.inference.predict import SIZES, predict

        with track(f"score fold {fold}" if folds else "score", len(rows) * len(models)) as advance:
            said = predict(
                networks.of(models),
                dataset.images,
                dataset.labels,
                rows,
                tta=tta,
                batching=how,
                kept=embedded_items(dataset.labels[rows]),
                advance=advance,
            )
        found = {
            name: over_common(answers.probabilities, named[name], dataset.classes)[0] for name, answers in said.items()
        }
        taken.update({name: answers.features for name, answers in said.items()})
        seconds = sum(answers.seconds for answers in said.values())
        if len(models) > 1:
            found[ENSEMBLE] = np.mean([found[name] for name in models], axis=0)
        import torch

        views = 1 if tta == "none" else 2
        return found, {
            "images_per_second": round(len(rows) * views * len(models) / seconds, 1),
            "batch": SIZES[how],
            "device": machine.device_name(networks.device),
            "threads": torch.get_num_threads(),
            "peak_memory": machine.peak_memory(),
        }

    return Predictor(
        origin=Origin.of(artifact),
        dataset=dataset,
        protocol=on.protocol,
        predictors=names,
        chosen=names[0],
        reference=None,
        probabilities=probabilities,
        told=lambda measured: _told(models, learned, measured, folds),
        batching=how,
        mixes_batch=mixes,
        look=lambda scored: explain(models, taken, scored, f"fold {fold}" if folds else ""),
        learned=_learned(learned, models, named),
        networks=lambda: networks.of(models),
        cautions=on.cautions,
    )


def _learned(dataset: Dataset, models: Mapping[str, Artifact], named: Mapping[str, tuple[str, ...]]) -> TrainingRecord:
    """Return what the models learned from, which they share: they differ in their seed alone."""
    config = next(iter(models.values())).manifest.config
    rows = dataset.rows("train")
    if (limit := config["data"]["limit"]) is not None:
        from fer_cli.training.inputs import limited

        rows = limited(rows, dataset.labels[rows], limit, seed=0)
    return TrainingRecord(
        dataset=dataset,
        trained=rows,
        select_on=config["select_on"],
        named=named,
        recorded={name: float(model.manifest.summary["selected"]["accuracy"]) for name, model in models.items()},
    )


def _told(models: Mapping[str, Artifact], dataset: Dataset, measured: Mapping[str, Any], folds: int) -> ReportExtras:
    first = next(iter(models.values()))
    summary, config = first.manifest.summary, first.manifest.config
    fold = f" of fold {config['fold']}" if folds else ""
    notes = {name: str(model.manifest.summary["headline"]) for name, model in models.items()}
    if folds:
        notes = dict.fromkeys(models, f"{folds} models, each on the fold that it never saw")
    if len(models) > 1:
        notes[ENSEMBLE] = "the mean of the models' probabilities"
    return ReportExtras(
        subtitle=f"{registry.describe(config)}, {summary['preprocessing']['size']} px",
        notes=notes,
        cost=Cost(
            parameters=summary["parameters"],
            multiply_adds=summary["multiply_adds"],
            images_per_second=measured.get("images_per_second"),
            peak_memory=measured.get("peak_memory"),
            device=f"{measured['device']}, {measured['threads']} threads, batches of {measured['batch']}",
        ),
        figures=(
            FigureSection(
                "training",
                "Training",
                f"Loss, validation metrics and learning rate by epoch{fold}; the ring is the epoch that was chosen.",
                training_figure(models),
            ),
        ),
        commands=tuple(
            _commands(
                config,
                [model.manifest.config["seed"] for model in models.values()],
                dataset,
                first.manifest.inputs.get("masks"),
                "all" if folds else config.get("fold"),
            )
        ),
    )


def read_history(model: Artifact) -> list[dict[str, float]]:
    """Return what a training measured after each epoch."""
    text = model.file(HISTORY).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def training_figure(models: Mapping[str, Artifact], title: str = "", subtitle: str = "") -> Figure:
    """Draw the training of models, by their names."""
    metric = next(iter(models.values())).manifest.config["train"]["monitor"]
    return curves_figure(
        {name: read_history(model) for name, model in models.items()},
        chosen={name: model.manifest.summary["epoch"] for name, model in models.items()},
        metric=metric if metric in METRICS else "balanced_accuracy",
        title=title,
        subtitle=subtitle,
    )


def _commands(
    config: Mapping[str, Any], seeds: Sequence[int], dataset: Dataset, masks: Input | None, fold: int | str | None
) -> Iterator[str]:
    """Yield the command that trains the models again: the system's own recipe with everything set as it was."""
    settings = []
    for table, keys in config.items():
        for key, value in keys.items() if isinstance(keys, dict) else ():
            if isinstance(value, dict):
                settings += [f"{table}.{key}.{name}={json.dumps(one)}" for name, one in value.items()]
            elif (table, key) == ("model", "weights"):
                settings += ["model.weights=none"] if value == "none" else []
            elif value is not None:
                settings.append(f"{table}.{key}={json.dumps(value)}")
    line = command_line(
        f"train {config['system']}",
        f"{dataset.artifact.name}@{dataset.artifact.version}",
        **({} if masks is None else {"masks": f"{masks.name}@{masks.version}"}),
        seeds=",".join(str(seed) for seed in seeds),
        **({} if fold is None else {"fold": fold}),
        select_on=config["select_on"],
    )
    yield " ".join([line, *(f"--set {shlex.quote(setting)}" for setting in settings)])
