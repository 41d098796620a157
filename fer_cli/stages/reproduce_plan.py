"""What reproducing an entry of a paper takes: the jobs of its rows, what is there of them, and what they would cost."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.manifest import Manifest, read_manifest
from fer_cli.artifacts.protocol import DatasetProtocol
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import DatasetSummary, FeaturesConfig, Measured, ModelConfig, ModelSummary
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.toml_text import toml_value
from fer_cli.papers.catalogue import SCALES, Difference, Entry, Row, Scale, ScaleName, Settings, Variant, paper
from fer_cli.reporting.reproduction import Deviation, deviations_of
from fer_cli.systems.recipe_sources import find_source

VIEWS: Final = ("original", "flip")
"""Of the images that AHM is fitted on."""
SHORTEST: Final = 0.05
"""Seconds: manifests hold tenths, and a training that took less is there as 0."""
AHM_KEYS: Final = ("backbone", "size", "weights", "model")


@dataclass(frozen=True, slots=True)
class Training:
    """What ``fer train`` and ``fer eval`` are asked for. ``changes`` are ``--set``; ``parser`` is that of the masks."""

    system: str
    recipe: str
    changes: tuple[str, ...]
    parser: str | None
    batching: str | None


@dataclass(frozen=True, slots=True)
class Fit:
    """What ``fer extract``, ``fer fit-ahm`` and ``fer eval`` are asked for.

    The features are of a network that is trained first, else of ``model``, a reference, else of pretrained weights.
    """

    backbone: str
    size: int | None
    weights: str
    model: str | None = None
    training: Training | None = None

    @property
    def of_trained(self) -> bool:
        """Whether the features are of a network that was trained for expressions."""
        return self.training is not None or self.model is not None


BASELINE: Final = "baseline"
"""The system that AHM's networks are trained by."""
SEED: Final = 0
"""Of that training."""


@dataclass(frozen=True, slots=True)
class Run:
    """A row, or a variant of it, and the job that measures it; None where nothing does."""

    name: str
    row: Row
    job: Training | Fit | None


@dataclass(frozen=True, slots=True)
class Step:
    """A training, or an extraction, that is to be made, or is there. ``seconds`` is an estimate; None of what is there.

    ``measured`` tells whether the estimate rests on a run of the same kind in this store.
    """

    run: str
    what: str
    is_there: bool
    seconds: float | None
    measured: bool


@dataclass(frozen=True)
class Request:
    """What of an entry is asked for, on which data."""

    entry: Entry
    scale: ScaleName
    seeds: tuple[int, ...]
    changes: tuple[str, ...]
    dataset: Artifact | None
    stands_in: bool

    @property
    def form(self) -> Scale:
        """The scale's recipe and changes."""
        scales = paper(self.entry.paper).scales
        return scales[self.scale]

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Every row and variant, in order."""
        return tuple(runs_of(self.entry, self.form, self.changes))


def runs_of(entry: Entry, form: Scale, changes: Sequence[str]) -> Iterator[Run]:
    """Yield the models, rows and variants of an entry at a scale, with what a user changes besides."""
    for model in entry.models:
        row = Row(name=model.name, kind="own", settings=model.settings)
        yield Run(model.name, row, _job(entry, form, model.settings, changes))
    for row in entry.rows:
        has_job = row.settings is not None and entry.measure in {"train", "ahm", "recall"}
        yield Run(row.name, row, _job(entry, form, row.settings or {}, changes) if has_job else None)
        for variant in row.variants:
            yield Run(variant.name, row, _job(entry, form, variant.settings, changes, variant))


def _job(
    entry: Entry, form: Scale, settings: Settings, changes: Sequence[str], variant: Variant | None = None
) -> Training | Fit:
    merged = {**form.settings, **_replaced(settings, form.replace)}
    if entry.system == "ahm":
        return _fit(form, merged, changes)
    assert form.recipe is not None, f"{entry.reference}: a system that is trained has a recipe at every scale"
    given = {key.strip(): value.strip() for key, _, value in (change.partition("=") for change in changes)}
    least = form.least_size.get(str(merged.get("model.backbone")), 0)
    size = given.get("data.size", merged.get("data.size"))
    if size is not None and str(size).isdecimal() and int(str(size)) < least:
        settings = {**settings, "data.size": least}
        merged["data.size"] = least
    own = tuple(f"{key}={_word(value)}" for key, value in merged.items() if key not in given or key in settings)
    return Training(
        system=entry.system,
        recipe=form.recipes.get(entry.dataset or "", form.recipe),
        # A row is its settings: what a user sets besides comes before them, so that no row becomes another.
        changes=(*(one for one in own if one.partition("=")[0] not in settings), *changes, *_of(own, settings)),
        parser=form.parser if variant is None or variant.parser is None else variant.parser,
        batching=None if variant is None else variant.batching,
    )


def _fit(form: Scale, settings: Settings, changes: Sequence[str]) -> Fit:
    """Return a row of AHM. ``model`` or ``weights`` say whose features; else the scale's recipe trains a network."""
    of_recipe = tuple(change for change in changes if "." in change.partition("=")[0])
    merged = settings | dict(_ahm_change(change) for change in changes if change not in of_recipe)
    backbone, given = str(merged["backbone"]), merged.get("size")
    size = None if given is None else int(str(given))
    if "model" in merged or "weights" in merged:
        if of_recipe:
            what = f"--set {of_recipe[0]!r} is of a training, and --set model or weights leaves none"
            raise UsageError(what, hint="leave one of them out")
        model = merged.get("model")
        return Fit(backbone, size, str(merged.get("weights", "auto")), None if model is None else str(model))
    assert form.recipe is not None, "ahm's networks are trained by a recipe"
    own = (f"model.backbone={backbone}", *([] if size is None else [f"data.size={size}"]))
    training = Training(system=BASELINE, recipe=form.recipe, changes=(*of_recipe, *own), parser=None, batching=None)
    return Fit(backbone, None, "auto", training=training)


