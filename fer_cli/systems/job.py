"""One training of stage ``train``: what it is given, its plan, the run itself and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.checksums import AnyArray
from fer_cli.artifacts.manifest import MANIFEST, Input
from fer_cli.artifacts.naming import composed_name, slug
from fer_cli.artifacts.protocol import (
    DatasetProtocol,
    Numerics,
    Selection,
    StartingWeights,
    Teacher,
    TrainingProtocol,
)
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.runner import run
from fer_cli.artifacts.sections import SplitName
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ImageForm, MasksSummary, Measured, ModelConfig, ModelSummary, SelectedScores
from fer_cli.artifacts.work import Plan, Work
from fer_cli.core import distributed, machine, signals
from fer_cli.core.distributed import broadcast_object
from fer_cli.core.errors import FerError
from fer_cli.core.progress import note, warn
from fer_cli.core.toml_text import toml_text
from fer_cli.datasets.dataset import Dataset
from fer_cli.datasets.fold_view import Seen
from fer_cli.faces.masks import Masks
from fer_cli.models.backbones import check_name
from fer_cli.models.trained import WEIGHTS
from fer_cli.systems.naming import recipe_variant
from fer_cli.training.history import HISTORY, History, write_history
from fer_cli.training.loggers import SERVICES, STARTED, Opener, Run, TensorBoardLogger, logged_to
from fer_cli.training.recipe import RECIPE
from fer_cli.training.resume import (
    CHECKPOINTS,
    begin,
    begun,
    finished,
    forget,
    is_forced,
    note_other_version,
    note_unfinished,
    with_numerics,
)
from fer_cli.weights.files import WeightsFile, pretraining_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fer_cli.models.features import Features
    from fer_cli.systems.base import FeatureCache, System, Trainable

REVISION: Final = 3
START: Final = "start"
"""The role, among the inputs of a model, of the model whose weights it began with."""
LONGEST_MODEL: Final = 96
"""Characters of a model's name: that of its evaluation has more."""


@dataclass(frozen=True, slots=True)
class Job:
    """What all seeds of one call share, in one fold."""

    store: Store
    system: System[Any]
    data: Artifact
    fold: int | None
    open_data: Callable[[], Seen]  # seconds of a large index, which nothing needs where the model is there
    masks: Artifact | None
    open_masks: Callable[[], Masks | None]
    recipe: Any  # one form a system
    weights: WeightsFile | None
    select_on: SplitName
    device: str  # as it was asked for: auto, cpu, ...
    ranks: distributed.Ranks
    workers: int | None
    tensorboard: Path | None
    log: Sequence[str]  # names of services in :mod:`fer_cli.training.loggers`
    force: bool
    soft_targets: Artifact | None  # a teacher's answers of the training images
    start: StartingWeights | None  # where the weights are those of a model
    name: str | None
    open_feature_cache: Callable[[Job, FeatureCache], Features]

    @property
    def seen(self) -> Seen:
        """The data set as this training sees it, its protocol and warnings."""
        return self.open_data()

    @property
    def dataset(self) -> Dataset:
        """The data set, with the splits that this training sees."""
        return self.seen.dataset


def train_one(job: Job, seed: int) -> Result:
    """Train with one seed, or resume where that stopped; in every process of a job of several.

    Raises:
        FerError: the recipe or the machine is at fault.
        PreemptedError: a stop signal came; all is saved, and the same call resumes.
    """
    store, first = job.store, job.ranks.rank == 0
    base = _plan(job, seed)
    numerics = broadcast_object(_numerics(job, base) if first else {}, job.ranks)
    plan = with_numerics(base, numerics)
    if first and not job.force:
        note_unfinished(store, plan)
    if job.force or not store.holds(plan, MANIFEST):
        _check(job)
    forced = job.force or (first and is_forced(store, plan))

    def produce(work: Work) -> None:
        if not first:
            _train(job, seed, work)
            return
        begin(work.directory, plan, forced=forced)
        try:
            _train(job, seed, work)
        finally:
            if work.committed is None and not (work.is_sealed or any(work.directory.glob(CHECKPOINTS))):
                forget(work.directory)  # nothing to resume
                for name in (HISTORY, STARTED):
                    (work.directory / name).unlink(missing_ok=True)

    with machine.computing_with(numerics.get("threads")):
        return run(store, plan, produce, ranks=job.ranks, force=forced, restart=job.force)


def _check(job: Job) -> None:
    """Refuse data, a backbone or a device before anything is begun; imports torch and timm."""
    job.open_data()
    job.open_masks()
    if job.recipe.backbone is not None:
        check_name(job.recipe.backbone.backbone)
    machine.device_name(job.device)


