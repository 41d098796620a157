"""What plots of one network take of a study."""

from __future__ import annotations

import pytest

from fer_cli.artifacts.store import Store
from fer_cli.plots.models import first_run, run_of
from fer_cli.training.study import study_of
from tests.kits.compare import DATASET, made_model


def test_of_a_study_the_first_run_is_shown_and_said(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    models = [made_model(store, f"arm-seed{seed}", {}, seed, DATASET) for seed in (0, 1, 2)]
    study = study_of(store, "baseline", models, (0, 1, 2)).artifact
    with caplog.at_level("INFO", logger="fer_cli"):
        assert first_run(store, study).reference == models[0].reference
        assert f"seed 0 of {study.reference}; name a run for another: arm-seed1, arm-seed2" in caplog.text
        caplog.clear()
        assert first_run(store, models[1]).reference == models[1].reference
        assert not caplog.text
    assert run_of(study, models[0]) == "seed 0, the first of 3 runs; "
    assert run_of(models[1], models[1]) == ""
