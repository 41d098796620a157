"""How a recipe differs from those that come with its system: the words that tell the arms of an experiment apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from fer_cli.artifacts.naming import number_word
from fer_cli.core.errors import FerError
from fer_cli.core.recipes import Section, load_recipe
from fer_cli.weights.files import SUFFIXES

if TYPE_CHECKING:
    from fer_cli.artifacts.summaries import ModelConfig
    from fer_cli.systems.base import System
    from fer_cli.training.recipe import Recipe

_PLAIN: Final = ("train", "optim", "data", "loss", "model", "augmentation", "schedule")
"""Where two tables have a key of one name, the first of these has it without its table's name."""
_SAID: Final = {("model", "backbone"), ("model", "weights"), ("distill", "teacher")}
"""Keys that names say in words of their own."""
_NOT_FILES: Final = ("auto", "try", "none")


@dataclass(frozen=True, slots=True)
class RecipeVariant:
    """A recipe as the nearest of those that come with the system, and what differs from that one.

    Attributes:
        nearest: the file's stem; empty for the system's default recipe.
        words: that stand in names, :meth:`Recipe.variant`'s first.
        changes: key -> its value, of all that differs but the backbone and its weights.
    """

    nearest: str
    words: tuple[str, ...]
    changes: dict[str, Any]

    @property
    def name_words(self) -> tuple[str, ...]:
        """All words, the nearest recipe's name among them."""
        return (*([self.nearest] if self.nearest else []), *self.words)


def recipe_variant(system: System[Any], recipe: Recipe) -> RecipeVariant:
    """Return how a recipe differs from the nearest of those that come with its system.

    Nearest is the one with the fewest other keys, the default one among equals: the same recipe has the same words
    whichever file or options it was given by.
    """
    default = system.default_recipe
    paths = [default, *(path for path in sorted(default.parent.glob("*.toml")) if path != default)]
    known = [(path, read) for path in paths if (read := _shipped(path, system)) is not None]
    if not known:  # a system of another package that comes without a recipe, or with one that is not there
        return RecipeVariant("", recipe.variant(), {})
    differing = [(path, base, _changes(recipe, base)) for path, base in known]
    path, base, changes = min(differing, key=lambda one: len(one[2]))
    said_by_file = () if path == default else base.variant()
    ours = tuple(word for word in recipe.variant() if word not in said_by_file)
    said = {key for key in changes if tuple(w for w in _without(recipe, base, key) if w not in said_by_file) != ours}
    words = [_word(recipe, key, value) for key, value in changes.items() if key not in said]
    words += _weights(recipe, base)
    return RecipeVariant("" if path == default else path.stem, (*ours, *words), changes)


def variant_of(config: ModelConfig) -> RecipeVariant | None:
    """Return the same of a trained model's settings; None where its system is not here, or is another now."""
    from fer_cli.systems import registry

    try:
        system = registry.load(config.system)
        return recipe_variant(system, system.recipe_type.from_record(config.recipe))
    except (FerError, ValidationError):
        return None


@lru_cache
def _shipped(path: Path, system: System[Any]) -> Recipe | None:
    recipe_type: type[Recipe] = system.recipe_type
    try:
        return load_recipe(path, recipe_type)
    except FerError:  # a file beside another package's recipe
        return None


def _keys(recipe: Recipe) -> Iterator[tuple[str, str, Any]]:
    """Yield table, key and value of all settings."""
    for table in type(recipe).model_fields:
        section = getattr(recipe, table)
        if table != "about" and isinstance(section, Section):
            for leaf in type(section).model_fields:
                if (table, leaf) not in _SAID:
                    yield table, leaf, getattr(section, leaf)


def _usual(recipe: Recipe, base: Recipe, table: str, leaf: str) -> Any:  # noqa: ANN401 - of the key's type
    """Return a key's value in the recipe that is the measure, else its default."""
    section = getattr(base, table)
    if leaf in type(section).model_fields:
        return getattr(section, leaf)
    return type(getattr(recipe, table)).model_fields[leaf].default


def _changes(recipe: Recipe, base: Recipe) -> dict[str, Any]:
    return {
        f"{table}.{leaf}": value for table, leaf, value in _keys(recipe) if value != _usual(recipe, base, table, leaf)
    }


def _without(recipe: Recipe, base: Recipe, key: str) -> tuple[str, ...]:
    """Return what :meth:`Recipe.variant` would say if a key were as in the base."""
    table, _, leaf = key.partition(".")
    section, usual = getattr(recipe, table), getattr(base, table)
    if leaf == "name" and type(section) is not type(usual):
        section = usual
    else:
        section = section.model_copy(update={leaf: _usual(recipe, base, table, leaf)})
    words: tuple[str, ...] = recipe.model_copy(update={table: section}).variant()
    return words


def _word(recipe: Recipe, key: str, value: Any) -> str:  # noqa: ANN401 - of the key's type
    table, _, leaf = key.partition(".")
    tables = [other for other, name, _ in _keys(recipe) if name == leaf]
    first = min(tables, key=lambda other: _PLAIN.index(other) if other in _PLAIN else len(_PLAIN))
    label = table if leaf == "name" else leaf if table == first else f"{table}-{leaf}"
    return setting_word(label, value)


def setting_word(label: str, value: Any) -> str:  # noqa: ANN401 - of any setting's type
    """Return a setting as it stands in a name: ``lr0.0005``, ``frozen``, ``no-clip``, ``schedule-steps``."""
    match value:
        case True:
            return label
        case False | None | "none":
            return f"no-{label}"
        case int() | float():
            return f"{label}{number_word(value)}"
        case dict():
            return "-".join([label, *(f"{name}{number_word(number)}" for name, number in value.items())])
        case tuple() | list():
            return "-".join([label, *(str(item) for item in value)])
        case _:
            return f"{label}-{value}"


def _weights(recipe: Recipe, base: Recipe) -> list[str]:
    """Return the word for a file of weights that was named; whether there are any is known where they are loaded."""
    ours, usual = recipe.backbone, base.backbone
    if ours is None or usual is None or ours.weights == usual.weights:
        return []
    if ours.weights == "none":
        return ["random"]
    if usual.weights == "none":
        return ["pretrained"]
    is_hash = len(ours.weights) == 64 or ours.weights.startswith("model@")  # what a trained model keeps of them
    if ours.weights in _NOT_FILES or is_hash:
        return []
    path = Path(ours.weights)
    return [path.stem if path.suffix in SUFFIXES else f"from-{path.name.partition('@')[0]}"]