def _numerics_here(job: Job) -> Numerics:
    device = machine.device_name(job.device)
    machine.share_cores(device)
    return Numerics(processes=job.ranks.world, precision=job.recipe.train.precision, **machine.numerics(device))


def _numerics(job: Job, plan: Plan) -> dict[str, Any]:
    """Return what the training of a plan is computed with: here, or as one that is there or unfinished was.

    What is there is never made again for another machine's last digits; ``--threads`` and ``--force`` ask for it.
    """
    asked = machine.threads_asked_for()
    there: list[dict[str, Any]] = []
    if not job.force:
        for record in begun(job.store, plan, forced=True):
            if _goes_on(job, record, asked):
                return record
        for record in finished(job.store, plan):
            if asked in {None, record.get("threads")}:
                return record
            there.append(record)
        for record in begun(job.store, plan, forced=False):
            if _goes_on(job, record, asked):
                return record
    _check(job)
    here = _numerics_here(job).record()
    if there and here not in there:
        note_other_version(plan, there[0], here)
    return here


def _goes_on(job: Job, record: Mapping[str, Any], asked: int | None) -> bool:
    """Tell whether an unfinished training would end here as where it began, its number of threads taken on."""
    if not record:  # of before it was recorded
        return True
    _check(job)
    before, here = Numerics.model_validate(record), _numerics_here(job)
    return before == (here if asked is not None else here.model_copy(update={"threads": before.threads}))


def _plan(job: Job, seed: int) -> Plan:
    record = job.recipe.record()
    if job.recipe.backbone is not None:
        record["model"] |= {"weights": "none" if job.weights is None else job.weights.identity}
    if job.soft_targets is not None:
        record["distill"] |= {"teacher": job.soft_targets.version}
    return Plan(
        kind="model",
        name=_name(job, seed),
        stage="train",
        revision=REVISION,
        config=ModelConfig(
            system=job.system.name,
            recipe=record,
            seed=seed,
            fold=job.fold,
            select_on=job.select_on,
            classes=DatasetProtocol.of(job.data).classes,
        ).record(),
        inputs={
            "dataset": job.data.as_input(),
            **({} if job.masks is None else {"masks": job.masks.as_input()}),
            **({} if job.soft_targets is None else {"soft_targets": job.soft_targets.as_input()}),
            **({} if job.weights is None or job.weights.model is None else {START: job.weights.model.as_input()}),
        },
        seeds=[seed],
    )


def _name(job: Job, seed: int) -> str:
    """Return the name that was chosen, or data set, system, backbone and what differs, before fold and seed."""
    fold = [] if job.fold is None else [f"fold{job.fold}"]
    tail = [*fold, f"seed{seed}"]
    if job.name is not None:
        return composed_name(job.name, tail=tail, longest=LONGEST_MODEL)
    backbone = [] if job.recipe.backbone is None else [slug(job.recipe.backbone.backbone)]
    stem = "-".join([job.data.name, job.system.name, *backbone])
    return composed_name(stem, _variant(job), tail, LONGEST_MODEL)


def _variant(job: Job) -> list[str]:
    """Return the words that distinguish models of one system: how the recipe differs, whose masks, which teacher."""
    recipe, parser = job.recipe, None if job.masks is None else MasksSummary.of(job.masks).parser
    if recipe.backbone is not None and job.weights is None:  # asked for, or not at hand
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"weights": "none"})})
    return [
        *recipe_variant(job.system, recipe).name_words,
        *([] if job.soft_targets is None else [f"distilled-{job.soft_targets.version[:6]}"]),
        *([f"{parser}-masks"] if parser not in {None, "compact"} else []),
        *(["selected-on-test"] if job.select_on == "test" else []),
    ]


def described(job: Job) -> str:
    """Return what all models of a call are: the system, how its recipe differs, the backbone."""
    backbone = job.recipe.backbone
    return ", ".join([job.system.name, *_variant(job), *([] if backbone is None else [backbone.backbone])])


