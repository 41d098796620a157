"""Bad input to training, through the command: the exit code, one line that says what to do, and nothing made."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from fer_cli.artifacts.store import Store
from fer_cli.datasets.records import Block, Row
from fer_cli.stages.prepare import prepare
from tests.kits.toy import CLASSES, Toy
from tests.kits.train import LAPTOP, RECIPES, Fer, assert_matches, flip, partial, words

# ---- recipes


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[data]", "colour = 1\n[data]", r"x\.toml:{line}: about\.colour is not a key"),
        ("[data]", "[colours]\n[data]", r"x\.toml:{line}: colours is not a key"),
        (
            "weight_decay",
            "wieght_decay",
            r"x\.toml:{line}: optim\.wieght_decay is not a key.*did you mean.*weight_decay",
        ),
        ("[schedule]", "[shedule]", r"x\.toml:{line}: shedule is not a key.*did you mean.*schedule"),
        ("epochs = 12", "epochs = '12'", r"x\.toml:{line}: train\.epochs: .*integer"),
        ("epochs = 12", "epochs = 12.0", r"x\.toml:{line}: train\.epochs: .*integer"),
        ("epochs = 12", "epochs = true", r"x\.toml:{line}: train\.epochs: .*integer"),
        ("epochs = 12", "epochs = 2020-01-01", r"x\.toml:{line}: train\.epochs: .*integer"),
        ("epochs = 12", "epochs = -3", r"x\.toml:{line}: train\.epochs: .*greater"),
        ("batch = 64", "batch = 1", r"x\.toml:{line}: train\.batch: .*greater than or equal to 2"),
        ("lr = 1e-3", "lr = 0", r"x\.toml:{line}: optim\.lr: .*greater than 0"),
        ("lr = 1e-3", "lr = nan", r"x\.toml:{line}: optim\.lr: .*finite"),
        ("lr = 1e-3", "lr = [1]", r"x\.toml:{line}: optim\.lr: .*number"),
        ('"none" # none, se, eca, cbam, aff', '"sel"', r"x\.toml:{line}: model\.attention: .*'aff'"),
        ('"cosine"', '"cosin"', r"x\.toml:{line}: schedule\.name: .*'cosine'"),
        ('"adamw"', '"lion"', r"x\.toml:{line}: optim\.name: .*'adamw'"),
        (
            '"cross-entropy"',
            '"arcface"',
            r"x\.toml:{line}: loss\.name: there is no 'arcface' here; take 'cross-entropy' or",
        ),
        ('"cross-entropy"', '"joint"', r"x\.toml:{line}: loss\.name = 'joint' is now 'island'; rename it"),
        ('"cross-entropy"', '"island"\nisland = -1', r"x\.toml:\d+: loss\.island: .*greater than or equal to 0"),
        ("soft = true", "island = 0.1", r"x\.toml:{line}: loss\.island is not a key.*belongs to loss\.name = 'island'"),
        ("min_lr_ratio", "floor", r"x\.toml:{line}: schedule\.floor is now schedule\.min_lr_ratio; rename it"),
        ("monitor", "select", r"x\.toml:{line}: train\.select is now train\.monitor; rename it"),
        ('"float32"', '"float16"', r"x\.toml:{line}: train\.precision: .*'bfloat16'"),
        ('"shuffled"', '"x"', r"x\.toml:{line}: train\.sampling: .*'balanced'"),
        ('weights = "auto"', 'weights = ""', r"x\.toml:{line}: model\.weights:? is empty.*auto.*none.*a file"),
        ('"cosine"', '"steps"', r"x\.toml:\d+: schedule\.epochs is empty"),
        ("[data]", "[data", r"x\.toml:{line}: is not TOML"),
        ("[about]", "[cut]\nx = '''", r"x\.toml:\d+: is not TOML"),
    ],
)
def test_a_recipe_is_read_strictly(fer: Fer, tmp_path: Path, old: str, new: str, expected: str) -> None:
    text = LAPTOP.read_text()
    assert old in text
    line = text.count("\n", 0, text.index(old)) + 1
    (tmp_path / "x.toml").write_text(text.replace(old, new, 1))
    said = fer("train", "baseline", "--recipe", tmp_path / "x.toml", "--print-config")
    assert "value error" not in said
    assert_matches(said, expected.replace("{line}", str(line)))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, "x.toml: cannot be read: No such file"),
        (b"", "x.toml: .* missing"),
        (bytes(range(256)), "x.toml:2: is not UTF-8 text"),
        (b"\0" * 99, "x.toml:1: is not TOML"),
        (b"x = " + b"[" * 50_000, "x.toml"),
        ((RECIPES / "conv-cut/convnext.toml").read_bytes(), r"x\.toml:10: is a recipe of conv-cut, not of baseline"),
        (
            (RECIPES / "conv-cut/convnext.toml").read_bytes().replace(b'system = "conv-cut"', b""),
            r"x\.toml:\d+: model\.cut is not a key",
        ),
    ],
)
def test_what_is_no_recipe_is_said(fer: Fer, tmp_path: Path, data: bytes | None, expected: str) -> None:
    if data is not None:
        (tmp_path / "x.toml").write_bytes(data)
    assert_matches(fer("train", "baseline", "--recipe", tmp_path / "x.toml", "--print-config"), expected)
    assert "Is a directory" in fer("train", "baseline", "--recipe", tmp_path, "--print-config")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("optim.lr", "sets nothing; write KEY=VALUE"),
        ("=3", "sets nothing"),
        ("optim..lr=3", "sets nothing"),
        ("optim.lr=", "optim.lr: .*number"),
        ("optim.lr=fast", "optim.lr: .*number"),
        ("optim.lr.x=3", "lr is a value, not a table"),
        ("optim.Lr=3", "optim.Lr is not a key.*did you mean.*optim.lr"),
        ("trian.epochs=3", "trian.*not a key.*did you mean.*train"),
        ("optim=3", "optim"),
        ("optim={lr=1}", "optim is a table"),  # it would silently reset all other keys of the table
        ("optim.lr=1e300", "optim.lr: .*less"),
        ("data.size=8", "data.size: .*16"),
        ("data.limit=0", "data.limit: .*1"),
        ("schedule.epochs=[1,'a']", "schedule.epochs.1: .*integer"),
    ],
)
def test_a_change_that_is_none_is_named(fer: Fer, change: str, expected: str) -> None:
    said = fer("train", "baseline", "--print-config", "--set", "train.epochs=1", "--set", change, code=2)
    assert_matches(said, f"--set ['\"]{re.escape(change)}['\"]:? .*{expected}")


def test_of_changes_of_one_key_the_last_counts_and_the_one_at_fault_is_named(fer: Fer) -> None:
    twice = ("train", "baseline", "--print-config", "--set", "optim.lr=fast", "--set", "optim.lr=1")
    assert fer(*twice, code=0) == ""
    assert "--set 'optim.lr=x'" in fer(*twice, "--set", "optim.lr=x", code=2)
    said = fer("train", "conv-cut", "--print-config", "--set", "augmentation.rotation=5.0", code=2)
    assert_matches(said, r"--set 'augmentation\.rotation=5\.0': .*cannot be cached.*model\.feature_cache")
    assert "value error" not in said


@pytest.mark.parametrize(
    ("system", "changes", "expected"),
    [
        (
            "baseline",
            ["loss=island", "model.frozen=true"],
            r"'island' cannot move the features of .*; take cross",
        ),
        ("baseline", ["model.attention=psa", "model.frozen=true"], r"model\.attention = 'psa' replaces layers"),
        (
            "psa-resnet",
            ["model.attention=se", "model.branch_input=split"],
            r"model\.branch_input is of psa alone; leave",
        ),
        ("baseline", ["loss.class_weights=balanced", "train.sampling=balanced"], r"loss\.class_weights = 'balanced'"),
        ("baseline", ["loss.class_weights=balanced", "data.oversample.fear=2"], r"loss\.class_weights = 'balanced'"),
        ("baseline", ["loss=island", "loss.island=-1"], r"loss\.island: .*greater than or equal to 0"),
        ("conv-cut", ["loss=island"], r"loss\.name: there is no 'island' here; take 'cross-entropy' or 'focal'"),
        ("slfer", ["loss.island=1"], r"loss\.island is not a key of this recipe"),
        ("baseline", ["data.repeat.fear=2"], r"data\.repeat is now data\.oversample"),
        ("conv-cut", ["model.kept=none"], r"model\.kept is now model\.feature_cache"),
        ("psa-resnet", ["model.taken=split"], r"model\.taken is now model\.branch_input"),
        ("slfer", ["loss.largest=3"], r"loss\.largest is now loss\.top_k_regions"),
        ("psa-resnet", ["loss=joint"], r"loss\.name = 'joint' is now 'island'"),
    ],
)
def test_settings_that_do_not_go_together_are_said(fer: Fer, system: str, changes: list[str], expected: str) -> None:
    sets = [word for change in changes for word in ("--set", change)]
    assert_matches(fer("train", system, "--print-config", *sets, code=2), expected)


# ---- networks and cuts


@pytest.mark.parametrize(
    ("system", "settings", "expected"),
    [
        ("baseline", {"model__backbone": "resnet1"}, "no backbone 'resnet1'; did you mean resnet18"),
        ("conv-cut", {"model__backbone": "ConvNeXt_base"}, "did you mean convnext_base"),
        ("baseline", {"model__backbone": ""}, "no backbone ''"),
        ("baseline", {"model__backbone": "timm/resnet18.a1_in1k"}, "'timm/resnet18.a1_in1k'; .*resnet18"),
        ("baseline", {"model__backbone": "resnet18.a9"}, "no weights 'a9' of resnet18; .*a1_in1k"),
        ("baseline", {"model__backbone": "test_resnet."}, "test_resnet"),
        ("baseline", {"model__backbone": "test_vit"}, "test_vit takes images of 160 px only; .*160"),
        ("conv-cut", {"model__backbone": "test_vit"}, "test_vit takes images of 160 px only; .*160"),
        ("conv-cut", {"model__backbone": "test_vit", "data__size": "160", "model__cut": "auto"}, "name the cut"),
        ("baseline", {"model__backbone": "test_mambaout", "model__attention": "se"}, "no last map of channels"),
        ("conv-cut", {"model__cut": "stage9"}, "no cut 'stage9'; take auto, stage1 to stage4, stage1.block0"),
        ("conv-cut", {"model__cut": "stage2.block2"}, "stage2.block0 to .block1"),
        ("conv-cut", {"model__cut": "stage3"}, "needs 4 of them or more, .*model.detail=0.*data.size"),
        ("conv-cut", {"model__detail": "3"}, "3 detail layers.*model.detail=2.*data.size"),
        ("conv-cut", {"data__size": "16", "model__cut": "stage4"}, "cannot process images of 16 px .*160"),
        ("conv-cut", {"train__batch": "127"}, "126 training images are fewer than a batch of 127; .*train.batch"),
        ("baseline", {"train__batch": "127"}, "126 training images are fewer than a batch of 127; .*train.batch"),
    ],
)
def test_a_network_that_cannot_be_had_is_said_before_anything_is_made(
    clean: Store, fer: Fer, system: str, settings: dict[str, str], expected: str
) -> None:
    assert_matches(fer(*words(clean, system, **settings)), expected)


@pytest.mark.parametrize(
    ("system", "backbone", "cut"),
    [("baseline", "test_vit3", ""), ("conv-cut", "test_vit3", "stage2"), ("baseline", "test_mambaout", "")],
)
def test_transformers_and_networks_with_channels_last_are_trained(
    own: Store, fer: Fer, system: str, backbone: str, cut: str
) -> None:
    settings = {"model__backbone": backbone, "data__size": "160", "data__limit": "20"}
    fer(*words(own, system, **settings, **({"model__cut": cut} if cut else {})), code=0)
    assert len(own.directories(["model"])) == 1


# ---- weights


class Trap:
    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (f"open({str(self.sprung)!r}, 'w').close()",)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    import timm

    return dict(timm.create_model("test_efficientnet").state_dict())


def test_weights_that_do_not_fit_are_named(
    clean: Store, fer: Fer, tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    sprung, name = tmp_path / "sprung", "bn1.bias"
    trap = pickle.dumps({"a": Trap(sprung)}, protocol=2)
    (tmp_path / "folder.safetensors").mkdir()
    cases: dict[str, tuple[bytes | None, str]] = {
        "shape.safetensors": (save({**state, name: torch.zeros(3)}), "1 have another shape (bn1.bias: (3,), expected"),
        "lacking.safetensors": (save({k: v for k, v in state.items() if k != name}), "are missing (bn1.bias)"),
        "nan.safetensors": (save({**state, name: torch.full_like(state[name], torch.nan)}), "bn1.bias"),
        "cut.safetensors": (save(state)[:-9], "not a safetensors file"),
        "pickle.safetensors": (trap, "not a safetensors file"),
        "pickle.pth": (trap, "not a file of plain tensors"),
        "absent.pth": (None, "no such file"),
        "folder.safetensors": (None, "no such file"),
    }
    for file, (data, expected) in cases.items():
        if data is not None:
            (tmp_path / file).write_bytes(data)
        said = fer(*words(clean, model__weights=str(tmp_path / file)))
        assert said.startswith(f"{tmp_path / file}: "), said
        assert expected in said
        assert "two options" not in said, "torch's advice to switch its protection off is not passed on"
        assert "--weights " not in said, "this command has no such option"
    assert not sprung.exists()


def test_weights_other_than_those_imported_are_refused(
    clean: Store, fer: Fer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, torch.Tensor]
) -> None:
    said = fer(*words(clean, model__weights="auto"))
    wanted = "weights of test_efficientnet are not on this machine.*forbids downloading them; download .*weights.none"
    assert_matches(said, wanted)
    monkeypatch.setenv("FER_WEIGHTS", str(tmp_path))
    save_file(state, tmp_path / "mine.safetensors")
    fer("weights", "import", tmp_path / "mine.safetensors", "--for", "test_efficientnet", code=0)
    kept = tmp_path / "test_efficientnet.safetensors"
    flip(kept, -1)
    assert_matches(
        fer(*words(clean, model__weights="auto")), f"{kept}: its sha256 is .*, expected from the import .*; import"
    )
    (tmp_path / "rubbish").write_bytes(b"<html>not found</html>")
    for wanted in ("rubbish", "nothing", "."):
        assert str(tmp_path) in fer("weights", "import", tmp_path / wanted, "--for", "test_efficientnet")


# ---- data


class Lacking(Toy):
    """A toy data set without some rows."""

    def __init__(self, name: str, lacks: Callable[[Row], bool]) -> None:
        super().__init__(images=70, grey=True, seed=0, classes=CLASSES)
        self.called, self.lacks = name, lacks

    @property
    def name(self) -> str:
        return self.called

    @property
    def config(self) -> dict[str, Any]:
        return {**super().config, "lacks": self.called}

    @property
    def expected_rows(self) -> int | None:
        return None

    def blocks(self) -> Iterator[Block]:
        for block in super().blocks():
            kept = [number for number, row in enumerate(block.rows) if not self.lacks(row)]
            yield Block(tuple(block.rows[number] for number in kept), block.images[kept])


@pytest.mark.parametrize("system", ["baseline", "conv-cut"])
def test_a_data_set_that_cannot_be_trained_on_is_said(own: Store, fer: Fer, system: str) -> None:
    for name, lacks in (
        ("fearless", lambda row: row.split == "train" and row.label == "fear"),
        ("unvalidated", lambda row: row.split == "validation"),
        ("untested", lambda row: row.split == "test"),
    ):
        prepare(store=own, loader=Lacking(name, lacks))
    fer("extract", "toy", "--backbone", "test_resnet", "--weights", "none", "--size", 32, "--store", own.root, code=0)
    features = own.find("toy-test_resnet-32-random", ["features"]).reference
    cases: list[tuple[tuple[object, ...], dict[str, str], str]] = [
        (("fearless",), {}, "has no training image of fear; .*prepare"),
        (("unvalidated",), {}, "has no validation split; it has train, test"),
        (("untested", "--select-on", "test"), {}, "has no test split; it has train, validation"),
        (("toy",), {"data__limit": "19"}, "19 training images are fewer than a batch of 20; .*train.batch"),
        (("toy",), {"data__limit": "6", "train__batch": "2"}, "data.limit"),  # of seven classes
        ((features,), {}, "is of kind features; expected: dataset"),
        (("nobody",), {}, "no dataset artifact 'nobody'"),
    ]
    before = len(own.directories(["features"]))
    for more, settings, expected in cases:
        assert_matches(fer(*words(own, system, *more, **settings)), expected)
    assert partial(own) == []
    assert own.directories(["model"]) == []
    assert len(own.directories(["features"])) == before, "maps are not computed for what cannot be trained"


# ---- seeds, devices, processes


@pytest.mark.parametrize("seeds", ["0,,1", "a", "0,0", "-1", "4294967296", "1.5", ""])
def test_seeds_are_distinct_numbers(clean: Store, fer: Fer, seeds: str) -> None:
    assert "--seeds" in fer(*words(clean, "baseline", f"--seeds={seeds}"), code=2)


@pytest.mark.parametrize(
    ("device", "expected"), [("cuda:9", "no such device; take --device auto"), ("gpu", "not a device; take auto, cpu")]
)
def test_a_device_that_is_not_there_is_said(clean: Store, fer: Fer, device: str, expected: str) -> None:
    said = fer(*words(clean), "--device", device, code=1 if ":" in device else 2)
    assert_matches(said, f"--device .*{expected}")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WORLD_SIZE": "3"}, "train.batch = 20 cannot be shared by 3 processes; take a multiple of 3"),
        ({"WORLD_SIZE": "20"}, "train.batch = 20 leaves one image to each of 20 processes; take 40 or more"),
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE is 'x', not a number"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE"),
        ({"WORLD_SIZE": "2"}, "MASTER_ADDR is not set; start it with torchrun"),
    ],
)
def test_an_environment_that_torchrun_did_not_make_is_said(
    clean: Store, fer: Fer, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert_matches(fer(*words(clean)), expected)
