"""The training engine: every system's steps, epochs, checkpoints and choice of an epoch, the same for all.

What a step does depends on the recipe, the seed and the step's number alone, so a training that was stopped, anywhere,
ends bit for bit as one that was not (on the same machine, with the same number of threads and processes).
"""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fer_cli import env
from fer_cli.errors import FerError
from fer_cli.evaluation.metrics import class_values, mean_of_present
from fer_cli.processes import copy_from_first, gathered
from fer_cli.progress import Advance, note
from fer_cli.training.checkpoint import load_checkpoint, save_checkpoint
from fer_cli.training.order import batches, epoch_rows
from fer_cli.training.recipe import Optimiser, Recipe
from fer_cli.training.schedule import Plateau, rate_factor

EVALUATION_BATCH: Final = 64
SAVE_SECONDS = 120.0
"""Least time between two checkpoints in the middle of a training; tests make it short."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained, and on what: all that differs between systems.

    Args:
        network: on its device; maps what ``inputs`` gives to logits (n, C).
        groups: the optimiser's parameter groups, each with the factor that its rate has: (factor, parameters).
        inputs: returns the network's input for some rows; the epoch tells the augmentation, None is without.
        targets: returns classes (n,) or shares (n, C) for some rows, on the device.
        loss: of logits and targets, a scalar.
        labels: (N,) of the whole data set.
        classes: their names.
        train: the rows that are trained on.
        validation: the rows that an epoch is chosen by.
    """

    network: nn.Module
    groups: Sequence[tuple[float, list[nn.Parameter]]]
    inputs: Callable[[Rows, int | None], torch.Tensor]
    targets: Callable[[Rows], torch.Tensor]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    train: Rows
    validation: Rows


@dataclass(slots=True)
class State:
    """Where a training is; with the tensors it is all of a checkpoint."""

    epoch: int = 0  # from 0, the one under way
    step: int = 0  # in the epoch, the next one
    loss_sum: float = 0.0  # over the epoch's images so far, of this process
    hits: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    best_epoch: int = 0  # from 1
    plateau: Plateau = field(default_factory=Plateau)
    history: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> State:
        """Return the state that a checkpoint holds."""
        return cls(**{**values, "plateau": Plateau(**values["plateau"])})


@dataclass(frozen=True, slots=True)
class Trained:
    """The tensors of the epoch that was chosen, and how it came to it."""

    tensors: dict[str, torch.Tensor]
    epoch: int
    history: list[dict[str, float]]
    seconds: float  # in training steps and validation, of all parts of an interrupted training
    images_per_second: float


def fit(
    task: Task,
    recipe: Recipe,
    *,
    seed: int,
    place: Path,
    device: str,
    ranks: env.Ranks,
    stop: env.StopRequest,
    advance: Advance,
) -> Trained:
    """Train, from the checkpoint in ``place`` where there is one.

    Args:
        task: what is trained.
        recipe: how.
        seed: of the order, the augmentation and the dropout.
        place: where checkpoints are.
        device: torch's name of the device.
        ranks: the processes that share each batch.
        stop: asked after each step.
        advance: told after each step.

    Raises:
        FerError: the loss is not finite, memory is short, or a checkpoint is damaged.
        PreemptedError: a signal came; the checkpoint is written.
    """
    return _Training(task, recipe, seed, place, device, ranks, stop).run(advance)


