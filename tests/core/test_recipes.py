"""A recipe is read as it stands or refused in one line that names the key and its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fer_cli.core.errors import UsageError
from fer_cli.core.recipes import MAX_BYTES, Section, load_recipe
from tests.kits.parsers import refusal
from tools.train_parser.recipe import ParserRecipe

FOLDER = Path(__file__).parents[2] / "tools" / "train_parser" / "recipes"
TEXT = (FOLDER / "augmented.toml").read_text(encoding="utf-8")
SIZES = next(line for line in TEXT.splitlines() if line.startswith("sizes")).partition(" #")[0]


def written(folder: Path, old: str, new: str) -> tuple[Path, int]:
    """Write the recipe with one place changed, and return the line of what is new."""
    assert TEXT.count(old) == 1
    text = TEXT.replace(old, new)
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path, text[: text.index(new)].count("\n") + 1 if new else 0


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_of_the_project_are_sound(path: Path) -> None:
    recipe = load_recipe(path, ParserRecipe)
    assert path.name in recipe.about.command
    assert recipe.data.side > max(size for phase in recipe.training.sizes for size in phase)
    assert recipe.augmentation.smallest <= min(size for phase in recipe.training.sizes for size in phase)


def test_plain_differs_from_augmented_in_augmentation_alone() -> None:
    plain, augmented = (load_recipe(FOLDER / f"{name}.toml", ParserRecipe) for name in ("plain", "augmented"))
    assert plain.training == augmented.training
    assert plain.data == augmented.data
    assert plain.encoder == augmented.encoder
    ours = plain.augmentation.model_dump(exclude={"smallest"})
    assert ours.pop("flip") == augmented.augmentation.flip
    assert set(ours.values()) == {0.0}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("fine = 0.4", "finer = 1\nfine = 0.4", "training.finer is not a key"),
        ("[data]", "[extra]\nx = 1\n[data]", "extra is not a key"),
        ("[data]", "[training.extra]\n[data]", "training.extra is not a key"),
        ("steps = 6000", "steps = 6000.0", "training.steps: "),
        ("steps = 6000", "steps = true", "training.steps: "),
        ("steps = 6000", 'steps = "6000"', "training.steps: "),
        ("steps = 6000", "steps = 0", "training.steps: "),
        ("steps = 6000", "steps = -6000", "training.steps: "),
        ("steps = 6000", "steps = [6000]", "training.steps: "),
        ("steps = 6000", "steps = 1979-05-27", "training.steps: "),
        ("batch = 24 ", "batch = 3 ", "training.batch: "),
        ("encoder_rate = 1e-3", "encoder_rate = false", "training.encoder_rate: "),
        ("encoder_rate = 1e-3", "encoder_rate = 0", "training.encoder_rate: "),
        ("encoder_rate = 1e-3", "encoder_rate = nan", "training.encoder_rate: "),
        ("encoder_rate = 1e-3", "encoder_rate = -inf", "training.encoder_rate: "),
        ("encoder_rate = 1e-3", f"encoder_rate = 1{'0' * 400}", "training.encoder_rate: "),
        ("decay = 2e-2", "decay = -1", "training.decay: "),
        ("average = 0.999", "average = 1.0", "training.average: "),
        ("average = 0.999", "average = nan", "training.average: "),
        ("jaccard = 1.0", "jaccard = nan", "training.jaccard: "),
        ("seed = 0", "seed = -1", "training.seed: "),
        ("flip = 0.5", "flip = 1.01", "augmentation.flip: "),
        ("flip = 0.5", "flip = nan", "augmentation.flip: "),
        ("flip = 0.5", "flip = true", "augmentation.flip: "),
        ("rotation = 10.0", "rotation = -10.0", "augmentation.rotation: "),
        ("rotation = 10.0", "rotation = nan", "augmentation.rotation: "),
        ("smallest = 36", "smallest = 7", "augmentation.smallest: "),
        ("aside = 8 ", "aside = 1 ", "data.aside: "),
        ("side = 320", "side = 63", "data.side: "),
        ('encoder = "auto"', "encoder = 1", "encoder: "),
        (SIZES, "sizes = []", "training.sizes: "),
        (SIZES, "sizes = [[]]", "training.sizes.0: "),
        (SIZES, "sizes = [96]", "training.sizes.0: "),
        (SIZES, "sizes = [[96.0]]", "training.sizes.0.0: "),
        (SIZES, "sizes = [[true]]", "training.sizes.0.0: "),
        (SIZES, "sizes = [[96], [0]]", "training.sizes.1.0: "),
        (SIZES, "sizes = [[96], [96, 33]]", "training.sizes.1.1: "),
        # tomllib's own words
        ("fine = 0.4", "fine = ", "is not TOML"),
        ("fine = 0.4", "fine: 0.4", "is not TOML"),
        ("side = 320", "side = 320\nside = 320", "is not TOML: Cannot overwrite a value"),
        ("hidden = 0.1", "hidden = [", "is not TOML"),
    ],
)
def test_a_wrong_key_is_named_with_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    path, line = written(tmp_path, old, new)
    message = refusal(lambda: load_recipe(path, ParserRecipe))
    if "is not TOML" in words:  # found where the sense is lost: behind the key
        line = int(message.removeprefix(f"{path}:").partition(":")[0]) if new.endswith("[") else line + new.count("\n")
    assert message.startswith(f"{path}:{line}: {words}"), message
    assert len(message) < 400


def test_the_line_is_that_of_the_item(tmp_path: Path) -> None:
    path, line = written(tmp_path, SIZES, "sizes = [\n  [96], # first\n  [128,\n   33],\n]")
    assert refusal(lambda: load_recipe(path, ParserRecipe)).startswith(f"{path}:{line + 3}: training.sizes.1.1: ")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("encoder_rate = 1e-3", "encoder_rate = inf", "training.encoder_rate: "),
        ("encoder_rate = 1e-3", "encoder_rate = 1e400", "training.encoder_rate: "),
        ("fine = 0.4", "fine = inf", "training.fine: "),
        ("rotation = 10.0", "rotation = inf", "augmentation.rotation: "),
        (SIZES, "sizes = [[99999968]]", "training.sizes.0.0: "),
        ("seed = 0", f"seed = 1{'0' * 30}", "training.seed: "),
    ],
)
def test_a_number_beyond_reason_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    path, line = written(tmp_path, old, new)
    assert refusal(lambda: load_recipe(path, ParserRecipe)).startswith(f"{path}:{line}: {words}")


@pytest.mark.parametrize(
    ("old", "words", "table"),
    [
        ("fine = 0.4", "training.fine is missing", "[training]"),
        ("papers_figure = ", "about.papers_figure is missing", "[about]"),
        ("aside = 8 ", "data.aside is missing", "[data]"),
    ],
)
def test_a_missing_key_is_named_with_its_tables_line(tmp_path: Path, old: str, words: str, table: str) -> None:
    path, _ = written(tmp_path, old, "#")
    line = path.read_text(encoding="utf-8").splitlines().index(table) + 1
    assert refusal(lambda: load_recipe(path, ParserRecipe)).startswith(f"{path}:{line}: {words}")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [("seed = 0", "sead = 0", "training.sead is not a key"), ("[data]", "[dat]", "dat is not a key")],
)
def test_a_misspelt_key_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    path, line = written(tmp_path, old, new)
    assert refusal(lambda: load_recipe(path, ParserRecipe)).startswith(f"{path}:{line}: {words}")


class Small(Section):
    """A form of one key."""

    x: float


@pytest.mark.parametrize("data", [b"x = 1", b"\xef\xbb\xbfx = 1\n", b"# \xc3\xa9\r\n\r\nx = 1\r\n", b"'x' = 1"])
def test_ways_to_write_the_same(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(data)
    assert load_recipe(path, Small) == Small(x=1.0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ": x is missing"),
        (b"\xff\xfex\x00", ":1: is not UTF-8 text"),
        (b"\xef\xbb\xbf\n\nx = '1'", ":3: x: "),
        (b"\xef\xbb\xbf\n\nx = ", ":3: is not TOML"),
        (b"\r\n\r\nx = '1'\r\n", ":3: x: "),
        (b"a = '''\n\n'''\nx = 1", ":1: a is not a key"),
        (b'x = 1\n"a\\nb" = 1', ":2: a\\nb is not a key"),
        (b"x = 1\nx = 2", ":2: is not TOML: Cannot overwrite"),
        (b"x = {a = 1}", ":1: x: "),
        (b"x = " + b"9" * 5000, ": holds a number beyond reading"),
        (b"x = " + b"[" * 20000 + b"]" * 20000, ":1: nests deeper than 32 levels"),
        (b"x = 1\na" + b".a" * 400_000 + b" = 1", ":2: nests deeper than 32 levels"),
        (b"#" * (MAX_BYTES + 1), ": is larger than 1,000,000 bytes"),
        (b"\x00", ":1: is not TOML"),
        (b"\x89PNG\r\n\x1a\n", ":1: is not UTF-8 text"),
    ],
)
def test_bytes_that_are_no_recipe(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(data)
    assert refusal(lambda: load_recipe(path, Small)).startswith(f"{path}{words}")


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    assert "cannot be read" in refusal(lambda: load_recipe(tmp_path / name, Small))


def test_a_changed_recipe_repeats_no_figure_of_the_unchanged_one() -> None:
    """What a recipe says that it measured holds for its own settings alone."""
    path = FOLDER / "augmented.toml"
    unchanged = load_recipe(path, ParserRecipe)
    assert unchanged.about.measured
    changed = load_recipe(path, ParserRecipe, [f"training.seed={unchanged.training.seed + 1}"])
    assert changed.about.measured is None
    assert changed.about.paper == unchanged.about.paper
    seed = unchanged.training.seed
    assert load_recipe(path, ParserRecipe, [f"training.seed={seed}"]).about.command == unchanged.about.command
    assert changed.about.command == f"{unchanged.about.command} --set training.seed={seed + 1}"
    assert load_recipe(path, ParserRecipe, ["about.command=mine", "training.seed=5"]).about.command == "mine"


@pytest.mark.parametrize(
    ("changes", "blamed"),
    [
        (["training.seed=1", "training=1"], "--set 'training=1': training is a table"),
        (["training=1", "training.seed=1"], "training is a value, not a table"),
        (["training.seed=1", "training.seed=many"], "--set 'training.seed=many': training.seed"),
    ],
)
def test_the_change_at_fault_is_the_one_that_is_named(changes: list[str], blamed: str) -> None:
    assert blamed in refusal(lambda: load_recipe(FOLDER / "plain.toml", ParserRecipe, changes), UsageError)
