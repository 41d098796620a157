"""Stage ``search``: settings of a recipe compared on validation; a search artifact out. Resumes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import ValidationError

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.atomic_io import write_atomic
from fer_cli.artifacts.maintenance import discard
from fer_cli.artifacts.manifest import MANIFEST, Input
from fer_cli.artifacts.naming import composed_name
from fer_cli.artifacts.payload import json_bytes
from fer_cli.artifacts.protocol import TrainingProtocol
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import Measured, ModelSummary, SearchConfig, SearchMethod, SearchSummary
from fer_cli.artifacts.work import Plan, Work
from fer_cli.core import distributed, machine
from fer_cli.core.errors import DivergedError, FerError, UsageError
from fer_cli.core.progress import note, warn
from fer_cli.core.toml_text import toml_text, toml_value
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.datasets.fold_view import seen
from fer_cli.faces.masks import find_masks
from fer_cli.stages import soft_targets
from fer_cli.stages.train import train
from fer_cli.systems import registry
from fer_cli.systems.job import REVISION as TRAINING_REVISION
from fer_cli.systems.naming import recipe_variant
from fer_cli.systems.recipe_sources import RecipeSource, find_source
from fer_cli.systems.starting_weights import find_starting_weights
from fer_cli.training.recipe import RECIPE
from fer_cli.training.search_space import MAX_SETTINGS, Settings, Space, change, read_space
from fer_cli.training.trials import ETA, TRIALS, Trial, Trials, metric_of, read_trials, rounds, shortened

if TYPE_CHECKING:
    from fer_cli.systems.base import System
    from fer_cli.training.recipe import Recipe

REVISION: Final = 1
METHODS: Final[tuple[SearchMethod, ...]] = get_args(SearchMethod)
TRIAL_COUNTS: Final = {"random": 20, "halving": 27}
"""Trials of each method that draws them, where their number is not given."""
SEED: Final = 0
"""Of every trial's training: trials differ in their settings alone."""


