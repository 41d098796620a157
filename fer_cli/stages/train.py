"""Stage ``train``: a dataset artifact and a recipe in, a model artifact out, or several and a study. Resumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fer_cli import assets, env
from fer_cli.artifacts.store import Plan, Store, Work
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.errors import FerError, UsageError
from fer_cli.faces.masks import Masks, find_masks, open_masks
from fer_cli.models.backbones import check_name
from fer_cli.models.extraction import VIEWS
from fer_cli.models.features import open_features
from fer_cli.models.weights import WeightsFile, find_weights
from fer_cli.processes import barrier, joined, share
from fer_cli.progress import note, track
from fer_cli.recipes import load_recipe
from fer_cli.stages.extract import extract
from fer_cli.stages.result import Result
from fer_cli.stages.study import study_of
from fer_cli.stages.unfinished import CHECKPOINTS, SCRATCH, begin, forget, is_forced, refuse_changed
from fer_cli.training.history import HISTORY, check_tensorboard, history_bytes, recorder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fer_cli.training.system import System

REVISION: Final = 2
SELECT_ON: Final = ("validation", "test")
DEFAULTS: Final = {
    "baseline": "baseline/laptop.toml",
    "conv-cut": "conv-cut/convnext.toml",
    "psa-resnet": "psa-resnet/laptop.toml",
    "slfer": "slfer/laptop.toml",
}
"""The recipe that each system is trained by where none is given."""


@dataclass(frozen=True, slots=True)
class TrainedResult:
    """The models that were trained, one a seed, and the study that holds them where there are several."""

    models: tuple[Result, ...]
    study: Result | None

    @property
    def whole(self) -> Result:
        """The study, or the only model."""
        return self.models[0] if self.study is None else self.study


def recipe_of(system: str, recipe: Path | None, changes: Sequence[str]) -> Any:  # noqa: ANN401 - one form a system
    """Read the recipe of a system, its own where none is given, with changes.

    Raises:
        FerError: it is not a recipe of this system.
    """
    from fer_cli.training.recipe import BaselineRecipe, ConvCutRecipe, PSAResNetRecipe, Recipe, SLFERRecipe

    forms: dict[str, type[Recipe]] = {
        "baseline": BaselineRecipe,
        "conv-cut": ConvCutRecipe,
        "psa-resnet": PSAResNetRecipe,
        "slfer": SLFERRecipe,
    }
    return load_recipe(recipe or assets.recipe(DEFAULTS[system]), forms[system], changes)


@dataclass(frozen=True, slots=True)
class _Job:
    """What all seeds of one call share."""

    store: Store
    system: str
    dataset: Dataset
    masks: Masks | None
    recipe: Any  # one form a system
    weights: WeightsFile | None
    select_on: str
    device: str
    ranks: env.Ranks
    workers: int
    tensorboard: Path | None
    force: bool


def train(
    *,
    store: Store,
    system: str,
    dataset: str | None = None,
    recipe: Path | None = None,
    changes: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    select_on: str = "validation",
    masks: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    tensorboard: Path | None = None,
    force: bool = False,
) -> TrainedResult:
    """Train a system, once a seed.

    The payload is ``model.safetensors``, the weights of the chosen epoch, and ``history.jsonl``, a line an epoch, which
    grows while it trains.

    Args:
        store: where artifacts are.
        system: a key of :data:`DEFAULTS`.
        dataset: reference of the data set; the newest where it is None.
        recipe: a TOML file; the system's own where it is None.
        changes: ``KEY=VALUE`` that replace what the recipe says.
        seeds: of the weights' beginning, the order, the augmentation and the dropout.
        select_on: the split that the epoch is chosen by. ``test`` is for the record: no such number is sound.
        masks: reference of the region maps that SLFER learns; the newest of the data set where it is None.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        workers: threads that prepare batches ahead; they change no result. None: 2 beside a GPU, else 0.
        tensorboard: a folder for TensorBoard, in it one a model.
        force: train anew even where it is up to date or unfinished. To go on with that after a stop is a call without.

    Raises:
        FerError: the recipe, the data set, the weights or the machine is at fault; or an unfinished training of the
            same name has other settings.
        PreemptedError: SIGTERM or SIGUSR1 came; the same call goes on from there.
    """
    read = recipe_of(system, recipe, changes)
    if select_on not in SELECT_ON:
        raise UsageError(f"--select-on {select_on!r} is not a choice", hint=f"take {' or '.join(SELECT_ON)}")
    if not seeds or len(set(seeds)) != len(seeds):
        raise UsageError("--seeds wants different numbers", hint="write them as 0,1,2")
    ranks = env.ranks()
    if read.train.batch % ranks.world:
        raise FerError(
            f"train.batch = {read.train.batch} cannot be shared by {ranks.world} processes",
            hint=f"take a multiple of {ranks.world}",
        )
    if read.train.batch < 2 * ranks.world:
        raise FerError(
            f"train.batch = {read.train.batch} leaves one image to each of {ranks.world} processes",
            hint=f"take {2 * ranks.world} or more: batch norm wants two",
        )
    if tensorboard is not None:
        check_tensorboard(tensorboard)
    env.tune_allocator()
    opened = open_dataset(store.find(dataset, ["dataset"]))
    _check_classes(opened, select_on)
    _check_limit(read.data.limit, len(opened.classes))
    check_name(read.model.backbone)
    weights = find_weights(read.model.backbone, read.model.weights)
    target = env.device_name(device)
    if ranks.local_world > 1 and target == "cpu":
        import torch

        torch.set_num_threads(max(1, env.usable_cpus() // ranks.local_world))
    if workers is None:
        workers = 2 if target.startswith("cuda") else 0
    maps = None
    if system == "slfer" and (read.loss.segmentation or read.loss.components):
        maps = open_masks(find_masks(store, opened.artifact, masks), opened)
    job = _Job(store, system, opened, maps, read, weights, select_on, target, ranks, workers, tensorboard, force)
    with joined(ranks):
        models = tuple(_train_one(job, seed) for seed in seeds)
        study = None
        if len(seeds) > 1 and ranks.rank == 0:
            study = study_of(store, system, [one.artifact for one in models], seeds)
    return TrainedResult(models, study)


def _check_classes(dataset: Dataset, select_on: str) -> None:
    train = dataset.labels[dataset.rows("train")]
    counts = np.bincount(train, minlength=len(dataset.classes))
    if empty := [name for name, count in zip(dataset.classes, counts, strict=True) if not count]:
        raise FerError(
            f"{dataset.artifact.reference} has no training image of {', '.join(empty)}",
            hint="a class without an image cannot be learned: prepare the data set without it",
        )
    dataset.rows(select_on)


def _check_limit(limit: int | None, classes: int) -> None:
    if limit is not None and limit < classes:
        raise FerError(
            f"data.limit = {limit} leaves classes without a training image: there are {classes}",
            hint=f"take data.limit = {classes} or more",
        )


def _train_one(job: _Job, seed: int) -> Result:
    plan, store = _plan(job, seed), job.store
    first = job.ranks.rank == 0
    with ExitStack() as stack:
        if first and not job.force:
            refuse_changed(store, plan)
        goes_on = first and not job.force and is_forced(store, plan)
        work = stack.enter_context(store.make(plan, force=job.force or goes_on, resumable=True)) if first else None
        place = share(None if work is None or work.committed is not None else str(work.directory), job.ranks)
        if place is None:
            return Result(store.open(store.root / plan.kind / plan.name / plan.version), up_to_date=True)
        if work is not None:
            if job.force:
                for path in work.directory.iterdir():
                    path.unlink()
            begin(work.directory, plan, forced=job.force or goes_on)
        barrier(job.ranks)
        try:
            _run(job, seed, plan, Path(place), work)
        finally:
            begun = work is not None and (work.is_sealed or any(work.directory.glob(CHECKPOINTS)))
            if work is not None and work.committed is None and not begun:
                forget(work.directory)  # nothing to go on from
                (work.directory / HISTORY).unlink(missing_ok=True)
        barrier(job.ranks)
        return Result(store.open(store.root / plan.kind / plan.name / plan.version), up_to_date=False)


def _plan(job: _Job, seed: int) -> Plan:
    record = job.recipe.record()
    record["model"] |= {"weights": "none" if job.weights is None else job.weights.sha256()}
    backbone = job.recipe.model.backbone.replace("/", "-").lower()
    return Plan(
        kind="model",
        name="-".join([job.dataset.artifact.name, job.system, backbone, *_variant(job), f"seed{seed}"]),
        stage="train",
        revision=REVISION,
        config={
            "system": job.system,
            **record,
            "seed": seed,
            "select_on": job.select_on,
            "classes": list(job.dataset.classes),
        },
        inputs={
            "dataset": job.dataset.artifact.as_input(),
            **({} if job.masks is None else {"masks": job.masks.artifact.as_input()}),
        },
        seeds=[seed],
    )


def _variant(job: _Job) -> list[str]:
    """Return what tells models of one system apart: how the recipe differs, and which masks were learned."""
    parser = None if job.masks is None else job.masks.artifact.manifest.summary["parser"]
    return [*job.recipe.variant(), *([f"{parser}-masks"] if parser not in {None, "compact"} else [])]


def _run(job: _Job, seed: int, plan: Plan, place: Path, work: Work | None) -> None:
    import torch

    from fer_cli.models.trained import WEIGHTS, cost_of
    from fer_cli.training.engine import Task, fit
    from fer_cli.training.order import repeated
    from fer_cli.training.pictures import limited

    dataset, recipe, device = job.dataset, job.recipe, job.device
    train_rows = dataset.rows("train")
    train_rows = limited(train_rows, dataset.labels[train_rows], recipe.data.limit, seed=0)
    shown = repeated(train_rows, dataset.labels, _times(recipe.data.repeat, dataset.classes))
    if len(shown) < recipe.train.batch:
        raise FerError(
            f"{len(shown):,} training images are fewer than a batch of {recipe.train.batch:,}",
            hint="take a smaller train.batch, or more images",
        )
    built = _build(job, train_rows, seed)
    task = Task(
        network=built.network,
        groups=built.groups,
        inputs=built.inputs,
        targets=built.targets,
        loss=built.loss,
        labels=dataset.labels,
        classes=dataset.classes,
        train=shown,
        validation=dataset.rows(job.select_on),
        mixes_batch=built.told.get("mixes_batch", False),
    )
    steps = recipe.train.epochs * (len(shown) // recipe.train.batch)
    board = None if job.tensorboard is None or work is None else job.tensorboard / f"{plan.name}-{plan.version}"
    with (
        env.stop_on_signal() as stop,
        track(f"train {plan.name}", steps, unit="steps") as advance,
        recorder(None if work is None else place / HISTORY, board) as record,
    ):
        if job.force:
            stop.again = "run the same command without --force to go on"
        trained = fit(
            task,
            recipe,
            seed=seed,
            place=place,
            device=device,
            ranks=job.ranks,
            workers=job.workers,
            stop=stop,
            advance=advance,
            record=record,
        )
    if work is None:
        return
    from safetensors.torch import save

    network = built.whole(trained.tensors)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    cost = cost_of(network, built.preprocessing.size, device)
    work.write(WEIGHTS, save(tensors))
    work.write(HISTORY, history_bytes(trained.history))
    best = trained.history[trained.epoch - 1]
    missed = recipe.model.weights == "try" and job.weights is None
    work.commit(
        summary={
            "headline": f"{', '.join([job.system, *_variant(job), recipe.model.backbone])}: epoch {trained.epoch} of "
            f"{len(trained.history)}, {job.select_on} accuracy {best['accuracy']:.1%}, balanced "
            f"{best['balanced_accuracy']:.1%}",
            "epoch": trained.epoch,
            "epochs": len(trained.history),
            "selected": {name: best[name] for name in ("accuracy", "balanced_accuracy", "macro_f1", "validation_loss")},
            "weights": None if job.weights is None else job.weights.record(),
            "tensors_loaded": built.tensors_loaded,
            "preprocessing": built.preprocessing.record(),
            "training_images": len(train_rows),
            **built.told,
            **cost,
        },
        protocol=_protocol(job, len(train_rows), len(trained.history)),
        measured={
            "seconds": round(trained.seconds, 1),
            "images_per_second": None if np.isnan(trained.images_per_second) else round(trained.images_per_second, 1),
            "batch": recipe.train.batch,
            "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
            "processes": job.ranks.world,
            "threads": torch.get_num_threads(),
            "workers": job.workers,
            "peak_memory": torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else env.peak_memory(),
        },
        warnings=[
            *dataset.artifact.manifest.warnings,
            *(["No pretrained weights were at hand: trained from random ones"] if missed else []),
        ],
        scratch=SCRATCH,  # a full disk or a kill until here is no reason to train again
    )


def _times(repeat: Mapping[str, int], classes: Sequence[str]) -> dict[int, int]:
    for name in repeat:
        if name not in classes:
            raise FerError(f"data.repeat names {name!r}", hint=f"the classes are {', '.join(classes)}")
    return {classes.index(name): count for name, count in repeat.items()}


def _build(job: _Job, rows: NDArray[np.int64], seed: int) -> System:
    if job.system in {"baseline", "psa-resnet"}:
        from fer_cli.training.baseline import baseline

        return baseline(job.recipe, job.dataset, rows, job.weights, seed, job.device)
    if job.system == "slfer":
        from fer_cli.training.slfer import slfer

        return slfer(job.recipe, job.dataset, job.masks, rows, job.weights, seed, job.device)
    from fer_cli.training.conv_cut import conv_cut

    # Hours of work at times: made when the network is known to be one that can be trained.
    kept = None if job.recipe.model.kept == "none" else partial(_kept, job)
    return conv_cut(job.recipe, job.dataset, rows, job.weights, seed, job.device, kept)


def _kept(job: _Job) -> dict[str, NDArray[Any]]:
    """Return the feature maps of both views: a features artifact, which other heads and seeds find again."""
    features = extract(
        store=job.store,
        dataset=job.dataset.artifact.reference,
        backbone=job.recipe.model.backbone,
        level=job.recipe.model.cut,
        size=job.recipe.data.size,
        views=VIEWS,
        weights=job.recipe.model.weights,
        dtype=job.recipe.model.kept,
        device=job.device,
    ).artifact
    note(f"feature maps: {features.reference}")
    return open_features(features, len(job.dataset.images)).views


def _protocol(job: _Job, images: int, epochs: int) -> dict[str, Any]:
    inherited, weights = job.dataset.artifact.manifest.protocol, job.weights
    select = job.recipe.train.select
    return {
        **inherited,
        "n": {**inherited["n"], "train": images},
        "pretraining": "none (random weights)" if weights is None else f"{weights.pretraining} ({weights.source})",
        "selection": {
            "split": job.select_on,
            "metric": select,
            "what": "the last epoch" if select == "last" else "the epoch",
            "tried": 1 if select == "last" else epochs,
        },
    }
