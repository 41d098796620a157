"""Names of networks, which are known without importing timm."""

from __future__ import annotations

import pytest
import timm
from timm.models._registry import _model_entrypoints

from fer_cli.core.errors import FerError
from fer_cli.weights.networks import FACE_RESNET, architectures, check_architecture


def test_all_that_timm_registers_is_known_and_nothing_else() -> None:
    assert architectures() - {FACE_RESNET} == {*_model_entrypoints} - {FACE_RESNET}


def test_a_misspelt_name_is_refused_and_one_that_a_program_registers_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FerError, match=r"timm has no backbone 'Resnet5O'; did you mean .*resnet50"):
        check_architecture("Resnet5O")
    check_architecture("resnet50.a1_in1k")
    monkeypatch.setitem(_model_entrypoints, "of_a_program", timm.create_model)
    check_architecture("of_a_program")