def _train(job: Job, seed: int, work: Work) -> None:
    from fer_cli.systems.trained import cost_of
    from fer_cli.training.engine import Task, fit
    from fer_cli.training.inputs import limited
    from fer_cli.training.sampler import repeated

    dataset, recipe, device = job.dataset, job.recipe, machine.device_name(job.device)
    machine.share_cores(device)
    workers = job.workers if job.workers is not None else 2 if device.startswith("cuda") else 0
    train_rows = dataset.rows("train")
    train_rows = limited(train_rows, dataset.labels[train_rows], recipe.data.limit, seed=0)
    shown = repeated(train_rows, dataset.labels, _times(recipe.data.oversample, dataset.classes))
    if len(shown) < recipe.train.batch:
        raise FerError(
            f"{len(shown):,} training images are fewer than a batch of {recipe.train.batch:,}",
            hint="take a smaller train.batch, or more images",
        )
    features: list[Features] = []
    built = _build(job, train_rows, seed, device, features)
    mixes_batch = job.system.mixes_batch(recipe)
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
        mixes_batch=mixes_batch,
    )
    plan, first = work.plan, job.ranks.rank == 0
    note(f"train {plan.kind}/{plan.name}@{plan.version}")
    start = None if job.start is None else job.start.model_copy(update={"classifier": built.classifier})
    if start is not None and first:
        note(f"begins with {start}")
        for text in _of_start(start):
            warn(text)
    with (
        signals.stop_on_signal("step") as stop,
        logged_to(_shown_as(job, plan), _services(job) if first else {}, work.directory) as log,
    ):

        def record(history: History) -> None:
            if first:
                write_history(work.directory / HISTORY, history)
                log(history)

        stop.without_force = job.force
        trained = fit(
            task,
            recipe,
            seed=seed,
            directory=work.directory,
            run=plan.version,
            device=device,
            ranks=job.ranks,
            workers=workers,
            stop=stop,
            title=f"train {plan.name}",
            record=record,
        )
    if not first:
        return
    from safetensors.torch import save

    built.network.load_state_dict(trained.tensors)
    network = built.inference
    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    cost = cost_of(network, built.preprocessing.size, device)
    details = built.summary if built.summarise is None else built.summarise(task.validation)
    work.write(WEIGHTS, save(tensors))
    write_history(work.directory / HISTORY, trained.history)
    best = trained.history[trained.epoch - 1]
    work.write(RECIPE, _recipe_file(job, work).encode(), view=True)
    backbone = recipe.backbone
    missed = backbone is not None and backbone.weights == "try" and job.weights is None
    what = described(job) if job.fold is None else f"{described(job)}, fold {job.fold}"
    work.commit(
        summary=ModelSummary(
            headline=f"{what}: epoch {trained.epoch} of {len(trained.history)}, {job.select_on} "
            f"accuracy {best['accuracy']:.1%}, balanced {best['balanced_accuracy']:.1%}",
            epoch=trained.epoch,
            epochs=len(trained.history),
            selected=SelectedScores(**{name: float(best[name]) for name in SelectedScores.model_fields}),
            weights=None if job.weights is None else job.weights.record(),
            tensors_loaded=built.tensors_loaded,
            preprocessing=built.preprocessing.record(),
            training_images=len(train_rows),
            mixes_batch=mixes_batch,
            temperature=round(float(best["temperature"]), 4),
            images=_form(dataset),
            details=details.model_dump(mode="json"),
            **cost,
        ),
        protocol=_protocol(job, plan, features, len(train_rows), len(trained.history), start),
        measured=Measured(
            seconds=round(trained.seconds, 1),
            images_per_second=None if np.isnan(trained.images_per_second) else round(trained.images_per_second, 1),
            batch=recipe.train.batch,
            processes=job.ranks.world,
            workers=workers,
            **machine.usage(device),
        ),
        warnings=[
            *job.seen.warnings,
            *(["No pretrained weights were at hand: trained from random ones"] if missed else []),
            *([] if start is None else _of_start(start)),
        ],
        # The rest stays until then: a full disk or a kill is no reason to train again.
        files=[WEIGHTS, HISTORY, RECIPE],
    )


def _shown_as(job: Job, plan: Plan) -> Run:
    """Return what services show of a training."""
    settings = {
        "model": f"{plan.kind}/{plan.name}@{plan.version}",
        "dataset": job.data.reference,
        **{key: value for key, value in plan.config.items() if value is not None},
    }
    group = plan.name.rpartition("-seed")[0] or plan.name
    return Run(f"{plan.name}-{plan.version}", group, settings)


def _services(job: Job) -> dict[str, tuple[str, Opener]]:
    services = {name: SERVICES[name] for name in job.log}
    if (folder := job.tensorboard) is not None:
        services["tensorboard"] = ("TensorBoard", lambda run, _resumed: TensorBoardLogger(folder, run))
    return services


def _form(dataset: Dataset) -> ImageForm:
    height, width = dataset.images.shape[1:3]
    return ImageForm(side=height if height == width else None, grey=dataset.images.ndim == 3)


def _recipe_file(job: Job, work: Work) -> str:
    """Return the recipe as it was run, which ``--recipe`` takes; a view: what it says of itself is no result."""
    plan, weights = work.plan, job.weights
    heading = [f"The recipe of {plan.kind}/{plan.name}@{plan.version}, with everything that it left out."]
    if job.recipe.backbone is not None:
        origin = "randomly initialised" if weights is None else f"{weights.source}, sha256 {weights.sha256()}"
        heading.append(f"Weights of the backbone: {origin}.")
    return toml_text(job.recipe, heading=heading)


