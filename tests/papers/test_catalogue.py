"""The facts of the papers: all there, typed, and as they were read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fer_cli.artifacts.manifest import digest
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import UsageError
from fer_cli.papers.catalogue import PAPERS, SCALES, Entry, ScaleName, entries, find, paper
from fer_cli.stages.reproduce_plan import Training, runs_of
from fer_cli.systems.recipe_sources import find_source

SOURCE = Path(__file__).resolve().parents[3] / "shared/papers/tables.json"
"""The facts with the lines they were read from, where the tests are run beside them."""
FACTS = "77456330a52206aefc7c98e645b34277fa57f77f5d0d3a4ffa77deeb0c926948"
"""Hash over every name and figure."""


def facts() -> list[list[object]]:
    return [
        [entry.reference, entry.kind, entry.unit, [[row.name, row.value, row.kind] for row in entry.rows]]
        for entry in entries()
    ]


def test_all_entries_and_rows_are_there() -> None:
    assert {name: len(paper(name).entries) for name in PAPERS} == {
        "ahm": 9,
        "conv-cut": 14,
        "psa-resnet": 14,
        "slfer": 13,
    }
    assert sum(len(entry.rows) for entry in entries()) == 218
    assert digest(facts()) == FACTS, "a figure of a paper was changed"


@pytest.mark.skipif(not SOURCE.is_file(), reason="the papers are not here")
def test_every_value_is_that_of_the_papers() -> None:
    tables = {table["id"]: table for table in json.loads(SOURCE.read_bytes())["tables"]}
    ours = {f"{entry.paper}-{entry.id}": entry for entry in entries()}
    assert set(ours) == set(tables)
    for name, entry in ours.items():
        table = tables[name]
        assert (entry.kind, entry.unit) == (table["kind"], table["unit"])
        assert [(row.name, row.value, row.kind) for row in entry.rows] == [
            (row["name"], row["value"], row["kind"]) for row in table["rows"]
        ]


def test_known_figures() -> None:
    [table] = find("conv-cut/table2-ferplus")
    assert [row.value for row in table.rows] == [75.71, 78.31, 82.46, 95.69]
    assert [entry.id for entry in find("conv-cut/table2")] == ["table2-rafdb", "table2-ferplus"]
    assert len(find("slfer")) == 13
    with pytest.raises(UsageError, match="slfer has no 'table9'; take table1, "):
        find("slfer/table9")
    with pytest.raises(UsageError, match="no paper 'emo'; take ahm, conv-cut"):
        find("emo/table1")


@pytest.mark.parametrize("entry", [one for one in entries() if one.measure != "ahm"], ids=lambda one: one.reference)
def test_every_row_is_a_recipe_that_can_be_read(entry: Entry, store: Store) -> None:
    for scale in SCALES:
        for run in runs_of(entry, paper(entry.paper).scales[scale], ("train.epochs=1",)):
            if isinstance(run.job, Training):
                recipe = find_source(run.job.recipe, store).read(run.job.system, run.job.changes)
                assert recipe.train.epochs == 1


def test_a_network_that_takes_no_small_images_has_its_least_size() -> None:
    [entry] = find("psa-resnet/table5-fer2013")
    form = paper("psa-resnet").scales["laptop"]

    def sizes(*changes: str) -> dict[str, str]:
        jobs = {run.name: run.job for run in runs_of(entry, form, changes)}
        return {
            name: dict(change.split("=") for change in job.changes)["data.size"]
            for name, job in jobs.items()
            if isinstance(job, Training)
        }

    assert {name: size for name, size in sizes().items() if size != "48"} == {"InceptionV4": "75"}
    assert set(sizes("data.size=96").values()) == {"96"}


@pytest.mark.parametrize("scale", SCALES)
def test_a_variant_is_another_job_than_its_row(scale: ScaleName) -> None:
    variants = 0
    for entry in entries():
        jobs = {run.name: run.job for run in runs_of(entry, paper(entry.paper).scales[scale], ())}
        for row in entry.rows:
            for variant in row.variants:
                variants += 1
                assert jobs[variant.name] not in {None, jobs[row.name]}
    assert variants == 34
