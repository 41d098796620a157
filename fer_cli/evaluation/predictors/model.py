"""Scoring deep models: one, or those of a study with the mean of their probabilities."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import has_parent
from fer_cli.artifacts.manifest import Input
from fer_cli.artifacts.protocol import Batching, TrainingProtocol, Tta, shared_numerics
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ImageForm, Measured, ModelConfig, ModelSummary, Output
from fer_cli.core import machine
from fer_cli.core.errors import FerError
from fer_cli.core.progress import track
from fer_cli.core.toml_text import LEFT_OUT, settings
from fer_cli.datasets.dataset import Dataset
from fer_cli.datasets.fold_view import dataset_of
from fer_cli.evaluation.common_classes import over_common
from fer_cli.evaluation.cross_dataset import other_target, resolve_target
from fer_cli.evaluation.explain import embedded_items, explain
from fer_cli.evaluation.predictor import (
    MEAN,
    EvaluationResult,
    Origin,
    Predictor,
    ReportExtras,
    Rows,
    Tables,
    TrainingRecord,
)
from fer_cli.evaluation.report import command_line
from fer_cli.reporting.curves import METRICS, curves_figure
from fer_cli.reporting.report import Cost, FigureSection, RecipeLine
from fer_cli.systems import registry
from fer_cli.systems.job import START
from fer_cli.training.history import HISTORY
from fer_cli.training.study import models_of

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


@dataclass(kw_only=True)
class ModelsPredictor(Predictor):
    """Models that were trained on the same images, and the mean of their probabilities where there are several.

    ``class_names`` are those of each model, ``trained_on`` is the reference of their dataset, ``fold`` is theirs, and
    ``folds_in_study`` is not 0 where they are those of one fold of a study over all.
    """

    models: dict[str, Artifact]
    class_names: dict[str, tuple[str, ...]]
    opener: Networks
    trained_on: str
    fold: int | None
    folds_in_study: int
    features: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    """What the last layers took of the images that were scored last: a second pass over them would take minutes."""

    def probabilities(self, rows: Rows, tta: Tta) -> tuple[Tables, Measured]:
        """Run the networks."""
        import torch

        from fer_cli.inference.predict import SIZES, predict
        from fer_cli.inference.views import COUNT

        assert self.batching is not None
        dataset, models = self.dataset, self.models
        what = f"score fold {self.fold}" if self.folds_in_study else "score"
        with track(what, len(rows) * len(models)) as advance:
            answers = predict(
                self.networks(),
                dataset.images,
                dataset.labels,
                rows,
                tta=tta,
                batching=self.batching,
                kept=embedded_items(dataset.labels[rows]),
                advance=advance,
            )
        tables = {
            name: over_common(answer.probabilities, self.class_names[name], dataset.classes)[0]
            for name, answer in answers.items()
        }
        self.features.update({name: answer.features for name, answer in answers.items()})
        if len(models) > 1:
            tables[ENSEMBLE] = np.mean([tables[name] for name in models], axis=0)
        seconds = sum(answer.seconds for answer in answers.values())
        views = COUNT[tta]
        return tables, Measured(
            images_per_second=round(len(rows) * views * len(models) / seconds, 1),
            batch=SIZES[self.batching],
            device=machine.device_name(self.opener.device),
            threads=torch.get_num_threads(),
            peak_memory=machine.peak_memory(),
        )

    def networks(self) -> Mapping[str, TrainedModel]:
        """Open the networks of the models."""
        return self.opener.of(self.models)

    def explain(self, result: EvaluationResult) -> tuple[FigureSection, ...]:
        """Show where the chosen model looks, and what its last layer took."""
        which = f"fold {self.fold}" if self.folds_in_study else ""
        return explain(self.models, self.features, result, which)

    def report_extras(self, measured: Measured) -> ReportExtras:
        """Return the system, what a prediction costs, the training's curves and its command."""
        first = next(iter(self.models.values()))
        summary, config = ModelSummary.of(first), ModelConfig.of(first)
        fold = f" of fold {self.fold}" if self.folds_in_study else ""
        notes = {name: ModelSummary.of(model).headline for name, model in self.models.items()}
        if self.folds_in_study:
            notes = dict.fromkeys(self.models, f"{self.folds_in_study} models, each on the fold that it never saw")
        if len(self.models) > 1:
            notes[MEAN] = f"the mean of the scores of {len(self.models)} seeds: what one run scores on average"
            notes[ENSEMBLE] = f"the mean of the probabilities of {len(self.models)} seeds: one system of them all"
        return ReportExtras(
            subtitle=f"{registry.describe(config)}, {summary.preprocessing['size']} px",
            notes=notes,
            cost=Cost(
                parameters=summary.parameters,
                multiply_adds=summary.multiply_adds,
                images_per_second=measured.images_per_second,
                peak_memory=measured.peak_memory,
                device=f"{measured.device}, {measured.threads} threads, batches of {measured.batch}",
            ),
            figures=(
                FigureSection(
                    "training",
                    "Training",
                    f"Loss, validation metrics and learning rate by epoch{fold}; the ring marks the chosen epoch.",
                    training_figure(self.models),
                ),
            ),
            commands=tuple(
                _commands(
                    config,
                    [ModelConfig.of(model).seed for model in self.models.values()],
                    self.trained_on,
                    first.manifest.inputs.get("masks"),
                    first.manifest.inputs.get(START),
                    "all" if self.folds_in_study else self.fold,
                )
            ),
            recipe=_recipe_lines(config),
            facts=tuple(self._facts()),
        )

    def _facts(self) -> Iterator[tuple[str, str]]:
        """Yield what the models' systems measured when they were trained."""
        for name, model in self.models.items():
            facts = registry.load(ModelConfig.of(model).system).facts(ModelSummary.of(model).details)
            yield from ((what if len(self.models) == 1 else f"{what}, {name}", text) for what, text in facts)


