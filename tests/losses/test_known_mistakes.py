"""The list of known mistakes follows the code: ``python -m benchmarks.mutation --known`` runs the tests on each."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.mutation.known_mistakes import MISTAKES, Mistake

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_text_to_replace_is_in_its_module_once(mistake: Mistake) -> None:
    source = (ROOT / mistake.module).read_text(encoding="utf-8")
    assert source.count(mistake.right) == 1
    for test in mistake.tests:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")
