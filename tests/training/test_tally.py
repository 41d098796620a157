"""What an epoch sums up on the device is what plain Python would, and the first bad loss is found however late."""

from __future__ import annotations

import math

import pytest
import torch

from fer_cli.training.tally import Tally


def test_sums_are_those_of_python_to_the_last_bit_also_after_a_resume() -> None:
    generator = torch.Generator().manual_seed(0)
    tally = Tally("cpu")
    loss_sum, right, images = 0.0, 0, 0
    for step in range(200):
        logits = torch.randn(7, 3, generator=generator)
        labels = torch.randint(0, 3, (7,), generator=generator)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        tally.add(loss, logits, labels)
        loss_sum += float(loss) * 7
        right += int((logits.argmax(1) == labels).sum())
        images += 7
        if step == 99:
            tally = Tally("cpu", tally.sums())
    assert tally.sums() == [loss_sum, float(right), float(images)]
    assert tally.first_not_finite() is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_bad_step_is_named_and_not_a_later_one(bad: float) -> None:
    tally = Tally("cpu")
    for value in (1.0, 2.0, bad, 3.0, -bad):
        tally.add(torch.tensor(value), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))
    step, loss = tally.first_not_finite() or (-1, 0.0)
    assert step == 2
    assert loss == bad or (math.isnan(loss) and math.isnan(bad))