def _times(oversample: Mapping[str, int], classes: Sequence[str]) -> dict[int, int]:
    for name in oversample:
        if name not in classes:
            raise FerError(f"data.oversample names {name!r}", hint=f"the classes are {', '.join(classes)}")
    return {classes.index(name): count for name, count in oversample.items()}


def _build(job: Job, rows: NDArray[np.int64], seed: int, device: str, features: list[Features]) -> Trainable:
    """Build what is trained; kept features that it opens are added to ``features``."""
    from fer_cli.systems.base import BuildInputs

    cache = job.system.needs(job.recipe).feature_cache

    def views(cache: FeatureCache) -> Mapping[str, AnyArray]:
        features.append(job.open_feature_cache(job, cache))
        return features[-1].views

    return job.system.build(
        job.recipe,
        BuildInputs(
            dataset=_with_teacher(job),
            rows=rows,
            weights=job.weights,
            seed=seed,
            device=device,
            masks=job.open_masks(),
            feature_cache=None if cache is None else partial(views, cache),
        ),
    )


def _with_teacher(job: Job) -> Dataset:
    """Return the dataset with the teacher's answers in the targets of the training images, where there is one."""
    if job.soft_targets is None:
        return job.dataset
    dataset, distill = job.dataset, job.recipe.distill
    own = dataset.targets
    targets = np.eye(len(dataset.classes))[dataset.labels] if own is None else own.copy()
    rows = dataset.rows("train")
    answers = job.soft_targets.array("shares.npy")[:].astype(np.float64)
    if answers.shape != (len(rows), len(dataset.classes)):
        raise FerError(
            f"{job.soft_targets.reference} is of {answers.shape}, not of {len(rows)} training images",
            hint="remove it and train again",
            path=job.soft_targets.path,
        )
    softened = answers ** (1 / distill.temperature)
    softened /= softened.sum(1, keepdims=True)
    targets[rows] = (1 - distill.weight) * targets[rows] + distill.weight * softened
    return replace(dataset, targets=targets)


def _reference(one: Input) -> str:
    return f"{one.kind}/{one.name}@{one.version}"


def _of_start(start: StartingWeights) -> list[str]:
    """Return what the weights that it begins with have to do with the images that are held out.

    It is no reason to refuse: a test image that was trained on makes a number unsound that ``fer eval`` marks, and a
    validation image only makes the choice of the epoch a worse one.
    """
    name = start.models[0].reference
    if start.unknown:
        return [f"Whether {name} was trained on images that are held out here {start.held_out}"]
    advice = "'fer split --like' makes the splits agree"
    texts = []
    if count := start.trained_on.get("test"):
        texts.append(
            f"{count:,} test images were trained on by {name}, or before it: the test split is no test; {advice}"
        )
    if count := start.trained_on.get("validation"):
        what = "were trained on by"
        texts.append(f"{count:,} validation images {what} {name}, or before it: the epoch is chosen on them; {advice}")
    if count := start.selected_by.get("test"):
        texts.append(f"{count:,} test images selected {name}, or a model before it: optimistic; {advice}")
    return texts


def _protocol(
    job: Job, plan: Plan, features: Sequence[Features], images: int, epochs: int, start: StartingWeights | None
) -> TrainingProtocol:
    record = plan.config.get("numerics")
    seen, monitor = job.seen.protocol, job.recipe.train.monitor
    return TrainingProtocol(
        data=seen.model_copy(update={"n": {**seen.n, "train": images}}),
        pretraining=pretraining_of(job.weights),
        start=start,
        numerics=None if record is None else Numerics.model_validate(record),
        features=TrainingProtocol.of(features[0].artifact).numerics if features else None,
        teacher=None
        if job.soft_targets is None
        else Teacher(
            reference=_reference(job.soft_targets.manifest.inputs["teacher"]),
            weight=job.recipe.distill.weight,
            temperature=job.recipe.distill.temperature,
        ),
        selection=Selection(
            split=job.select_on,
            metric=monitor,
            what="the last epoch" if monitor == "last" else "the epoch",
            tried=1 if monitor == "last" else epochs,
            trials=_trials(job, plan),
        ),
    )


def _trials(job: Job, plan: Plan) -> int | None:
    """Return how many settings the model was chosen from; training it again does not undo the count of a search."""
    counts = [job.recipe.about.trials]
    if job.store.holds(plan, MANIFEST):
        with suppress(FerError):  # damaged: it is replaced
            before = TrainingProtocol.of(job.store.open(job.store.target(plan))).selection
            counts.append(None if before is None else before.trials)
    return max((count for count in counts if count is not None), default=None)
