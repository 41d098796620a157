"""Scoring deep models: one, or those of a study with the mean of their probabilities."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli import env
from fer_cli.artifacts.manifest import Input
from fer_cli.artifacts.payload import read_json
from fer_cli.artifacts.store import Artifact, Store
from fer_cli.artifacts.upkeep import open_parent
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.errors import FerError
from fer_cli.evaluation.common_classes import over_common
from fer_cli.progress import track
from fer_cli.reporting.charts import Curve, Series
from fer_cli.reporting.report import Cost
from fer_cli.stages.cross import ground
from fer_cli.stages.evaluation_report import command_line
from fer_cli.stages.looked_at import drawn, look
from fer_cli.stages.scored import Learned, Origin, Rows, Subject, Told
from fer_cli.stages.study import STUDY
from fer_cli.training.history import HISTORY

if TYPE_CHECKING:
    from fer_cli.models.trained import TrainedModel

SHARES: Final = ("accuracy", "balanced accuracy", "macro F1")
NETWORK: Final = "network"
ENSEMBLE: Final = "ensemble"


def model_subject(
    store: Store, artifact: Artifact, device: str, batching: str | None, data: Artifact | None = None
) -> Subject:
    """Open a model artifact on the data set that it was trained on, or on another one."""
    dataset = open_dataset(open_parent(store, artifact, "dataset"))
    return _subject(artifact, dataset, {NETWORK: artifact}, device, batching, data)


def study_subject(
    store: Store, artifact: Artifact, device: str, batching: str | None, data: Artifact | None = None
) -> Subject:
    """Open a study: every model of it is a predictor, and so is the mean of their probabilities."""
    models = models_of(store, artifact)
    dataset = open_dataset(open_parent(store, next(iter(models.values())), "dataset"))
    return _subject(artifact, dataset, models, device, batching, data)


def models_of(store: Store, artifact: Artifact) -> dict[str, Artifact]:
    """Return the models of a study by name, or the one that a model artifact is."""
    if artifact.kind == "model":
        return {f"seed {artifact.manifest.config['seed']}": artifact}
    entries = read_json(artifact.file(STUDY))["models"]
    models = [store.find(f"model/{entry['name']}@{entry['version']}", ["model"]) for entry in entries]
    return {f"seed {model.manifest.config['seed']}": model for model in models}


def _subject(
    artifact: Artifact,
    learned: Dataset,
    models: dict[str, Artifact],
    device: str,
    batching: str | None,
    data: Artifact | None,
) -> Subject:
    names = (*models, *([ENSEMBLE] if len(models) > 1 else []))
    named = {name: tuple(model.manifest.config["classes"]) for name, model in models.items()}
    first = next(iter(named.values()))
    if other := next((name for name, classes in named.items() if set(classes) != set(first)), None):
        raise FerError(
            f"{artifact.reference} holds models of different classes: {other} knows {', '.join(named[other])}",
            hint="train the study again",
        )
    on = ground(artifact, learned, first, data)
    dataset = on.dataset
    mixes = any(model.manifest.summary.get("mixes_batch") for model in models.values())
    how = batching or ("alone" if mixes else "stored")
    # What the last layers take is kept on the way, for a report: a second pass over the images would take minutes.
    taken: dict[str, NDArray[np.float32]] = {}

    opened: dict[str, TrainedModel] = {}

    def networks() -> dict[str, TrainedModel]:
        if not opened:
            env.tune_allocator()
            target = env.device_name(device)
            from fer_cli.models.trained import open_trained

            opened.update({name: open_trained(model, target) for name, model in models.items()})
        return opened

    def probabilities(rows: Rows, tta: str) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
        from fer_cli.models.answers import SIZES, answer

        with track("score", len(rows) * len(models)) as advance:
            said = answer(
                networks(),
                dataset.images,
                dataset.labels,
                rows,
                tta=tta,
                batching=how,
                kept=drawn(dataset.labels[rows]),
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
            "device": env.device_name(device),
            "threads": torch.get_num_threads(),
            "peak_memory": env.peak_memory(),
        }

    return Subject(
        origin=Origin.of(artifact),
        dataset=dataset,
        protocol=on.protocol,
        predictors=names,
        chosen=names[0],
        reference=None,
        probabilities=probabilities,
        told=lambda measured: _told(models, learned, measured),
        batching=how,
        mixes_batch=mixes,
        look=lambda scored: look(models, taken, scored),
        learned=_learned(learned, models, named),
        networks=networks,
        cautions=on.cautions,
    )


def _learned(dataset: Dataset, models: Mapping[str, Artifact], named: Mapping[str, tuple[str, ...]]) -> Learned:
    """Return what the models learned from; those of a study share all but their seed."""
    config = next(iter(models.values())).manifest.config
    rows = dataset.rows("train")
    if (limit := config["data"]["limit"]) is not None:
        from fer_cli.training.pictures import limited

        rows = limited(rows, dataset.labels[rows], limit, seed=0)
    return Learned(
        dataset=dataset,
        trained=rows,
        select_on=config["select_on"],
        named=named,
        recorded={name: float(model.manifest.summary["selected"]["accuracy"]) for name, model in models.items()},
    )


def _told(
    models: Mapping[str, Artifact],
    dataset: Dataset,
    measured: Mapping[str, Any],
) -> Told:
    first = next(iter(models.values()))
    summary, config = first.manifest.summary, first.manifest.config
    notes = {name: str(model.manifest.summary["headline"]) for name, model in models.items()}
    if len(models) > 1:
        notes[ENSEMBLE] = "the mean of the models' probabilities"
    return Told(
        subtitle=f"{config['system']}, {config['model']['backbone']}, {summary['preprocessing']['size']} px",
        notes=notes,
        cost=Cost(
            parameters=summary["parameters"],
            multiply_adds=summary["multiply_adds"],
            images_per_second=measured.get("images_per_second"),
            peak_memory=measured.get("peak_memory"),
            device=f"{measured['device']}, {measured['threads']} threads, batches of {measured['batch']}",
        ),
        curves=tuple(_curves(models)),
        commands=tuple(
            _commands(
                config,
                [model.manifest.config["seed"] for model in models.values()],
                dataset,
                first.manifest.inputs.get("masks"),
            )
        ),
    )


def read_history(model: Artifact) -> list[dict[str, float]]:
    """Return what a training measured after each epoch."""
    text = model.file(HISTORY).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _curves(models: Mapping[str, Artifact]) -> Iterator[Curve]:
    """Yield loss and validation scores by epoch of the first model."""
    name, model = next(iter(models.items()))
    history = read_history(model)
    chosen = model.manifest.summary["epoch"] - 1
    metric = model.manifest.config["train"]["select"].replace("_", " ").replace("f1", "F1")
    of = "" if len(models) == 1 else f", {name}"
    x = tuple(line["epoch"] for line in history)

    def lines(**keys: str) -> tuple[Series, ...]:
        return tuple(
            Series(label.replace("_", " "), tuple(line[key] for line in history)) for label, key in keys.items()
        )

    yield Curve(
        title=f"Loss by epoch{of}",
        x_label="epoch",
        y_label="loss",
        percent=False,
        x=x,
        series=lines(training="train_loss", validation="validation_loss"),
        chosen=("validation", chosen),
    )
    yield Curve(
        title=f"Validation scores by epoch{of}",
        x_label="epoch",
        y_label="share",
        x=x,
        series=lines(accuracy="accuracy", balanced_accuracy="balanced_accuracy", macro_F1="macro_f1"),
        chosen=(metric if metric in SHARES else "accuracy", chosen),
    )


def _commands(config: Mapping[str, Any], seeds: Sequence[int], dataset: Dataset, masks: Input | None) -> Iterator[str]:
    """Yield the command that trains the models again: the system's own recipe with everything set as it was."""
    settings = []
    for table in ("data", "model", "augmentation", "loss", "optim", "schedule", "train"):
        for key, value in config[table].items():
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
        select_on=config["select_on"],
    )
    yield " ".join([line, *(f"--set {shlex.quote(setting)}" for setting in settings)])