def search(
    *,
    store: Store,
    recipe: Path | str,
    dataset: str | None = None,
    space: Sequence[str],
    changes: Sequence[str] = (),
    method: str = "random",
    trials: int | None = None,
    seed: int = 0,
    fold: int | None = None,
    masks: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    log: Sequence[str] = (),
    force: bool = False,
    name: str | None = None,
    command: str | None = None,
) -> Result:
    """Train settings of a recipe one after the other and compare them on validation.

    Each trial is a model of stage ``train``, found again by every later search; the test split is never read. A trial
    that diverges counts as one that failed. The payload is ``trials.json`` (:mod:`fer_cli.training.trials`) and
    ``recipe.toml``, the recipe of the best trial, whose model's protocol then says how many were compared.

    Args:
        store: where artifacts are.
        recipe: a TOML file, the name of a recipe that comes with a system, a system, or the reference of a model, a
            study or a search.
        dataset: reference of the dataset; the newest where it is None.
        space: each ``KEY=VALUES``, or the path of a TOML file (:func:`fer_cli.training.search_space.read_space`).
        changes: ``KEY=VALUE`` that replace what the recipe says.
        method: ``random``; ``grid``, all combinations; ``halving``, random and short at first: of each round a third
            goes on, for three times the epochs.
        trials: settings that are drawn; of a grid None. The first ones of more trials are those of fewer.
        seed: of the draws; the trainings' own is 0.
        fold: which fold of the dataset is the test split; None: the dataset's own splits.
        masks: reference of the region maps, of a system that is trained with them.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        workers: threads that prefetch batches.
        log: services that each training is logged to, as in stage ``train``.
        force: look at all trials again; those that are up to date are not trained again.
        name: of the search; None: data set, system, what differs from the system's recipes, method and keys.
        command: that makes it again.

    Raises:
        FerError: the recipe, the dataset, the weights or the machine is at fault, or all trials diverged.
        UsageError: the space or an option is at fault.
        PreemptedError: a stop signal came; all is saved, and the same call resumes.
    """
    if distributed.ranks().world > 1:
        hint = "run it in one process, without torchrun; several searches can share a store"
        raise FerError("a search is for one process", hint=hint)
    source = find_source(recipe, store)
    system = source.of(None)
    base = source.read(system, changes)
    trainer = registry.load(system)
    chosen = _method(method, trials)
    looked_at = read_space(space, trainer.recipe_type, base)
    _check_keys(looked_at, changes, chosen)
    candidates = _candidates(looked_at, source, changes, chosen, trials, seed)
    recipes = [one.recipe for one in candidates]
    epochs = _rounds(chosen, len(candidates), base)
    data = store.find(dataset, ["dataset"])
    if masks is not None and not trainer.uses_masks:
        raise UsageError(f"--masks is not for {system}, which is trained without masks", hint="leave it out")
    inputs = _inputs(store, trainer, recipes, data, masks)
    plan = Plan(
        kind="search",
        name=name or _name(trainer, base, data, chosen, looked_at, seed),
        stage="search",
        revision=REVISION,
        config=SearchConfig(
            system=system,
            recipe=base.record(),
            space=looked_at.records(),
            method=chosen,
            trials=len(candidates),
            seed=0 if chosen == "grid" else seed,
            metric=metric_of(base.train.monitor),
            epochs=epochs,
            fold=fold,
            weights=_weights(store, recipes),
            training=TRAINING_REVISION,
        ).record(),
        inputs=inputs,
        seeds=[SEED],
    )
    if force or not store.holds(plan, MANIFEST):
        _check_validation(open_dataset(data), fold)
    with store.make(plan, force=force, resumable=True, restart=force) as work:
        if work.committed is None:
            reference = None if "masks" not in inputs else _reference(inputs["masks"])
            runner = _Search(store, work, data, fold, reference, device, workers, log)
            artifact, up_to_date = runner.run(candidates, epochs, command), False
        else:
            artifact, up_to_date = work.committed, True
            _note_threads(artifact)
    _count_trials(store, artifact)
    return Result(artifact, up_to_date)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Settings that are tried, and the recipe that they make; ``number`` counts from 0."""

    number: int
    values: dict[str, str]
    recipe: Recipe


@dataclass(slots=True)
class _Search:
    store: Store
    work: Work
    data: Artifact
    fold: int | None
    masks: str | None
    device: str
    workers: int | None
    log: Sequence[str]
    models: dict[str, Artifact] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, candidates: Sequence[_Candidate], epochs: Sequence[int], command: str | None) -> Artifact:
        """Train all trials and commit what they gave."""
        begun = time.perf_counter()
        config = SearchConfig.model_validate_json(json_bytes(dict(self.work.plan.config)))
        failed = self._failures(config)
        done: list[Trial] = []
        entrants = list(candidates)
        for number, length in enumerate(epochs):
            if number:
                best = sorted((one for one in done if one.round == number - 1), key=lambda one: one.rank(config.metric))
                going_on = {one.number for one in best[: max(1, len(entrants) // ETA)] if one.scores is not None}
                entrants = [one for one in entrants if one.number in going_on]
                note(f"round {number + 1} of {len(epochs)}: {len(entrants)} of {len(best)} go on")
            for at, candidate in enumerate(entrants):
                settings = ", ".join(f"{key}={value}" for key, value in candidate.values.items())
                note(f"trial {candidate.number} ({at + 1} of {len(entrants)}, {_counted(length, 'epoch')}): {settings}")
                trial = failed.get((candidate.number, number)) or self._trained(candidate, number, length)
                done.append(trial)
                self._keep(done)
                score = trial.score(config.metric)
                ended = f"diverged: {trial.fault}" if score is None else f"validation {_scored(config.metric, score)}"
                note(f"trial {candidate.number}: {ended}")
        return self._commit(done, candidates, config, time.perf_counter() - begun, command)

    def _trained(self, candidate: _Candidate, number: int, epochs: int) -> Trial:
        recipe = shortened(candidate.recipe, epochs)
        try:
            trained = train(
                store=self.store,
                system=recipe.about.system or "",
                dataset=self.data.reference,
                recipe=recipe,
                seeds=(SEED,),
                fold=self.fold,
                masks=self.masks,
                device=self.device,
                workers=self.workers,
                log=self.log,
            )
        except DivergedError as error:
            if error.directory.is_dir():
                discard(self.store, [error.directory])  # to resume it would only end as it did
            warn(f"trial {candidate.number} diverged: {error.what}")
            return Trial(
                number=candidate.number,
                round=number,
                epochs=epochs,
                values=candidate.values,
                state="diverged",
                fault=error.what,
            )
        model = trained.whole.artifact
        summary = ModelSummary.of(model)
        role = _role(candidate.number, number)
        self.models[role] = model
        self.seconds[role] = Measured.of(model).seconds or 0.0
        return Trial(
            number=candidate.number,
            round=number,
            epochs=epochs,
            values=candidate.values,
            state="trained",
            scores=summary.selected,
            epoch=summary.epoch,
            model=model.reference,
        )

    def _keep(self, done: Sequence[Trial]) -> None:
        write_atomic(self.work.directory / TRIALS, json_bytes(Trials(trials=tuple(done)).record()))

    def _failures(self, config: SearchConfig) -> dict[tuple[int, int], Trial]:
        """Return the trials of this search, or of an equal one with fewer or more, that diverged: they would again."""
        known: list[Trial] = []
        path = self.work.directory / TRIALS
        if path.is_file():
            try:
                known += Trials.model_validate_json(path.read_bytes()).trials
            except ValidationError:
                warn(f"{path}: what it said of trials that diverged is not used")
        for directory in self.store.directories(("search",)):
            with suppress(FerError):  # damaged, or of another form
                artifact = self.store.open(directory)
                alike = SearchConfig.of(artifact).model_copy(update={"trials": config.trials}) == config
                inputs = artifact.manifest.inputs
                if alike and all(inputs.get(role) == one for role, one in self.work.plan.inputs.items()):
                    known += read_trials(artifact)
        return {(one.number, one.round): one for one in known if one.state == "diverged"}

    def _commit(
        self,
        done: Sequence[Trial],
        candidates: Sequence[_Candidate],
        config: SearchConfig,
        seconds: float,
        command: str | None,
    ) -> Artifact:
        best = min(done, key=lambda trial: trial.rank(config.metric))
        if best.scores is None or best.model is None:
            hint = f"the first: {best.fault}; narrow --space, a lower optim.lr for one"
            raise FerError(f"all {_counted(len(candidates), 'trial')} diverged", hint=hint)
        failed = sum(trial.state == "diverged" for trial in done)
        score = best.score(config.metric) or 0.0
        recipe = shortened(candidates[best.number].recipe, best.epochs)
        self.work.write(TRIALS, json_bytes(Trials(trials=tuple(done)).record()))
        self.work.write(RECIPE, _recipe_text(self.work.plan, recipe, best, self.data, len(candidates)).encode())
        model = self.models[_role(best.number, best.round)]
        values = ", ".join(f"{key}={value}" for key, value in best.values.items())
        return self.work.commit(
            summary=SearchSummary(
                headline=f"{config.method}, {_counted(len(candidates), 'trial')}: {values}, "
                f"validation {_scored(config.metric, score)}",
                trials=len(candidates),
                trainings=len(done),
                failed=failed,
                best=best.values,
                model=best.model,
                score=score,
            ),
            protocol=_with_trials(TrainingProtocol.of(model), len(candidates)),
            measured=Measured(command=command, seconds=round(seconds, 1), seconds_by_value=self.seconds),
            warnings=list(dict.fromkeys(text for model in self.models.values() for text in model.manifest.warnings)),
            files=[TRIALS, RECIPE],
            made=self.models,
        )


def _method(method: str, trials: int | None) -> SearchMethod:
    if method not in METHODS:
        raise UsageError(f"--method {method!r} is not a choice", hint=f"take {', '.join(METHODS)}")
    if method == "grid" and trials is not None:
        raise UsageError("--trials is not for a grid, which tries all", hint="leave it out, or take --method random")
    if trials is not None and not 1 <= trials <= MAX_SETTINGS:
        raise UsageError(f"--trials {trials} is out of range", hint=f"take 1 to {MAX_SETTINGS:,}")
    return method


def _check_keys(space: Space, changes: Sequence[str], method: SearchMethod) -> None:
    """Refuse keys that no trials can differ in, or that are set too."""
    if "train.monitor" in space.values:
        raise space.sources["train.monitor"](
            "train.monitor is what trials are compared by", "set it for all, with --set"
        )
    if method == "halving" and "train.epochs" in space.values:
        raise space.sources["train.epochs"]("train.epochs is what halving sets itself", "leave it out")
    fixed = {text.partition("=")[0].strip() for text in changes}
    for key in space.values:
        if key in fixed or key.removesuffix(".name") in fixed:
            raise UsageError(f"{key} is both in --set and in --space", hint="take one of them")


def _candidates(
    space: Space, source: RecipeSource, changes: Sequence[str], method: SearchMethod, trials: int | None, seed: int
) -> list[_Candidate]:
    """Return all settings that are to be tried, with their recipes: what is at fault is said before any training."""

    def recipe(settings: Settings) -> Recipe:
        varied = [change(key, value) for key, value in settings.items()]
        read: Recipe = source.read(source.of(None), [*changes, *varied], option="--space")
        return read

    if unknown := [key for key in space.values if not space.knows(key)]:
        key = unknown[0]
        try:
            recipe({key: space.values[key].extremes[0]})
        except UsageError as error:
            what = error.what.partition("': ")[2] or error.what
            raise space.sources[key](what, error.hint.removesuffix("; see --print-config")) from None
        raise AssertionError("an unknown key is refused")
    number = trials or TRIAL_COUNTS.get(method, 0)
    drawn = space.grid() if method == "grid" else space.random(number, seed)
    for _, settings in space.probes(drawn[0]):
        recipe(settings)
    if method != "grid" and len(drawn) < number:
        note(f"the space holds {_counted(len(drawn), 'setting')}: all are tried")
    return [
        _Candidate(at, {key: toml_value(value) for key, value in settings.items()}, recipe(settings))
        for at, settings in enumerate(drawn)
    ]


def _rounds(method: SearchMethod, trials: int, base: Recipe) -> tuple[int, ...]:
    if method != "halving":
        return (base.train.epochs,)
    epochs = rounds(trials, base.train.epochs)
    if len(epochs) < 2:
        what = f"halving of {_counted(trials, 'trial')} and {_counted(base.train.epochs, 'epoch')} has a single round"
        raise UsageError(what, hint=f"take {ETA} or more of both, or --method random")
    return epochs


def _check_validation(dataset: Dataset, fold: int | None) -> None:
    view = seen(dataset, fold).dataset
    if "validation" not in view.split_names:
        where = "" if fold is None else f"fold {fold} of "
        hint = "hold some out with 'fer split' or 'fer prepare --validation 0.1'; a search never looks at test"
        raise FerError(f"{where}{dataset.artifact.reference} has no validation images to compare trials on", hint=hint)


def _weights(store: Store, recipes: Sequence[Recipe]) -> dict[str, str]:
    """Return the hash of each of the pretrained weights that trials begin with; refuse what is not there at once."""
    wanted = dict.fromkeys((one.backbone.backbone, one.backbone.weights) for one in recipes if one.backbone is not None)
    files = {f"{backbone}, {weights}": find_starting_weights(store, backbone, weights) for backbone, weights in wanted}
    return {key: "none" if file is None else file.identity for key, file in files.items()}


def _inputs(
    store: Store, system: System[Any], recipes: Sequence[Recipe], data: Artifact, masks: str | None
) -> dict[str, Input]:
    """Return what trials are made from and no recipe holds: data set, masks, teachers."""
    inputs = {"dataset": data.as_input()}
    if any(system.needs(recipe).masks for recipe in recipes):
        inputs["masks"] = find_masks(store, data, masks).as_input()
    teachers = sorted({recipe.distill.teacher for recipe in recipes if recipe.distill.teacher is not None})
    for number, teacher in enumerate(teachers):
        inputs[f"teacher{number}"] = store.find(teacher, soft_targets.KINDS).as_input()
    return inputs


def _name(system: System[Any], base: Recipe, data: Artifact, method: SearchMethod, space: Space, seed: int) -> str:
    backbone = [] if base.backbone is None or "model.backbone" in space.values else [base.backbone.backbone]
    keys = [key.removesuffix(".name").rpartition(".")[2] for key in space.values]
    words = [*recipe_variant(system, base).name_words, method, *keys]
    stem = "-".join([data.name, system.name, *backbone])
    return composed_name(stem, words, [] if method == "grid" else [f"seed{seed}"])


def _role(number: int, round_: int) -> str:
    return f"trial{number}-round{round_}"


def _reference(source: Input) -> str:
    return f"{source.kind}/{source.name}@{source.version}"


def _scored(metric: str, score: float) -> str:
    return f"{metric.replace('_', ' ')} {f'{score:.4f}' if metric == 'loss' else f'{score:.1%}'}"


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _recipe_text(plan: Plan, recipe: Recipe, best: Trial, data: Artifact, trials: int) -> str:
    """Return the recipe of the best trial, which ``--recipe`` takes: models of it say how many were compared."""
    system = recipe.about.system
    command = f"fer train {system} {data.name} --recipe {plan.kind}/{plan.name}@{plan.version}"
    about = recipe.about.model_copy(update={"command": command, "measured": None, "trials": trials})
    heading = [f"The best of {_counted(trials, 'trial')} of {plan.kind}/{plan.name}@{plan.version}: {best.model}."]
    return toml_text(recipe.model_copy(update={"about": about}), heading=heading)


def _with_trials(protocol: TrainingProtocol, trials: int) -> TrainingProtocol:
    assert protocol.selection is not None, "a training selects"
    before = protocol.selection.trials or 0
    return protocol.model_copy(
        update={"selection": protocol.selection.model_copy(update={"trials": max(trials, before)})}
    )


def _note_threads(artifact: Artifact) -> None:
    """Say where trials that are there were trained with another number of threads than is asked for."""
    asked, protocol = machine.threads_asked_for(), TrainingProtocol.of(artifact)
    if asked is not None and (protocol.numerics is None or protocol.numerics.threads != asked):
        note(f"the best trial was computed with {protocol.computed_with}; --force tries all with --threads {asked}")


def _count_trials(store: Store, search: Artifact) -> None:
    """Write into the protocol of the best model how many settings it was selected from."""
    summary = SearchSummary.of(search)
    try:
        model = store.find(summary.model, ["model"])
    except FerError:
        return  # removed since
    protocol = TrainingProtocol.of(model)
    counted = _with_trials(protocol, summary.trials)
    if counted != protocol:
        store.with_protocol(model, counted)
