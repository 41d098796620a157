"""Where a recipe is found: a file, the name of one that comes with a system, or an artifact that holds one."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.protocol import TrainingProtocol
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ModelConfig, ModelSummary
from fer_cli.core import assets
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.progress import warn
from fer_cli.core.recipes import named_system, recipe_faults, recipe_file
from fer_cli.core.toml_text import toml_text
from fer_cli.systems import registry
from fer_cli.training.recipe import RECIPE

KINDS: Final = ("model", "study", "search")
"""Artifacts that hold a recipe."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """A recipe that comes with a system; ``name`` is ``SYSTEM/RECIPE``."""

    name: str
    system: str
    path: Path
    is_default: bool


@dataclass(frozen=True, slots=True)
class RecipeSource:
    """A recipe's text, where it is from, and the system that it is of, as far as that is said.

    Attributes:
        label: what it is called: a shipped one's name, a file's path, an artifact's reference.
        path: what errors name.
        text: TOML.
        system: of the recipe; None where nothing says it.
        artifact: that holds it; None for a file.
    """

    label: str
    path: Path
    text: str
    system: str | None
    artifact: Artifact | None = None

    def read(self, system: str | None = None, changes: Sequence[str] = (), *, option: str = "--set") -> Any:  # noqa: ANN401 - its own type
        """Return the recipe, as that of a system or as that of the one that it says.

        Raises:
            FerError: it is not a recipe of the system.
            UsageError: neither says a system, or a change is to blame.
        """
        return registry.parse_recipe(self.of(system), self.text, self.path, changes, option=option)

    def faults(self, system: str | None = None) -> list[FerError]:
        """Return every fault of the recipe, in the order of its lines.

        Raises:
            UsageError: neither says a system.
        """
        name = self.of(system)
        known = registry.load(name)
        model = registry.read_recipe(name).model_dump(mode="json", exclude_none=True)
        faults = recipe_faults(self.text, self.path, known.recipe_type, model)
        said, line = named_system(self.text)
        if said not in {None, name}:
            hint = f"leave --system out, or make it {said}"
            return [FerError(f"about.system is {said!r}, not {name!r}", hint=hint, path=self.path, line=line), *faults]
        return faults

    def of(self, system: str | None) -> str:
        """Return the system that it is read as.

        Raises:
            UsageError: neither this nor the recipe says one.
        """
        if (name := system or self.system) is None:
            known = ", ".join(registry.names())
            raise UsageError(
                f"{self.label} does not say which system it is of", hint=f"give --system, or about.system: {known}"
            )
        return name


def shipped() -> list[Shipped]:
    """Return the recipes that come with fer, and the default one of each other package's system."""
    return list(_shipped())


def _shipped() -> Iterator[Shipped]:
    for system in registry.names():
        try:
            default = registry.load(system).default_recipe
        except FerError as error:  # of another package, which cannot be imported
            warn(str(error))
            continue
        own = sorted(assets.recipe(system).glob("*.toml")) if system in registry.SYSTEMS.bundled else [default]
        for path in own:
            yield Shipped(f"{system}/{path.stem}", system, path, path == default)


def find_source(wanted: str | Path, store: Store) -> RecipeSource:
    """Return the recipe that a file, a name or a reference stands for.

    A name is ``SYSTEM/RECIPE``, also as its path in the repository (``recipes/baseline/gpu.toml``), or a system's,
    which is its default recipe. A reference is that of a model, a study (whose models share their recipe) or a search.

    Raises:
        FerError: there is none, or it cannot be read.
    """
    path = Path(wanted)
    if not path.exists():
        known = shipped()
        name = str(wanted).removeprefix("recipes/").removesuffix(".toml")
        for one in known:
            if one.name == name or (one.is_default and one.system == wanted):
                return RecipeSource(one.name, one.path, recipe_file(one.path), one.system)
        if path.suffix != ".toml":
            return _stored(str(wanted), store, [one.name for one in known])
    text = recipe_file(path)
    return RecipeSource(str(wanted), path, text, named_system(text)[0])


def _stored(reference: str, store: Store, names: Sequence[str]) -> RecipeSource:
    try:
        artifact = store.find(reference, KINDS)
    except FerError as error:
        near = difflib.get_close_matches(reference, names, n=2, cutoff=0.6)
        meant = f"did you mean {' or '.join(near)}? Or " if near else ""
        hint = f"{meant}give a file, a name of 'fer recipe ls', or a model, study or search of 'fer ls'"
        raise FerError(f"no recipe {reference!r}: {error.what}", hint=hint) from None
    return source_of(store, artifact)


def source_of(store: Store, artifact: Artifact) -> RecipeSource:
    """Return the recipe of a model, a study or a search: of that its best trial's.

    Raises:
        FerError: it is not in the store, or damaged.
    """
    if artifact.kind == "study":
        from fer_cli.training.study import read_study

        member = store.find(read_study(artifact).members[0].reference, ["model"])
        return RecipeSource(artifact.reference, *_recorded(member), artifact)
    return RecipeSource(artifact.reference, *_recorded(artifact), artifact)


def _recorded(artifact: Artifact) -> tuple[Path, str, str | None]:
    """Return path, text and system of an artifact's recipe; a model of an earlier fer has its settings alone."""
    if artifact.has(RECIPE):
        path = artifact.file(RECIPE)
        text = recipe_file(path)
        system = named_system(text)[0]
        if artifact.kind == "model" and system is not None:
            text = _with_trials(artifact, system, text, path)
        return path, text, system
    config = ModelConfig.of(artifact)
    model = config.recipe["model"]
    if "weights" in model and ModelSummary.of(artifact).weights is not None:
        model = {**model, "weights": "auto"}
    command = f"fer train {config.system} {artifact.manifest.inputs['dataset'].name}"
    about = {"system": config.system, "paper": "", "command": command, "papers_figure": ""}
    heading = [f"The settings of {artifact.reference}, which was trained before models kept their recipe."]
    text = toml_text({"about": about, **config.recipe, "model": model}, heading=heading)
    return artifact.path / RECIPE, text, config.system


def _with_trials(model: Artifact, system: str, text: str, path: Path) -> str:
    """Return a model's recipe with what was learnt after its training: of how many settings it is the best."""
    selection = TrainingProtocol.of(model).selection
    if selection is None or selection.trials is None:
        return text
    recipe = registry.parse_recipe(system, text, path)
    about = recipe.about.model_copy(update={"trials": selection.trials})
    heading = [line.removeprefix("# ") for line in text.split("\n\n", 1)[0].split("\n") if line.startswith("# ")]
    return toml_text(recipe.model_copy(update={"about": about}), heading=heading)