def _of(changes: Sequence[str], settings: Settings) -> tuple[str, ...]:
    return tuple(one for one in changes if one.partition("=")[0] in settings)


def _replaced(settings: Settings, replacements: Mapping[str, str]) -> Settings:
    replaced = dict(settings)
    for key, value in settings.items():
        if (other := replacements.get(f"{key}={value}")) is not None:
            replaced[key] = other.partition("=")[2]
    return replaced


def _ahm_change(change: str) -> tuple[str, str]:
    key, equals, value = change.partition("=")
    if key not in AHM_KEYS or not equals:
        raise UsageError(
            f"--set {change!r} is not for ahm", hint=f"take {', '.join(f'{name}=...' for name in AHM_KEYS)}"
        )
    return key, value


def _word(value: object) -> str:
    return value if isinstance(value, str) else toml_value(value)


class Index:
    """The manifests of a store, read once and without their payloads, the newest first."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.manifests: dict[str, list[tuple[Path, Manifest]]] = {}
        for directory in store.directories(("dataset", "masks", "features", "ahm", "model", "study", "evaluation")):
            try:
                manifest = read_manifest(directory)
            except FerError:  # 'fer ls' and 'fer verify' say so; it is as good as not there
                continue
            self.manifests.setdefault(manifest.kind, []).append((directory, manifest))
        self._recipes: dict[Training, dict[str, Any]] = {}
        self._versions = {one.version: one for of_kind in self.manifests.values() for _, one in of_kind}

    def by_version(self, version: str) -> Manifest | None:
        """Return the manifest of a version; None where it is not in the store."""
        return self._versions.get(version)

    def artifacts(self, kind: str) -> Iterator[Artifact]:
        """Yield the artifacts of a kind, the newest first."""
        for directory, manifest in self.manifests.get(kind, ()):
            yield Artifact(directory, manifest)

    def seconds(self, evaluation: Artifact) -> float:
        """Return what an evaluation took, with the trainings, features and masks that it was made from."""
        total, waiting, seen = 0.0, [evaluation.manifest], set[str]()
        while waiting:
            manifest = waiting.pop()
            if manifest.kind == "dataset" or manifest.version in seen:
                continue
            seen.add(manifest.version)
            total += float(manifest.measured.get("seconds") or 0.0)
            waiting += [one for source in manifest.inputs.values() if (one := self.by_version(source.version))]
        return total

    def dataset(self, family: str) -> Artifact | None:
        """Return the newest data set of a family, such as ``fer2013``."""
        for artifact in self.artifacts("dataset"):
            if DatasetProtocol.of(artifact).family == family:
                return artifact
        return None

    def recipe(self, job: Training) -> dict[str, Any]:
        """Return the recipe of a job as a model's configuration holds it."""
        if job not in self._recipes:
            self._recipes[job] = find_source(job.recipe, self.store).read(job.system, job.changes).record()
        return self._recipes[job]

    def model(self, job: Training, dataset: Artifact, seed: int) -> Artifact | None:
        """Return the newest model that a job's training would be, but for the bytes of its pretrained weights."""
        from fer_cli.systems.job import REVISION, START

        wanted = _without_weights(self.recipe(job))
        asked = self.recipe(job)["model"].get("weights")
        for artifact in self.artifacts("model"):
            manifest = artifact.manifest
            if manifest.revision != REVISION or manifest.inputs["dataset"].content != dataset.manifest.content:
                continue
            config = ModelConfig.of(artifact)
            if (config.system, config.seed, config.fold, config.select_on) != (job.system, seed, None, "validation"):
                continue
            if _without_weights(config.recipe) != wanted or (asked == "none") > (_weights(config.recipe) == "none"):
                continue
            if (start := manifest.inputs.get(START)) is not None and not self._is_model(asked, start.version):
                continue
            if self._has_masks(manifest, job):
                return artifact
        return None

    def _is_model(self, reference: str | None, version: str) -> bool:
        """Tell whether a reference names the model of this version."""
        if reference is None or reference in {"auto", "try", "none"}:
            return False
        try:
            return self.store.find(reference, ["model"]).version == version
        except FerError:
            return False

    def _has_masks(self, manifest: Manifest, job: Training) -> bool:
        source = manifest.inputs.get("masks")
        if source is None or job.parser in {None, "auto"}:
            return job.parser != "auto" or source is None or self._parser(source.content) != "template"
        return self._parser(source.content) == job.parser

    def _parser(self, content: str) -> str | None:
        for _, manifest in self.manifests.get("masks", ()):
            if manifest.content == content:
                return str(manifest.summary["parser"])
        return None

    def evaluation(self, job: Training | Fit, dataset: Artifact, seeds: Sequence[int]) -> Artifact | None:
        """Return the newest evaluation that a job's ``fer eval`` would be, of the data set's own test items."""
        scored = self._fitted(job, dataset) if isinstance(job, Fit) else self._trained(job, dataset, seeds)
        if scored is None:
            return None
        source, batching = scored
        for artifact in self.artifacts("evaluation"):
            manifest = artifact.manifest
            model = manifest.inputs.get("model")
            if model is None or model.content != source.manifest.content:
                continue
            if manifest.inputs["dataset"].content != dataset.manifest.content:
                continue
            config = manifest.config
            if (config["split"], config["tta"], config.get("batching")) == (_split(dataset), "none", batching):
                return artifact
        return None

    def _trained(self, job: Training, dataset: Artifact, seeds: Sequence[int]) -> tuple[Artifact, str | None] | None:
        models = [model for seed in seeds if (model := self.model(job, dataset, seed)) is not None]
        if len(models) < len(seeds):
            return None
        batching = job.batching or ("alone" if ModelSummary.of(models[0]).mixes_batch else "stored")
        if len(models) == 1:
            return models[0], batching
        wanted = {model.manifest.content for model in models}
        for study in self.artifacts("study"):
            members = [one.content for one in study.manifest.inputs.values()]
            if set(members) == wanted and len(members) == len(models):
                return study, batching
        return None

    def _fitted(self, job: Fit, dataset: Artifact) -> tuple[Artifact, str | None] | None:
        features = self.features(job, dataset)
        for artifact in self.artifacts("ahm") if features is not None else ():
            config = artifact.manifest.config
            if (
                features is not None
                and artifact.manifest.inputs["features"].content == features.manifest.content
                and (config["paths"], config["metric"]) == ("shared", "accuracy")
                and not {"centring", "reduced"} & config.keys()
            ):
                return artifact, None
        return None

    def features(self, job: Fit, dataset: Artifact) -> Artifact | None:
        """Return the newest features that AHM would be fitted on."""
        model = None
        if job.training is not None and (model := self.model(job.training, dataset, SEED)) is None:
            return None
        if job.model is not None:
            model = self.store.find(job.model, ["model"])
        for artifact in self.artifacts("features"):
            config = FeaturesConfig.of(artifact)
            source = artifact.manifest.inputs.get("model")
            if (None if source is None else source.version) != (None if model is None else model.version):
                continue
            if (
                artifact.manifest.inputs["dataset"].content == dataset.manifest.content
                and (config.level, config.views) == ("pooled", VIEWS)
                and (model is not None or config.backbone == job.backbone)
                and job.size in {None, config.size}
                and not (job.weights == "none") > (config.weights == "none")
            ):
                return artifact
        return None