class _Training:
    def __init__(
        self, task: Task, recipe: Recipe, seed: int, place: Path, device: str, ranks: env.Ranks, stop: env.StopRequest
    ) -> None:
        self.task, self.recipe, self.seed, self.place = task, recipe, seed, place
        self.device, self.ranks, self.stop = device, ranks, stop
        self.optimiser = _optimiser(task.groups, recipe.optim)
        self.averaged = copy.deepcopy(task.network).requires_grad_(False) if recipe.train.ema else None
        self.best: dict[str, torch.Tensor] = {}
        self.state = State()
        self.steps = len(self._batches(0))
        if not self.steps:
            raise FerError(
                f"{len(task.train)} training images do not fill a batch of {recipe.train.batch}",
                hint="take a smaller train.batch, or more images",
            )
        self._restore()
        self.forward = self._wrapped()
        self.saved = time.perf_counter()

    def run(self, advance: Advance) -> Trained:
        recipe, state = self.recipe, self.state
        images = 0
        begun, before = time.perf_counter(), state.seconds
        advance(state.epoch * self.steps + state.step)
        while state.epoch < recipe.train.epochs and not self._waited_enough():
            for step, rows in list(enumerate(self._batches(state.epoch)))[state.step :]:
                with _memory(recipe.train.batch):
                    self._step(rows, step)
                images += len(rows) * self.ranks.world
                state.step = step + 1
                state.seconds = before + time.perf_counter() - begun
                advance()
                self._save_if_asked()
            self._end_epoch()
            state.seconds = before + time.perf_counter() - begun
            self._save_if_asked()
        seconds = time.perf_counter() - begun
        return Trained(
            self.best, state.best_epoch, state.history, state.seconds, images / seconds if images else math.nan
        )

    def _batches(self, epoch: int) -> list[Rows]:
        how = self.recipe.train
        labels = self.task.labels[self.task.train]
        order = epoch_rows(self.task.train, seed=self.seed, epoch=epoch, sampling=how.sampling, labels=labels)
        return batches(
            order, how.batch // self.ranks.world, rank=self.ranks.rank, world=self.ranks.world, drop_last=True
        )

    def _step(self, rows: Rows, step: int) -> None:
        recipe, state, task = self.recipe, self.state, self.task
        number = state.epoch * self.steps + step
        # Dropout draws from torch's own generators: seeded by the step, they need not be kept in checkpoints.
        torch.manual_seed(_mixed(self.seed, number, self.ranks.rank))
        rate = self._rate(number)
        for group in self.optimiser.param_groups:
            group["lr"] = group["factor"] * rate
        task.network.train()
        x, target = task.inputs(rows, state.epoch), task.targets(rows)
        with self._autocast():
            logits = self.forward(x)
        loss = task.loss(logits, target)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.optim.clip is not None:
            nn.utils.clip_grad_norm_([p for _, group in task.groups for p in group], recipe.optim.clip)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FerError(
                f"the loss is {value} at step {number + 1} (epoch {state.epoch + 1})",
                hint="the last good checkpoint is kept; take a lower optim.lr, more schedule.warmup or an optim.clip",
            )
        self.optimiser.step()
        self._average(number)
        classes = target if target.ndim == 1 else target.argmax(1)
        state.loss_sum += value * len(rows)
        state.hits += float((logits.detach().argmax(1) == classes).sum())
        state.seen += len(rows)

    def _rate(self, number: int) -> float:
        how = self.recipe
        return how.optim.lr * rate_factor(
            how.schedule, step=number, steps=self.steps, epochs=how.train.epochs, plateau=self.state.plateau
        )

    @torch.no_grad()
    def _average(self, number: int) -> None:
        if self.averaged is None:
            return
        # Short at first: the mean would else hold the network's beginning for hundreds of steps.
        decay = min(self.recipe.train.ema, (1 + number) / (10 + number))
        own = self.task.network.state_dict()
        for name, mean in self.averaged.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(own[name], 1 - decay)
            else:
                mean.copy_(own[name])

    def _end_epoch(self) -> None:
        """Measure the epoch, keep it where it is the best so far, and go to the next."""
        state, recipe = self.state, self.recipe
        network = self.averaged if self.averaged is not None else self.task.network
        copy_from_first(network.buffers(), self.ranks)  # each process's batch norms saw other images
        scores = self._validate(network)
        sums = np.sum(gathered([state.loss_sum, state.hits, state.seen], self.ranks), axis=0)
        line = {
            "epoch": float(state.epoch + 1),
            "lr": self._rate((state.epoch + 1) * self.steps - 1),
            "train_loss": float(sums[0] / sums[2]),
            "train_accuracy": float(sums[1] / sums[2]),
            **scores,
        }
        state.history.append(line)
        select = recipe.train.select
        value = {"last": float(state.epoch), "loss": -scores["validation_loss"]}.get(select)
        value = scores[select] if value is None else value
        if value > state.best:
            state.best, state.best_epoch = value, state.epoch + 1
            self.best = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        if recipe.schedule.name == "plateau":
            state.plateau.saw(scores["validation_loss"], recipe.schedule)
        note(
            f"epoch {state.epoch + 1}/{recipe.train.epochs}: loss {line['train_loss']:.3f}, validation "
            f"{scores['validation_loss']:.3f}, accuracy {scores['accuracy']:.1%}, balanced "
            f"{scores['balanced_accuracy']:.1%}{'  (best so far)' if state.best_epoch == state.epoch + 1 else ''}"
        )
        state.epoch, state.step = state.epoch + 1, 0
        state.loss_sum = state.hits = 0.0
        state.seen = 0

    def _validate(self, network: nn.Module) -> dict[str, float]:
        """Return the loss and the scores on the validation rows, shared among the processes."""
        task, ranks = self.task, self.ranks
        mine = task.validation[ranks.rank :: ranks.world]
        classes = len(task.classes)
        confusion, loss = np.zeros((classes, classes)), 0.0
        for logits, rows in predicted(network, task.inputs, mine, self._autocast):
            true = task.labels[rows]
            loss += float(nn.functional.cross_entropy(logits.double(), torch.from_numpy(true), reduction="sum"))
            np.add.at(confusion, (true, logits.argmax(1).numpy()), 1)
        parts = gathered([loss, *confusion.ravel().tolist()], ranks)
        total = np.sum(parts, axis=0)
        confusion = total[1:].reshape(classes, classes)
        _, recall, f1 = class_values(confusion)
        count = confusion.sum()
        return {
            "validation_loss": float(total[0] / count),
            "accuracy": float(np.trace(confusion) / count),
            "balanced_accuracy": float(mean_of_present(recall)),
            "macro_f1": float(mean_of_present(f1)),
        }

    def _waited_enough(self) -> bool:
        patience = self.recipe.train.early_stopping
        return patience is not None and self.state.epoch - self.state.best_epoch >= patience and self.state.epoch > 0

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.partition(":")[0], torch.bfloat16, enabled=self.recipe.train.precision == "bfloat16"
        )

    def _wrapped(self) -> Callable[[torch.Tensor], torch.Tensor]:
        network: nn.Module = self.task.network
        if self.ranks.world > 1:
            on = [torch.device(self.device)] if self.device.startswith("cuda") else None
            network = nn.parallel.DistributedDataParallel(network, device_ids=on)
        return torch.compile(network) if self.recipe.train.compile else network

    # ---- checkpoints

    def _save_if_asked(self) -> None:
        """Write a checkpoint when it is time, or when any process was asked to stop: then all stop."""
        due = time.perf_counter() - self.saved > SAVE_SECONDS
        flags = gathered([float(self.stop.signal is not None), float(due)], self.ranks)
        asked = any(flag for flag, _ in flags)
        if asked or flags[0][1]:
            self._save()
        if asked:
            self.stop.signal = self.stop.signal or signal.SIGTERM
            self.stop.check(f"saved after step {self.state.step} of epoch {self.state.epoch + 1}")

    def _save(self) -> None:
        """Write a checkpoint; the sums of each process go into it, everything else is the same in all."""
        sums = gathered([self.state.loss_sum, self.state.hits, float(self.state.seen)], self.ranks)
        if self.ranks.rank == 0:
            tensors = {f"network.{name}": tensor for name, tensor in self.task.network.state_dict().items()}
            if self.averaged is not None:
                tensors |= {f"averaged.{name}": tensor for name, tensor in self.averaged.state_dict().items()}
            tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
            for number, values in self.optimiser.state_dict()["state"].items():
                tensors |= {
                    f"optimiser.{number}.{name}": tensor for name, tensor in values.items() if tensor is not None
                }
            done = self.state.epoch * self.steps + self.state.step
            save_checkpoint(self.place, done, tensors, {"state": asdict(self.state), "sums": sums})
        self.saved = time.perf_counter()

    def _restore(self) -> None:
        found = load_checkpoint(self.place)
        if found is None:
            return
        groups: dict[str, dict[str, torch.Tensor]] = {"network": {}, "averaged": {}, "best": {}, "optimiser": {}}
        for name, tensor in found.tensors.items():
            group, _, rest = name.partition(".")
            groups[group][rest] = tensor
        self.task.network.load_state_dict(groups["network"])
        if self.averaged is not None:
            self.averaged.load_state_dict(groups["averaged"])
        self.best = groups["best"]
        self.state = State.of(found.state["state"])
        sums = found.state["sums"]
        if len(sums) == self.ranks.world:
            self.state.loss_sum, self.state.hits = sums[self.ranks.rank][:2]
            self.state.seen = int(sums[self.ranks.rank][2])
        elif self.state.step:
            raise FerError(
                f"the checkpoint is of {len(sums)} processes, now there are {self.ranks.world}",
                hint="in the middle of an epoch go on with as many as before",
                path=self.place,
            )
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in groups["optimiser"].items():
            number, _, what = name.partition(".")
            moments.setdefault(int(number), {})[what] = tensor
        current = self.optimiser.state_dict()
        self.optimiser.load_state_dict({"state": moments, "param_groups": current["param_groups"]})
        note(f"going on from epoch {self.state.epoch + 1}, step {self.state.step}")