def model_predictor(
    store: Store, artifact: Artifact, device: str, batching: Batching | None, data: Artifact | None = None
) -> ModelsPredictor:
    """Open a model artifact on the dataset that it was trained on, with its fold's splits, or on another one."""
    trained_on = _training_data(store, artifact, data)
    return models_predictor(artifact, trained_on, {NETWORK: artifact}, Networks(device), batching, data=data)


def study_predictor(
    store: Store, artifact: Artifact, device: str, batching: Batching | None, data: Artifact | None = None
) -> ModelsPredictor:
    """Open a study of seeds: its models are outputs; so are the means of their scores and of their probabilities."""
    models = models_of(store, artifact)
    trained_on = _training_data(store, next(iter(models.values())), data)
    return models_predictor(artifact, trained_on, models, Networks(device), batching, data=data)


def _training_data(store: Store, model: Artifact, data: Artifact | None) -> Dataset | None:
    """Return the dataset that a model was trained on; None where another is scored and it is not in this store."""
    source = model.manifest.inputs["dataset"]
    if data is not None and data.manifest.content != source.content and not has_parent(store, model, "dataset"):
        return None
    return dataset_of(store, model)


def models_predictor(
    artifact: Artifact,
    trained_on: Dataset | None,
    models: dict[str, Artifact],
    networks: Networks,
    batching: Batching | None,
    *,
    data: Artifact | None = None,
    folds: int = 0,
) -> ModelsPredictor:
    """Open models that were trained on the same images.

    Args:
        artifact: what they are, or are of.
        trained_on: the dataset that they were trained on, with the splits that they saw; None where another one is
            scored and it is not here.
        models: by their outputs' names.
        networks: opens them.
        batching: how images are batched when they score; their own way where it is None.
        data: the dataset to score on, over the classes in common; their own where it is None.
        folds: of the study whose models of one fold these are; 0 where they are all that is scored.

    Raises:
        FerError: they do not know the same classes.
    """
    configs = {name: ModelConfig.of(model) for name, model in models.items()}
    class_names = {name: config.classes for name, config in configs.items()}
    first_name, first = next(iter(configs.items()))
    if other := next((name for name, classes in class_names.items() if set(classes) != set(first.classes)), None):
        raise FerError(
            f"{artifact.reference} holds models of different classes: {other} knows {', '.join(class_names[other])}",
            hint="train the study again",
        )
    protocols = [TrainingProtocol.of(model) for model in models.values()]
    training = protocols[0].model_copy(update=shared_numerics(protocols))
    source = models[first_name].manifest.inputs["dataset"]
    if trained_on is None:
        assert data is not None, "their own dataset is here, or another is scored"
        form = _form(ModelSummary.of(models[first_name]).images)
        target = other_target(artifact.reference, source, form, first.classes, data)
    else:
        source = trained_on.artifact.as_input()
        target = resolve_target(artifact.reference, trained_on, training.data, first.classes, data)
    mixes = any(ModelSummary.of(model).mixes_batch for model in models.values())
    outputs = {
        name: Output(kind="network", seed=config.seed, fold=None if folds else config.fold)
        for name, config in configs.items()
    }
    if len(models) > 1:
        outputs = {MEAN: Output(kind="mean"), **outputs, ENSEMBLE: Output(kind="ensemble")}
    return ModelsPredictor(
        origin=Origin.of(artifact, first.system),
        target=target,
        training=training,
        training_record=None if trained_on is None else _training_record(trained_on, models, class_names, first),
        outputs=outputs,
        chosen=MEAN if len(models) > 1 else first_name,
        batching=batching or ("alone" if mixes else "stored"),
        mixes_batch=mixes,
        cautions=target.cautions,
        models=models,
        class_names=class_names,
        opener=networks,
        trained_on=f"{source.name}@{source.version}",
        fold=first.fold,
        folds_in_study=folds,
    )