def _without_weights(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {**recipe, "model": {key: value for key, value in recipe["model"].items() if key != "weights"}}


def _weights(recipe: Mapping[str, Any]) -> str | None:
    weights = recipe["model"].get("weights")
    return None if weights is None else str(weights)


def _split(dataset: Artifact) -> str:
    from fer_cli.evaluation.predictors.opening import default_split

    return default_split(tuple(DatasetSummary.of(dataset).splits))


def ask(
    index: Index, entry: Entry, *, data: str | None, scale: ScaleName, seeds: Sequence[int], changes: Sequence[str]
) -> Request:
    """Return what is asked for: on the given data set, else on the paper's, else on what stands in for it.

    Raises:
        FerError: there is no data set to run it on.
    """
    if entry.measure in {"recipe", "hierarchy", "none"} or (entry.dataset is None and entry.measure == "counts"):
        return Request(entry, scale, (), tuple(changes), None, stands_in=False)
    assert entry.dataset is not None, f"{entry.reference} names no data set"
    dataset = index.store.find(data, ["dataset"]) if data is not None else index.dataset(entry.dataset)
    if dataset is None and entry.stand_in is not None:
        dataset = index.dataset(entry.stand_in)
    if dataset is None:
        others = f"; or prepare {entry.stand_in}, which can stand in" if entry.stand_in else ""
        raise FerError(
            f"{entry.reference} wants {entry.dataset}, which is not in this store",
            hint=f"fer prepare {entry.dataset}{others}; or give another with --data",
        )
    stands_in = DatasetProtocol.of(dataset).family != entry.dataset
    trains = entry.measure in {"train", "recall", "picture"} and entry.picture != "masks"
    return Request(entry, scale, tuple(seeds) if trains else (), tuple(changes), dataset, stands_in)


def plan(index: Index, request: Request) -> list[Step]:
    """Return what is there and what is to be made, with an estimate of the time. Torch is not needed."""
    steps: list[Step] = []
    seen: set[object] = set()
    dataset = request.dataset
    for run in request.runs:
        if run.job is None or dataset is None:
            continue
        if isinstance(run.job, Fit):
            if run.job not in seen:
                seen.add(run.job)
                if run.job.training is not None:
                    steps.append(_training(index, request, run, run.job.training, dataset, SEED, first=False))
                steps.append(_extraction(index, request, run, run.job, dataset))
            continue
        for seed in request.seeds:
            key = (replace(run.job, batching=None), seed)
            if key not in seen:
                seen.add(key)
                model = index.recipe(run.job)["model"]
                maps = (model.get("backbone"), model.get("cut"))
                steps.append(_training(index, request, run, run.job, dataset, seed, first=maps not in seen))
                seen.add(maps)
    return steps


def _extraction(index: Index, request: Request, run: Run, job: Fit, dataset: Artifact) -> Step:
    there = index.features(job, dataset) is not None
    images = DatasetSummary.of(dataset).images * len(VIEWS)
    rates = [
        rate
        for artifact in index.artifacts("features")
        if artifact.manifest.config["backbone"] == job.backbone
        and (rate := Measured.of(artifact).images_per_second) is not None
    ]
    rate = rates[0] if rates else request.form.images_per_second
    return Step(
        run.name, f"features of {job.model or job.backbone}", there, None if there else images / rate, bool(rates)
    )


def _training(
    index: Index, request: Request, run: Run, job: Training, dataset: Artifact, seed: int, *, first: bool
) -> Step:
    what = f"seed {seed}"
    if index.model(job, dataset, seed) is not None:
        return Step(run.name, what, True, None, measured=True)
    recipe = index.recipe(job)
    limit, images = recipe["data"]["limit"], DatasetSummary.of(dataset).splits["train"]
    work = min(images, limit or images) * recipe["train"]["epochs"]
    for other in _like(index, job, recipe):
        summary, seconds = ModelSummary.of(other), Measured.of(other).seconds
        if seconds is not None:
            side = (recipe["data"]["size"] / ModelConfig.of(other).recipe["data"]["size"]) ** 2
            each = max(seconds, SHORTEST) / (summary.training_images * summary.epochs)
            scale = 1.0 if recipe["model"].get("feature_cache", "none") != "none" else side
            return Step(run.name, what, False, each * scale * work, measured=True)
    form = request.form
    if form.cached_images_per_second is None:
        return Step(run.name, what, False, work / form.images_per_second, measured=False)
    maps = len(VIEWS) * DatasetSummary.of(dataset).images / form.images_per_second if first else 0.0
    return Step(run.name, what, False, maps + work / form.cached_images_per_second, measured=False)


def _like(index: Index, job: Training, recipe: Mapping[str, Any]) -> list[Artifact]:
    """Return models of the same system and backbone, the most alike first."""
    keys = ("backbone", "attention", "cut", "detail")
    models = []
    for artifact in index.artifacts("model"):
        config = ModelConfig.of(artifact)
        if config.system == job.system and config.recipe["model"].get("backbone") == recipe["model"].get("backbone"):
            same = sum(config.recipe["model"].get(key) == recipe["model"].get(key) for key in keys)
            same += config.recipe["data"]["size"] == recipe["data"]["size"]
            models.append((same, artifact))
    return [artifact for _, artifact in sorted(models, key=lambda pair: -pair[0])]


def commands(request: Request) -> list[str]:
    """Return the plain commands that make the same artifacts, in their order."""
    dataset = request.dataset
    if dataset is None:
        return []
    lines: list[str] = []
    for run in request.runs:
        if isinstance(run.job, Fit):
            lines += _fit_commands(run.job, dataset)
        elif run.job is not None:
            lines += _train_commands(run.job, dataset, request.seeds)
    return list(dict.fromkeys(lines)) if request.entry.system == "ahm" else lines


def _fit_commands(job: Fit, dataset: Artifact) -> list[str]:
    lines = [] if job.training is None else _train_commands(job.training, dataset, [SEED])[:-1]
    if job.of_trained:
        words = ["fer", "extract", job.model or "model", "--data", dataset.reference, "--views", ",".join(VIEWS)]
        words += [] if job.size is None else ["--size", str(job.size)]
        return [*lines, shlex.join(words), "fer fit-ahm", "fer eval ahm"]
    words = ["fer", "extract", dataset.reference, "--backbone", job.backbone, "--views", ",".join(VIEWS)]
    words += [] if job.size is None else ["--size", str(job.size)]
    words += [] if job.weights == "auto" else ["--weights", job.weights]
    return [shlex.join(words), "fer fit-ahm", "fer eval ahm"]


def _train_commands(job: Training, dataset: Artifact, seeds: Sequence[int]) -> list[str]:
    lines = []
    words = ["fer", "train", job.system, dataset.reference, "--recipe", job.recipe]
    if job.parser is not None:
        lines.append(shlex.join(["fer", "parse-masks", dataset.reference, "--parser", job.parser]))
    words += ["--seeds", ",".join(map(str, seeds)), *(word for one in job.changes for word in ("--set", one))]
    lines.append(shlex.join(words))
    score = ["fer", "eval", "study" if len(seeds) > 1 else "model"]
    lines.append(shlex.join([*score, *([] if job.batching is None else ["--batching", job.batching])]))
    return lines


def found(index: Index, request: Request) -> dict[str, Artifact]:
    """Return the evaluations that are in the store already, by the row's name."""
    dataset = request.dataset
    if dataset is None:
        return {}
    return {
        run.name: evaluation
        for run in request.runs
        if run.job is not None and (evaluation := index.evaluation(run.job, dataset, request.seeds)) is not None
    }


def deviations(index: Index, request: Request) -> tuple[Deviation, ...]:
    """Return in what the runs of a request differ from the paper: data, settings, and what its catalogue names."""
    entry = request.entry
    of_data = list(_data_deviations(request))
    if not any(run.job is not None for run in request.runs):
        return tuple(of_data)
    return (
        *of_data,
        *_setting_deviations(index, request),
        *deviations_of([one for one in paper(entry.paper).differences if not _is_lifted(one, request)]),
    )


def _is_lifted(difference: Difference, request: Request) -> bool:
    jobs = [run.job for run in request.runs if isinstance(run.job, Fit)]
    return difference.of_pretrained_features and bool(jobs) and all(job.of_trained for job in jobs)


def _data_deviations(request: Request) -> Iterator[Deviation]:
    entry, dataset = request.entry, request.dataset
    if dataset is None:
        return
    protocol = DatasetProtocol.of(dataset)
    if request.stands_in:
        yield Deviation("data", f"{dataset.name} in place of {entry.dataset}", decisive=True)
    promoted = next((part.part for part in protocol.parts if part.promoted), None)
    if protocol.missing and (entry.test_part is None or promoted != entry.test_part):
        yield Deviation("data", f"{dataset.name} is not complete: {'; '.join(protocol.missing)}", decisive=True)
    elif not request.stands_in and entry.test_part is not None and promoted != entry.test_part:
        text = f"scored on the test split of {dataset.name}; the figures are of {entry.test_part}"
        yield Deviation("data", text, decisive=True)


def _setting_deviations(index: Index, request: Request) -> Iterator[Deviation]:
    full = paper(request.entry.paper).scales["paper"]
    there: dict[tuple[str, str, str], list[str]] = {}
    for run, wanted in zip(request.runs, runs_of(request.entry, full, ()), strict=True):
        if run.job is None or wanted.job is None:
            continue
        ours, theirs = (_flat(index, job) for job in (run.job, wanted.job))
        # Of features of pretrained weights no recipe is there to compare.
        keys = dict.fromkeys((*ours, *theirs)) if not isinstance(run.job, Fit) else ours.keys() & theirs.keys()
        for key in sorted(keys) if isinstance(run.job, Fit) else keys:
            if ours.get(key) != theirs.get(key) and key != "model.weights":
                there.setdefault((key, _told(ours.get(key)), _told(theirs.get(key))), []).append(run.name)
    runs = sum(run.job is not None for run in request.runs)
    for (key, ours_, theirs_), names in there.items():
        where = "" if len(names) == runs else f" ({', '.join(names)})"
        yield Deviation("setting", f"{key} is {ours_} in place of {theirs_}{where}", decisive=True)


def _told(value: object) -> str:
    return "left out" if value is None else toml_value(value)


def _flat(index: Index, job: Training | Fit) -> dict[str, Any]:
    if isinstance(job, Fit):
        if job.training is not None:
            return _flat(index, job.training)
        if job.model is None:
            return {"model.backbone": job.backbone, "size": job.size}
        recipe = ModelConfig.of(index.store.find(job.model, ["model"])).recipe
        return {f"{table}.{key}": value for table, keys in recipe.items() for key, value in keys.items()}
    recipe = index.recipe(job)
    flat = {f"{table}.{key}": value for table, keys in recipe.items() for key, value in keys.items()}
    return {**flat, **({} if job.parser is None else {"masks": job.parser})}


@dataclass(frozen=True, slots=True)
class Availability:
    """What the list says of an entry. ``seconds`` is what its rows took, or would take at laptop scale.

    ``measured`` counts those of ``rows`` that are in the store, at the scale of which most are.
    """

    can_run: bool
    dataset: str | None = None
    dataset_name: str | None = None
    stands_in: bool = False
    rows: int = 0
    measured: int = 0
    scale: ScaleName | None = None
    seconds: float | None = None
    measured_cost: bool = False
    why: str = ""


def availability(index: Index, entry: Entry, seeds: Sequence[int]) -> Availability:
    """Return what of an entry can be run with the data that are here, what has been, and what it costs."""
    if entry.measure == "none":
        return Availability(False, why="cited" if any(row.kind == "cited" for row in entry.rows) else "record")
    try:
        requests = [ask(index, entry, data=None, scale=scale, seeds=seeds, changes=()) for scale in SCALES]
    except FerError as error:
        return Availability(False, rows=len(_jobs(entry)), why=error.what)
    first = requests[0]
    if not (jobs := _jobs(entry)):
        name = None if first.dataset is None else first.dataset.name
        return Availability(True, _reference(first.dataset), name, first.stands_in, len(entry.rows), len(entry.rows))
    there = [found(index, request) for request in requests]
    best = max(range(len(requests)), key=lambda at: len(there[at]))
    measured = there[best]
    if measured:
        seconds: float | None = sum(
            index.seconds(one) for one in {one.version: one for one in measured.values()}.values()
        )
    else:
        seconds = sum(step.seconds or 0.0 for step in plan(index, first))
    assert first.dataset is not None, "a job has data"
    return Availability(
        can_run=True,
        dataset=first.dataset.reference,
        dataset_name=first.dataset.name,
        stands_in=first.stands_in,
        rows=len(jobs),
        measured=len(measured),
        scale=requests[best].scale if measured else None,
        seconds=seconds,
        measured_cost=bool(measured),
    )


def _jobs(entry: Entry) -> list[Run]:
    return [run for run in runs_of(entry, paper(entry.paper).scales["laptop"], ()) if run.job is not None]


def _reference(artifact: Artifact | None) -> str | None:
    return None if artifact is None else artifact.reference