@torch.no_grad()
def predicted(
    network: nn.Module,
    inputs: Callable[[Rows, int | None], torch.Tensor],
    rows: Rows,
    autocast: Callable[[], torch.autocast],
    batch: int = EVALUATION_BATCH,
) -> Iterator[tuple[torch.Tensor, Rows]]:
    """Yield float32 logits (n, C) on the CPU with their rows, in evaluation mode and without augmentation."""
    was_training = network.training
    network.eval()
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        with autocast():
            logits = network(inputs(some, None))
        yield logits.float().cpu(), some
    network.train(was_training)


def _optimiser(groups: Sequence[tuple[float, list[nn.Parameter]]], how: Optimiser) -> torch.optim.Optimizer:
    """Return the optimiser; weights of one dimension (norms, biases) do not decay, as is usual."""
    tables: list[dict[str, Any]] = []
    for factor, parameters in groups:
        for decays in (True, False):
            chosen = [p for p in parameters if p.requires_grad and (p.ndim > 1) == decays]
            if chosen:
                tables.append({"params": chosen, "factor": factor, "weight_decay": how.weight_decay * decays})
    if how.name == "sgd":
        return torch.optim.SGD(tables, lr=how.lr, momentum=how.momentum)
    kind = torch.optim.AdamW if how.name == "adamw" else torch.optim.Adam
    return kind(tables, lr=how.lr, betas=(how.momentum, how.beta2))


def _mixed(*numbers: int) -> int:
    """Return a seed that differs wherever one of the numbers does."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def _memory(batch: int) -> Iterator[None]:
    """Say what to do when the memory does not hold a batch."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise FerError(
            f"out of memory with train.batch = {batch}", hint=f"take train.batch = {max(2, batch // 2)}"
        ) from error
    except RuntimeError as error:
        if "not enough memory" not in str(error) and "alloc" not in str(error):
            raise
        raise FerError(
            f"out of memory with train.batch = {batch}", hint=f"take train.batch = {max(2, batch // 2)}"
        ) from error
