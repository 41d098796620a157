"""Stage ``train``: a dataset artifact and a recipe in, a model artifact out, or several and a study. Resumes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from filelock import FileLock, Timeout

from fer_cli import assets, env
from fer_cli.artifacts.durable import write_file
from fer_cli.artifacts.manifest import MANIFEST
from fer_cli.artifacts.payload import json_bytes
from fer_cli.artifacts.store import LOCKS, Artifact, Plan, Store, Work
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.errors import FerError, UsageError
from fer_cli.models.backbones import check_name
from fer_cli.models.extraction import VIEWS
from fer_cli.models.features import open_features
from fer_cli.models.weights import WeightsFile, find_weights
from fer_cli.processes import barrier, joined, share
from fer_cli.progress import note, track
from fer_cli.recipes import load_recipe
from fer_cli.stages.extract import extract
from fer_cli.stages.result import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fer_cli.training.system import System

REVISION: Final = 1
FORMAT: Final = 1
SELECT_ON: Final = ("validation", "test")
DEFAULTS: Final = {"baseline": "baseline/laptop.toml", "conv-cut": "conv-cut/convnext.toml"}
"""The recipe that each system is trained by where none is given."""
HISTORY: Final = "history.jsonl"
STUDY: Final = "study.json"
INDEX: Final = "checkpoints.json"
"""Beside the checkpoints of a training that has begun."""
_PLAN: Final = "plan.json"


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
    from fer_cli.training.recipe import BaselineRecipe, ConvCutRecipe, Recipe

    forms: dict[str, type[Recipe]] = {"baseline": BaselineRecipe, "conv-cut": ConvCutRecipe}
    return load_recipe(recipe or assets.recipe(DEFAULTS[system]), forms[system], changes)


def train(
    *,
    store: Store,
    system: str,
    dataset: str | None = None,
    recipe: Path | None = None,
    changes: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    select_on: str = "validation",
    device: str = "auto",
    force: bool = False,
) -> TrainedResult:
    """Train a system, once a seed.

    The payload is ``model.safetensors``, the weights of the chosen epoch, and ``history.jsonl``, a line an epoch.

    Args:
        store: where artifacts are.
        system: ``baseline`` or ``conv-cut``.
        dataset: reference of the data set; the newest where it is None.
        recipe: a TOML file; the system's own where it is None.
        changes: ``KEY=VALUE`` that replace what the recipe says.
        seeds: of the weights' beginning, the order, the augmentation and the dropout.
        select_on: the split that the epoch is chosen by. ``test`` is for the record: no such number is sound.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        force: train anew even where it is up to date or unfinished.

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
    env.tune_allocator()
    opened = open_dataset(store.find(dataset, ["dataset"]))
    _check_classes(opened, select_on)
    check_name(read.model.backbone)
    weights = find_weights(read.model.backbone, read.model.weights)
    target = env.device_name(device)
    if ranks.local_world > 1 and target == "cpu":
        import torch

        torch.set_num_threads(max(1, env.usable_cpus() // ranks.local_world))
    with joined(ranks):
        models = tuple(
            _train_one(store, system, opened, read, weights, seed, select_on, target, ranks, force) for seed in seeds
        )
        study = None if len(seeds) == 1 else _study(store, system, [one.artifact for one in models], seeds, ranks)
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


def _train_one(
    store: Store,
    system: str,
    dataset: Dataset,
    recipe: Any,  # noqa: ANN401 - one form a system
    weights: WeightsFile | None,
    seed: int,
    select_on: str,
    device: str,
    ranks: env.Ranks,
    force: bool,
) -> Result:
    plan = _plan(system, dataset, recipe, weights, seed, select_on)
    with ExitStack() as stack:
        if ranks.rank == 0 and not force:
            _refuse_changed(store, plan)
        work = stack.enter_context(store.make(plan, force=force, resumable=True)) if ranks.rank == 0 else None
        place = share(None if work is None or work.committed is not None else str(work.directory), ranks)
        if place is None:
            return Result(store.open(store.root / plan.kind / plan.name / plan.version), up_to_date=True)
        if work is not None:
            if force:
                for path in work.directory.iterdir():
                    path.unlink()
            write_file(work.directory / _PLAN, json_bytes(_decides(plan)))
        barrier(ranks)
        try:
            _run(store, Path(place), work, plan, dataset, recipe, weights, seed, select_on, device, ranks)
        finally:
            if work is not None and work.committed is None and not (work.directory / INDEX).is_file():
                (work.directory / _PLAN).unlink(missing_ok=True)  # it did not begin: nothing to go on from
        barrier(ranks)
        return Result(store.open(store.root / plan.kind / plan.name / plan.version), up_to_date=False)


def _plan(
    system: str,
    dataset: Dataset,
    recipe: Any,  # noqa: ANN401 - one form a system
    weights: WeightsFile | None,
    seed: int,
    select_on: str,
) -> Plan:
    record = recipe.record()
    record["model"] |= {"weights": "none" if weights is None else weights.sha256()}
    backbone = recipe.model.backbone.replace("/", "-").lower()
    return Plan(
        kind="model",
        name=f"{dataset.artifact.name}-{system}-{backbone}-seed{seed}",
        stage="train",
        revision=REVISION,
        payload_format=FORMAT,
        config={"system": system, **record, "seed": seed, "select_on": select_on, "classes": list(dataset.classes)},
        inputs={"dataset": dataset.artifact.as_input()},
        seeds=[seed],
    )


def _decides(plan: Plan) -> dict[str, Any]:
    """Return, flat and by name, all that decides a training: what a changed one differs in can then be named."""
    flat: dict[str, Any] = {role: source.content for role, source in plan.inputs.items()}

    def walk(prefix: str, table: Mapping[str, Any]) -> None:
        for key, value in table.items():
            if isinstance(value, Mapping):
                walk(f"{prefix}{key}.", value)
            else:
                flat[f"{prefix}{key}"] = value

    walk("", plan.config)
    return flat


def _refuse_changed(store: Store, plan: Plan) -> None:
    """Refuse to begin beside an unfinished training of the same name: a change must not pass for going on."""
    parent = store.root / plan.kind / plan.name
    if (parent / f".partial-{plan.version}" / _PLAN).is_file() or store.holds(plan, MANIFEST):
        return
    for index in sorted(parent.glob(f".partial-*/{INDEX}")):
        path = index.with_name(_PLAN)
        version = path.parent.name.removeprefix(".partial-")
        lock = FileLock(store.root / LOCKS / f"{plan.kind}.{plan.name}.{version}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue  # another process is at it: two trainings side by side are nobody's mistake
        lock.release()
        try:
            before = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue  # killed while it began, or ended
        now = json.loads(json_bytes(_decides(plan)))
        differ = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        key = differ[0] if differ else "fer's own revision"
        what = f"the {key}" if key in plan.inputs else f"{key} = {before.get(key)!r}, now {now.get(key)!r}"
        raise FerError(
            f"an unfinished training of {plan.name} differs in {what}",
            hint="give its settings to go on, or remove it ('fer gc'), or begin this one with --force",
            path=path.parent,
        )


def _run(
    store: Store,
    place: Path,
    work: Work | None,
    plan: Plan,
    dataset: Dataset,
    recipe: Any,  # noqa: ANN401 - one form a system
    weights: WeightsFile | None,
    seed: int,
    select_on: str,
    device: str,
    ranks: env.Ranks,
) -> None:
    import torch

    from fer_cli.losses.cross_entropy import balanced_weights, cross_entropy
    from fer_cli.models.trained import WEIGHTS, cost_of
    from fer_cli.training.checkpoint import remove_checkpoints
    from fer_cli.training.engine import Task, fit
    from fer_cli.training.pictures import class_targets, limited

    built = _build(store, plan, dataset, recipe, weights, seed, device)
    train_rows = dataset.rows("train")
    train_rows = limited(train_rows, dataset.labels[train_rows], recipe.data.limit, seed=0)
    soft = dataset.targets if recipe.loss.soft else None
    class_weights = None
    if recipe.loss.class_weights == "balanced":
        class_weights = torch.from_numpy(balanced_weights(dataset.labels[train_rows], dataset.classes)).to(device)
    task = Task(
        network=built.network,
        groups=built.groups,
        inputs=built.inputs,
        targets=class_targets(dataset.labels, soft, device),
        loss=lambda logits, targets: cross_entropy(
            logits, targets, weights=class_weights, smoothing=recipe.loss.label_smoothing
        ),
        labels=dataset.labels,
        classes=dataset.classes,
        train=train_rows,
        validation=dataset.rows(select_on),
    )
    steps = recipe.train.epochs * (len(train_rows) // recipe.train.batch)
    with env.stop_on_signal() as stop, track(f"train {plan.name}", steps, unit="steps") as advance:
        trained = fit(task, recipe, seed=seed, place=place, device=device, ranks=ranks, stop=stop, advance=advance)
    if work is None:
        return
    from safetensors.torch import save

    network = built.whole(trained.tensors)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    remove_checkpoints(place)
    (place / _PLAN).unlink()
    work.write(WEIGHTS, save(tensors))
    work.write(HISTORY, "".join(json.dumps(line) + "\n" for line in trained.history).encode())
    best = trained.history[trained.epoch - 1]
    work.commit(
        summary={
            "headline": f"{plan.config['system']}, {recipe.model.backbone}: epoch {trained.epoch} of "
            f"{len(trained.history)}, {select_on} accuracy {best['accuracy']:.1%}, balanced "
            f"{best['balanced_accuracy']:.1%}",
            "epoch": trained.epoch,
            "epochs": len(trained.history),
            "selected": {name: best[name] for name in ("accuracy", "balanced_accuracy", "macro_f1", "validation_loss")},
            "weights": None if weights is None else weights.record(),
            "tensors_loaded": built.tensors_loaded,
            "preprocessing": built.preprocessing.record(),
            "training_images": len(train_rows),
            **built.told,
            **cost_of(network, built.preprocessing.size, device),
        },
        protocol=_protocol(dataset, recipe, weights, select_on, len(train_rows), len(trained.history)),
        measured={
            "seconds": round(trained.seconds, 1),
            "images_per_second": None if np.isnan(trained.images_per_second) else round(trained.images_per_second, 1),
            "batch": recipe.train.batch,
            "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
            "processes": ranks.world,
            "threads": torch.get_num_threads(),
            "peak_memory": torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else env.peak_memory(),
        },
        warnings=dataset.artifact.manifest.warnings,
    )


def _build(
    store: Store,
    plan: Plan,
    dataset: Dataset,
    recipe: Any,  # noqa: ANN401 - one form a system
    weights: WeightsFile | None,
    seed: int,
    device: str,
) -> System:
    if plan.config["system"] == "baseline":
        from fer_cli.training.baseline import baseline

        return baseline(recipe, dataset, weights, seed, device)
    from fer_cli.training.conv_cut import conv_cut

    kept = None if recipe.model.kept == "none" else _kept(store, dataset, recipe, device)
    return conv_cut(recipe, dataset, weights, seed, device, kept)


def _kept(
    store: Store,
    dataset: Dataset,
    recipe: Any,  # noqa: ANN401 - one form a system
    device: str,
) -> dict[str, NDArray[Any]]:
    """Return the feature maps of both views: a features artifact, which other heads and seeds find again."""
    features = extract(
        store=store,
        dataset=dataset.artifact.reference,
        backbone=recipe.model.backbone,
        level=recipe.model.cut,
        size=recipe.data.size,
        views=VIEWS,
        weights=recipe.model.weights,
        dtype=recipe.model.kept,
        device=device,
    ).artifact
    note(f"feature maps: {features.reference}")
    return open_features(features, len(dataset.images)).views


def _protocol(
    dataset: Dataset,
    recipe: Any,  # noqa: ANN401 - one form a system
    weights: WeightsFile | None,
    select_on: str,
    images: int,
    epochs: int,
) -> dict[str, Any]:
    inherited = dataset.artifact.manifest.protocol
    return {
        **inherited,
        "n": {**inherited["n"], "train": images},
        "pretraining": "none (random weights)" if weights is None else f"{weights.pretraining} ({weights.source})",
        "selection": {
            "split": select_on,
            "metric": recipe.train.select,
            "what": "the last epoch" if recipe.train.select == "last" else "the epoch",
            "tried": 1 if recipe.train.select == "last" else epochs,
        },
    }


def _study(
    store: Store, system: str, models: Sequence[Artifact], seeds: Sequence[int], ranks: env.Ranks
) -> Result | None:
    """Put the models of several seeds together."""
    if ranks.rank:
        return None
    name = models[0].name.rpartition("-seed")[0]
    plan = Plan(
        kind="study",
        name=name,
        stage="train",
        revision=REVISION,
        payload_format=FORMAT,
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
        work.write(
            "study.json", json_bytes({"models": [model.as_input().model_dump() for model in models], **selected})
        )
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
