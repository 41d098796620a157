"""Training and scoring over folds: no model is scored on what it saw, each image once, and stopping changes nothing."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError, PreemptedError
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.datasets.fold_view import dataset_of
from fer_cli.datasets.overlap import same_id_space, shared_subjects
from fer_cli.datasets.synth.loader import Synth
from fer_cli.metrics import evaluate
from fer_cli.models.trained import WEIGHTS
from fer_cli.plots.curves import draw
from fer_cli.stages.audit_model import audit_model
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.prepare import prepare
from fer_cli.stages.split import split
from fer_cli.stages.train import TrainedResult, train
from fer_cli.training import engine
from tests.kits.films import film_dataset
from tests.kits.train import Fer, assert_matches, words
from tests.training.test_training import SMALL, stop_after

SEEDS = (0, 1)


def run(store: Store, *changes: str, **options: Any) -> TrainedResult:
    how = {"dataset": "films-folds3", "fold": "all"} | options
    return train(store=store, system="baseline", changes=[*SMALL, "train.epochs=1", *changes], device="cpu", **how)


def films(store: Store) -> Dataset:
    film_dataset(store, subjects=20, sequences=60)
    return open_dataset(split(store=store, folds=3).artifact)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, TrainedResult, dict[str, Any]]:
    """Three folds of two seeds, and what each training was shown."""
    store = Store(tmp_path_factory.mktemp("folds"))
    films(store)
    shown: dict[str, Any] = {}
    fit = engine.fit

    def noting(task: engine.Task, *args: Any, **options: Any) -> engine.Trained:
        shown[str(options["directory"].parent.name)] = task
        return fit(task, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "fit", noting)
        return store, run(store, seeds=SEEDS), shown


@pytest.fixture(scope="module")
def scored(trained: tuple[Store, TrainedResult, dict[str, Any]]) -> Artifact:
    store, result, _ = trained
    return evaluate_model(store=store, model=result.whole.artifact.reference, report=True, resamples=200).artifact


def models(result: TrainedResult) -> dict[tuple[int, int], Artifact]:
    configs = [(one.artifact.manifest.config, one.artifact) for one in result.models]
    return {(config["fold"], config["seed"]): artifact for config, artifact in configs}


def test_no_model_sees_its_fold(trained: tuple[Store, TrainedResult, dict[str, Any]]) -> None:
    store, result, shown = trained
    dataset = open_dataset(store.find("films-folds3", ["dataset"]))
    assert dataset.folds is not None
    assert dataset.subjects is not None
    assert set(models(result)) == {(fold, seed) for fold in range(3) for seed in SEEDS}
    for (fold, _), model in models(result).items():
        task = shown[model.name]
        tested = set(dataset.subjects[dataset.folds == fold])
        learned, chosen = set(dataset.subjects[task.train]), set(dataset.subjects[task.validation])
        assert not tested & (learned | chosen)
        assert not learned & chosen
        assert len(task.train) + len(task.validation) == (dataset.folds != fold).sum()
        assert model.manifest.protocol["data"]["fold"] == fold
        assert model.manifest.protocol["data"]["n"]["train"] == len(task.train)
        assert model.name.endswith(f"-fold{fold}-seed{model.manifest.config['seed']}")
        assert dataset_of(store, model).rows("test").tolist() == np.flatnonzero(dataset.folds == fold).tolist()


def test_all_folds_are_one_study(trained: tuple[Store, TrainedResult, dict[str, Any]]) -> None:
    store, result, _ = trained
    assert result.study is not None
    study = result.study.artifact
    assert study.name.startswith("films-folds3-baseline-test_efficientnet-size32-")
    assert study.name.endswith("-all-folds")
    assert list(study.manifest.inputs) == [f"fold{fold}-seed{seed}" for seed in SEEDS for fold in range(3)]
    folds = store.find("films-folds3", ["dataset"]).manifest.protocol["folds"]
    protocol = study.manifest.protocol["data"]
    assert protocol["split_hash"] == folds["hash"]
    assert protocol["n"]["test"] == 180
    assert protocol["n"]["train"] == min(
        model.manifest.protocol["data"]["n"]["train"] for model in models(result).values()
    )
    assert "fold" not in protocol
    again = run(store, seeds=SEEDS)
    assert all(one.up_to_date for one in (*again.models, again.whole))


def test_one_fold_alone_is_the_same_model(trained: tuple[Store, TrainedResult, dict[str, Any]]) -> None:
    store, result, _ = trained
    alone = run(store, fold=1)
    assert alone.study is None
    assert alone.whole.up_to_date
    assert alone.whole.artifact.version == models(result)[1, 0].version


def test_each_image_is_scored_once_by_the_model_that_never_saw_it(
    trained: tuple[Store, TrainedResult, dict[str, Any]], scored: Artifact
) -> None:
    store, result, _ = trained
    dataset = open_dataset(store.find("films-folds3", ["dataset"]))
    assert dataset.folds is not None
    table = read_table(scored.file("all-predictors.parquet")).to_pylist()
    fold_of = dict(zip(dataset.ids.tolist(), dataset.folds.tolist(), strict=True))
    scores = [f"score_{name}" for name in dataset.classes]
    found: dict[str, dict[str, list[float]]] = {}
    for row in table:
        assert row["fold"] == fold_of[row["id"]]
        of = found.setdefault(row["predictor"], {})
        assert row["id"] not in of, "twice"
        of[row["id"]] = [row[score] for score in scores]
    assert list(found) == ["seed 0", "seed 1", "ensemble"]
    assert all(list(of) == dataset.ids.tolist() for of in found.values())
    for (fold, seed), model in models(result).items():
        alone = evaluate_model(store=store, model=model.reference, resamples=100).artifact
        assert alone.manifest.protocol["split"] == "test"
        rows = read_table(alone.file("predictions.parquet")).to_pylist()
        assert {row["id"] for row in rows} == {name for name, of in fold_of.items() if of == fold}
        for row in rows:
            assert found[f"seed {seed}"][row["id"]] == pytest.approx([row[score] for score in scores], abs=1e-6)
    both = [[found[name][image] for image in dataset.ids.tolist()] for name in ("seed 0", "seed 1", "ensemble")]
    assert np.mean(both[:2], axis=0) == pytest.approx(np.array(both[2]))


def test_pooled_metrics_are_drawn_by_subject_and_told_by_fold(
    trained: tuple[Store, TrainedResult, dict[str, Any]], scored: Artifact
) -> None:
    store, _, _ = trained
    dataset = open_dataset(store.find("films-folds3", ["dataset"]))
    table = read_table(scored.file("predictions.parquet")).to_pylist()
    assert {row["predictor"] for row in table} == {"seed 0", "seed 1"}, "what the mean of seeds is of"
    table = [row for row in table if row["predictor"] == "seed 0"]
    said = np.array([[row[f"score_{name}"] for name in dataset.classes] for row in table])
    expected = evaluate(dataset.labels, said, dataset.classes, seed=0, groups=dataset.subjects, resamples=200)
    metrics = json.loads(scored.file("metrics.json").read_text())
    accuracy = metrics["predictors"]["seed 0"]["accuracy"]
    assert accuracy["value"] == pytest.approx(expected.accuracy.value)
    assert (accuracy["low"], accuracy["high"]) == pytest.approx((expected.accuracy.low, expected.accuracy.high))
    assert scored.manifest.protocol["intervals"]["unit"] == "subject"
    by_fold = metrics["by_fold"]
    assert by_fold["images"] == [63, 63, 54]
    shares = [
        float(np.mean([row["label"] == row["predicted"] for row in table if row["fold"] == fold])) for fold in range(3)
    ]
    assert by_fold["accuracy"]["seed 0"] == pytest.approx(shares)
    both = np.mean([by_fold["accuracy"][name] for name in ("seed 0", "seed 1")], axis=0)
    assert by_fold["accuracy"]["mean of seeds"] == pytest.approx(both)
    assert metrics["unsound"] == []


def test_the_report_of_folds_says_what_they_are(scored: Artifact) -> None:
    page = scored.file("report.html").read_text()
    assert "3 folds: fold i holds sorted(subjects)[i::3]" in page
    assert "3 models, each on the fold that it never saw" in page
    assert "Seed 0, fold 0: the most confident" in page
    assert "--fold all" in page
    assert "accuracy by fold" in page
    assert "fer split films@" in page


def test_curves_are_of_every_fold_and_seed(trained: tuple[Store, TrainedResult, dict[str, Any]]) -> None:
    store, result, _ = trained
    figure = draw(store, result.whole.artifact.reference).figure
    texts = [text.get_text() for text in figure.texts]
    assert any("fold 2, seed 1" in text for text in texts), texts


def test_a_stop_in_the_second_fold_changes_nothing(
    trained: tuple[Store, TrainedResult, dict[str, Any]], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole, _ = trained
    films(store)
    with monkeypatch.context() as patch:
        stop_after(patch, 5 + 2)
        with pytest.raises(PreemptedError):
            run(store)
    assert len(store.directories(["model"])) == 1
    assert not store.directories(["study"])
    result = run(store)
    assert [one.up_to_date for one in result.models] == [True, False, False]
    for key, model in models(result).items():
        assert (model.path / WEIGHTS).read_bytes() == (models(whole)[key].path / WEIGHTS).read_bytes()


def test_a_model_chosen_on_its_fold_is_marked(trained: tuple[Store, TrainedResult, dict[str, Any]]) -> None:
    store, _, _ = trained
    chosen = run(store, select_on="test").whole.artifact
    unsound = evaluate_model(store=store, model=chosen.reference, resamples=100).artifact.manifest.summary["unsound"]
    assert unsound == ["scored on the selection split: optimistic"]


def test_the_frame_split_is_red_wherever_its_number_appears(store: Store) -> None:
    film_dataset(store, subjects=20, sequences=60)
    split(store=store, frames="2:1")
    model = train(store=store, system="baseline", changes=[*SMALL, "train.epochs=1"], device="cpu").whole.artifact
    scored = evaluate_model(store=store, model=model.reference, report=True, resamples=100).artifact
    mark = "frames of the same sequences are in both train and test (leaky frame split): optimistic"
    assert mark in scored.manifest.summary["unsound"]
    assert scored.file("report.html").read_text().count(mark) >= 2
    with pytest.raises(FerError, match="is unsound: frames of the same sequences"):
        evaluate_model(store=store, model=model.reference, resamples=100, strict=True)
    audit = audit_model(store=store, model=model.reference, device="cpu")
    told = {one.check: one for one in audit.findings}["shared subjects"]
    assert not audit.is_sound
    assert told.verdict == "fail"
    kin = r"; \d\d of 60 scored images are of a {} in the training images"
    assert re.fullmatch(re.escape(mark) + kin.format("subject") + kin.format("sequence"), told.measured)

    # Carved anew it is another data set with the same frames: it does not make the number sound.
    carved = split(store=store, dataset="films-frames2-1", validation=0.2).artifact
    laundered = evaluate_model(store=store, model=model.reference, data=carved.reference, resamples=100).artifact
    assert any(text.startswith(f"shared subjects: {mark}") for text in laundered.manifest.summary["unsound"])

    # Nor does a file of predictions, of which nobody knows what they were learned from.
    data = scored.manifest.inputs["dataset"]
    reference = f"dataset/{data.name}@{data.version}"
    for name, cautioned in (("test", False), ("train", True)):
        rows = open_dataset(store.find(reference, ["dataset"]))
        lines = [f"{rows.ids[row]},{rows.classes[rows.labels[row]]}" for row in rows.rows(name)]
        (path := store.root / f"{name}.csv").write_text("\n".join(["id,label", *lines]))
        foreign = evaluate_model(store=store, predictions=path, data=reference, split=name, resamples=100).artifact
        assert mark in foreign.manifest.summary["unsound"]
        said = " ".join(foreign.manifest.summary["cautions"])
        assert "subjects are in more than one split: optimistic if the predictor was trained on this dataset" in said
        assert ("Scored on the training split" in said) is cautioned


def test_persons_of_another_data_set_are_others(store: Store) -> None:
    """Drawn faces with another seed have the same names and are not the same persons; with fewer classes they are."""
    made = [prepare(store=store, loader=Synth(images=160, size=32, grey=True, seed=seed)).artifact for seed in (0, 1)]
    options: dict[str, Any] = {"dataset": made[0].reference, "changes": [*SMALL, "train.epochs=1"], "device": "cpu"}
    model = train(store=store, system="baseline", **options).whole.artifact
    for data, verdicts in ((made[0], ["pass"]), (made[1], [])):
        audit = audit_model(store=store, model=model.reference, data=data.reference, device="cpu")
        assert [one.verdict for one in audit.findings if one.check == "shared subjects"] == verdicts
    assert open_dataset(made[1]).subjects is not None
    again = split(store=store, dataset=made[0].reference, folds=4).artifact
    kin = open_dataset(again)
    assert same_id_space(kin, open_dataset(made[0]))
    assert not same_id_space(kin, open_dataset(made[1]))
    train_rows = open_dataset(made[0]).rows("train")
    persons, films = shared_subjects(kin, np.arange(len(kin.ids)), open_dataset(made[0]), train_rows)
    assert persons.tolist() == train_rows.tolist()
    assert not len(films)


def test_folds_without_validation_choose_nothing(store: Store, fer: Fer) -> None:
    film_dataset(store, subjects=20, sequences=60)
    split(store=store, folds=3, validation=0.0)
    said = fer(*words(store, "baseline", "films-folds3", "--fold", "0"))
    assert_matches(said, "has no validation images to choose an epoch by; make the folds again, 'fer split' without")


def test_what_is_no_fold_is_refused(store: Store, fer: Fer) -> None:
    films(store)
    cases = [
        (["--fold", "3"], 1, r"films-folds3@\w+ has no fold 3; it has 0 to 2"),
        (["--fold", "one"], 2, "--fold 'one' is not a fold; write its number, from 0, or all"),
        (["--fold", "0,1"], 2, "--fold '0,1' is not a fold"),
    ]
    for more, code, what in cases:
        said = fer(*words(store, "baseline", *more), code=code)
        assert_matches(said, what)
    for fold in ("0", "all"):
        said = fer(*words(store, "baseline", "films", "--fold", fold))
        assert "has no folds; create them: fer split films --folds 10" in said
    assert not list(store.root.glob("model/*/*"))
