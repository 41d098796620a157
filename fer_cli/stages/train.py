"""Stage ``train``: a dataset artifact and a recipe in, a model artifact out, or several and a study. Resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.protocol import DatasetProtocol, StartingWeights
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.sections import SplitName
from fer_cli.artifacts.store import Store
from fer_cli.core import assets, distributed, machine
from fer_cli.core.distributed import process_group
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.progress import note
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.datasets.fold_view import Seen, seen
from fer_cli.faces.masks import Masks, find_masks, open_masks
from fer_cli.inference.extraction import VIEWS
from fer_cli.models.backbones import check_name
from fer_cli.models.features import Features, open_features
from fer_cli.stages.soft_targets import soft_targets
from fer_cli.systems import registry
from fer_cli.systems.job import Job, described, train_one
from fer_cli.systems.recipe_sources import find_source
from fer_cli.systems.starting_weights import find_starting_weights
from fer_cli.training.loggers import check_loggers
from fer_cli.training.recipe import Recipe
from fer_cli.training.study import study_of
from fer_cli.weights.files import WeightsFile

if TYPE_CHECKING:
    from fer_cli.systems.base import FeatureCache, System
    from fer_cli.training.recipe import Backbone

SELECT_ON: Final[tuple[SplitName, ...]] = ("validation", "test")


@dataclass(frozen=True, slots=True)
class TrainedResult:
    """The trained models, one per seed and fold, and the study that holds them where there are several."""

    models: tuple[Result, ...]
    study: Result | None

    @property
    def whole(self) -> Result:
        """The study, or the only model."""
        return self.models[0] if self.study is None else self.study


def train(
    *,
    store: Store,
    system: str,
    dataset: str | None = None,
    recipe: Path | str | Recipe | None = None,
    changes: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    fold: int | Literal["all"] | None = None,
    select_on: str = "validation",
    masks: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    tensorboard: Path | None = None,
    log: Sequence[str] = (),
    force: bool = False,
    name: str | None = None,
) -> TrainedResult:
    """Train a system once per seed, and once per fold where all are asked for.

    The payload is ``model.safetensors``, the weights of the chosen epoch, and ``history.jsonl``, a line per epoch,
    which grows while it trains.

    Args:
        store: where artifacts are.
        system: its name in :mod:`fer_cli.systems.registry`.
        dataset: reference of the dataset; the newest where it is None.
        recipe: a TOML file, the name of a recipe that comes with a system, or the reference of a model, a
            study or a search that holds one; the system's own where it is None. Or one
            that was read before.
        changes: ``KEY=VALUE`` that replace what the recipe says.
        seeds: of the initial weights, the order, the augmentation and the dropout.
        fold: which fold of the dataset is the test split; ``all`` trains one model per fold and makes a study of them.
            None: the dataset's own splits.
        select_on: the split that the epoch is chosen by. ``test`` is for the record: no such number is sound.
        masks: reference of the region maps, of a system that is trained with them; the newest of the dataset where it
            is None.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        workers: threads that prefetch batches; they change no result. None: 2 with a GPU, else 0.
        tensorboard: a folder for TensorBoard, with a folder per model.
        log: services that it is logged to, ``wandb`` and ``mlflow``, which are configured by their own environment
            variables; a fault of one is said and does not stop the training.
        force: train again even where it is up to date or unfinished. Resume that one by a call without.
        name: of the models, before their fold and seed, and of the study; None: data set, system, backbone and the
            settings that differ from the system's recipes.

    Raises:
        FerError: the recipe, the dataset, the weights or the machine is at fault.
        PreemptedError: a stop signal came; all is saved, and the same call resumes.
    """
    trainer = registry.load(system)
    if isinstance(recipe, Recipe):
        assert not changes, "a recipe that was read is changed already"
        settings: Any = recipe
    else:
        settings = find_source(system if recipe is None else recipe, store).read(system, changes)
    selection_split = _selection_split(select_on)
    if masks is not None and not trainer.uses_masks:
        raise UsageError(f"--masks is not for {system}, which is trained without masks", hint="leave it out")
    if not seeds or len(set(seeds)) != len(seeds):
        raise UsageError("--seeds must be different numbers", hint="write them as 0,1,2")
    ranks = distributed.ranks()
    if settings.train.batch % ranks.world:
        raise FerError(
            f"train.batch = {settings.train.batch} cannot be shared by {ranks.world} processes",
            hint=f"take a multiple of {ranks.world}",
        )
    if settings.train.batch < 2 * ranks.world:
        raise FerError(
            f"train.batch = {settings.train.batch} leaves one image to each of {ranks.world} processes",
            hint=f"take {2 * ranks.world} or more: batch norm wants two",
        )
    check_loggers(log, tensorboard)
    machine.tune_allocator()
    data = store.find(dataset, ["dataset"])
    folds = _folds(data, fold)
    _check_limit(settings.data.limit, len(DatasetProtocol.of(data).classes))
    weights = None if settings.backbone is None else _weights(store, settings.backbone, trainer)
    if weights is not None and weights.model is not None:  # exactly that one, in the recipe that is kept too
        began = settings.model.model_copy(update={"weights": weights.model.reference})
        settings = settings.model_copy(update={"model": began})
    regions = find_masks(store, data, masks) if trainer.needs(settings).masks else None

    @cache
    def opened() -> Dataset:
        return open_dataset(data)

    @cache
    def views() -> dict[int | None, Seen]:
        found = {number: seen(opened(), number) for number in folds}
        for view in found.values():
            _check_classes(view.dataset, selection_split)
        return found

    @cache
    def opened_masks() -> Masks | None:
        return None if regions is None else open_masks(regions, opened())

    answers = None
    if settings.distill.teacher is not None:
        if fold is not None:
            raise UsageError("distill.teacher is not for folds", hint="train on the dataset's own splits")
        answers = soft_targets(store, settings.distill.teacher, opened(), device=device, ranks=ranks).artifact
    jobs = [
        Job(
            store=store,
            system=trainer,
            data=data,
            fold=number,
            open_data=partial(lambda number: views()[number], number),
            masks=regions,
            open_masks=opened_masks,
            recipe=settings,
            weights=weights,
            select_on=selection_split,
            device=device,
            ranks=ranks,
            workers=workers,
            tensorboard=tensorboard,
            log=log,
            force=force,
            soft_targets=answers,
            start=None
            if weights is None or weights.model is None
            else _start(store, weights.model, views()[number].dataset),
            name=name,
            open_feature_cache=_feature_cache,
        )
        for number in folds
    ]
    with process_group(ranks):
        models = tuple(train_one(job, seed) for seed in seeds for job in jobs)
        study = None
        if len(models) > 1 and ranks.rank == 0:
            tested = [number for number in folds if number is not None] if fold == "all" else []
            members = [model.artifact for model in models]
            study = study_of(store, system, members, seeds, tested, what=described(jobs[0]))
    return TrainedResult(models, study)


def _start(store: Store, model: Artifact, dataset: Dataset) -> StartingWeights:
    from fer_cli.evaluation.ancestors import starting_weights  # what is up to date needs none of its libraries

    return starting_weights(store, model, dataset)


def _weights(store: Store, backbone: Backbone, system: System[Any]) -> WeightsFile | None:
    try:
        return find_starting_weights(store, backbone.backbone, backbone.weights)
    except FerError as error:
        check_name(backbone.backbone)  # where the name is wrong, that is what to say
        ready = system.ready_recipe
        usual = _of_recipe(system, system.default_recipe)
        if ready is None or (backbone.backbone, backbone.weights) != (usual.backbone, usual.weights):
            raise
        other = _of_recipe(system, assets.recipe(f"{ready}.toml")).backbone
        hint = f"take --recipe {ready}: {other}, whose weights come in a package"
        raise FerError(error.what, hint=f"{error.hint}; or {hint}", path=error.path) from error


def _of_recipe(system: System[Any], path: Path) -> Backbone:
    backbone: Backbone | None = registry.read_recipe(system.name, path).backbone
    assert backbone is not None, "a recipe with weights has a backbone"
    return backbone


def _feature_cache(job: Job, cache: FeatureCache) -> Features:
    """Return the feature maps of both views: a features artifact, which other heads and seeds find again."""
    from fer_cli.stages.extract import extract

    features = extract(
        store=job.store,
        dataset=job.data.reference,
        backbone=job.recipe.backbone.backbone,
        level=cache.level,
        size=job.recipe.data.size,
        views=VIEWS,
        weights=job.recipe.backbone.weights,
        dtype=cache.dtype,
        device=job.device,
    ).artifact
    note(f"feature maps: {features.reference}")
    return open_features(features, job.data)


def _folds(data: Artifact, fold: int | Literal["all"] | None) -> list[int | None]:
    if fold != "all":
        return [fold]
    folds = DatasetProtocol.of(data).folds
    return [0] if folds is None else list(range(folds.number))  # the fold that is not there is refused by name


def _selection_split(select_on: str) -> SplitName:
    for split in SELECT_ON:
        if split == select_on:
            return split
    raise UsageError(f"--select-on {select_on!r} is not a choice", hint=f"take {' or '.join(SELECT_ON)}")


def _check_classes(dataset: Dataset, select_on: str) -> None:
    if len(dataset.classes) < 2:
        raise FerError(
            f"{dataset.artifact.reference} has a single class, {dataset.classes[0]}: nothing to learn",
            hint="prepare a dataset with two classes or more",
        )
    train = dataset.labels[dataset.rows("train")]
    counts = np.bincount(train, minlength=len(dataset.classes))
    if empty := [name for name, count in zip(dataset.classes, counts, strict=True) if not count]:
        raise FerError(
            f"{dataset.artifact.reference} has no training image of {', '.join(empty)}",
            hint="a class without an image cannot be learned: prepare the dataset without it",
        )
    if select_on not in dataset.split_names and dataset.folds is not None:
        raise FerError(
            f"a fold of {dataset.artifact.reference} has no {select_on} images to choose an epoch by",
            hint="make the folds again, 'fer split' without --validation 0",
        )
    dataset.rows(select_on)


def _check_limit(limit: int | None, classes: int) -> None:
    if limit is not None and limit < classes:
        raise FerError(
            f"data.limit = {limit} leaves classes without a training image: there are {classes}",
            hint=f"take data.limit = {classes} or more",
        )