def _form(images: ImageForm | None) -> str:
    """Return the form of the images that a model was trained on, in words."""
    if images is None:
        return "form of images not recorded"
    side = "not square" if images.side is None else f"{images.side}x{images.side} px"
    return f"{side}, {'grey' if images.grey else 'colour'}"


def _training_record(
    dataset: Dataset, models: Mapping[str, Artifact], class_names: Mapping[str, tuple[str, ...]], config: ModelConfig
) -> TrainingRecord:
    """Return what the models were trained on, which they share: they differ in their seed alone."""
    rows = dataset.rows("train")
    if (limit := config.recipe["data"]["limit"]) is not None:
        from fer_cli.training.inputs import limited

        rows = limited(rows, dataset.labels[rows], limit, seed=0)
    return TrainingRecord(
        dataset=dataset,
        rows=rows,
        select_on=config.select_on,
        class_names=class_names,
        accuracy={name: ModelSummary.of(model).selected.accuracy for name, model in models.items()},
    )


def read_history(model: Artifact) -> list[dict[str, float]]:
    """Return what a training measured after each epoch."""
    text = model.file(HISTORY).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def training_figure(
    models: Mapping[str, Artifact], title: str = "", subtitle: str = "", paper: float | None = None
) -> Figure:
    """Draw the training of models, by their names; ``paper`` is as of :func:`curves_figure`."""
    metric = ModelConfig.of(next(iter(models.values()))).recipe["train"]["monitor"]
    return curves_figure(
        {name: read_history(model) for name, model in models.items()},
        chosen={name: ModelSummary.of(model).epoch for name, model in models.items()},
        metric=metric if metric in METRICS else "balanced_accuracy",
        title=title,
        subtitle=subtitle,
        paper=paper,
    )


def _recipe_lines(config: ModelConfig) -> tuple[RecipeLine, ...]:
    """Return a model's settings; the weights are as the recipe wants them, random ones apart."""
    ours = settings(config.recipe)
    default = registry.read_recipe(config.system)
    theirs = settings(default)
    if (weights := ours.get("model.weights")) not in {None, '"none"'} and not str(weights).startswith('"model@'):
        ours["model.weights"] = theirs["model.weights"]  # a hash: the protocol says whose
    keys = dict.fromkeys((*ours, *(key for key in theirs if key not in ours)))
    return tuple(
        RecipeLine(key, ours.get(key, LEFT_OUT), "" if ours.get(key) == theirs.get(key) else theirs.get(key, LEFT_OUT))
        for key in keys
    )


def _commands(
    config: ModelConfig,
    seeds: Sequence[int],
    dataset: str,
    masks: Input | None,
    start: Input | None,
    fold: int | str | None,
) -> Iterator[str]:
    """Yield the command that trains the models again: the system's own recipe with everything set as it was."""
    settings = []
    for table, keys in config.recipe.items():
        for key, value in keys.items() if isinstance(keys, dict) else ():
            if isinstance(value, dict):
                settings += [f"{table}.{key}.{name}={json.dumps(one)}" for name, one in value.items()]
            elif (table, key) == ("model", "weights"):
                settings += ["model.weights=none"] if value == "none" else []
                settings += [] if start is None else [f"model.weights=model/{start.name}@{start.version}"]
            elif value is not None:
                settings.append(f"{table}.{key}={json.dumps(value)}")
    line = command_line(
        f"train {config.system}",
        dataset,
        **({} if masks is None else {"masks": f"{masks.name}@{masks.version}"}),
        seeds=",".join(str(seed) for seed in seeds),
        **({} if fold is None else {"fold": fold}),
        select_on=config.select_on,
    )
    yield " ".join([line, *(f"--set {shlex.quote(setting)}" for setting in settings)])
