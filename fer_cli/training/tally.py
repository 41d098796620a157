"""What the steps of an epoch sum up, on the device: a step need not wait until the device has come so far."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class Tally:
    """Loss, right predictions and images of the steps since the epoch, or its resumed part, began.

    Args:
        device: torch's name of the device.
        sums: what an interrupted part of the epoch had summed up, as :meth:`sums` gave it.
    """

    def __init__(self, device: str, sums: Sequence[float] = (0.0, 0.0, 0.0)) -> None:
        where = "cpu" if device.startswith("mps") else device  # MPS has no float64
        self._sums = torch.tensor(sums[:2], dtype=torch.float64, device=where)  # of losses by image, of right ones
        self._images = int(sums[2])
        self._is_finite = torch.ones((), dtype=torch.bool, device=where)
        self._finite_steps = torch.zeros((), dtype=torch.int64, device=where)
        self._loss = torch.zeros((), device=where)

    def add(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Take in a step.

        Args:
            loss: the mean over the batch, a scalar.
            logits: (n, C).
            labels: (n,), on the device of the logits.
        """
        loss = loss.detach().to(self._sums.device)
        right = (logits.detach().argmax(1) == labels).sum().to(self._sums.device)
        self._sums += torch.stack([loss.double() * len(labels), right.double()])
        self._images += len(labels)
        self._loss = torch.where(self._is_finite, loss, self._loss)
        self._is_finite &= torch.isfinite(loss)
        self._finite_steps += self._is_finite

    def first_not_finite(self) -> tuple[int, float] | None:
        """Return the first step whose loss was not finite, counted from 0, and that loss; waits for the device."""
        return None if bool(self._is_finite) else (int(self._finite_steps), float(self._loss))

    def sums(self) -> list[float]:
        """Return the sums of losses, of right predictions and of images; waits for the device."""
        return [*self._sums.tolist(), float(self._images)]
