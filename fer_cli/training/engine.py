"""The training engine: every system's steps, epochs, checkpoints and choice of an epoch, the same for all.

What a step does depends on the recipe, the seed and the step's number alone, so a training that was stopped, anywhere,
ends bit for bit as one that was not (on the same machine, with the same number of threads and processes).
"""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fer_cli.core import distributed, machine, signals
from fer_cli.core.distributed import all_gather, broadcast_tensors
from fer_cli.core.errors import DivergedError, FerError, one_line
from fer_cli.core.progress import Advance, note, track
from fer_cli.losses.objective import Objective
from fer_cli.training.checkpoint import TrainingState, has_checkpoint, load_checkpoint, save_checkpoint
from fer_cli.training.history import History
from fer_cli.training.mixing import loss_of, mix
from fer_cli.training.optimizer import ascended, new_optimiser
from fer_cli.training.prefetch import prefetch
from fer_cli.training.recipe import Recipe
from fer_cli.training.sampler import batches, epoch_rows
from fer_cli.training.schedule import rate_factor
from fer_cli.training.tally import Tally
from fer_cli.training.trials import metric_of
from fer_cli.training.validation import BATCH, validate

SAVE_SECONDS = 120.0
"""Least time between two checkpoints in the middle of a training; tests make it short."""
CHECK_STEPS: Final = 50
"""Most steps between two looks at whether the loss is finite, on a GPU, and between two exchanges of processes."""
EXCHANGE_SECONDS: Final = 0.5
"""About the time between two exchanges of processes: was one asked to stop, is a checkpoint due?"""

VALIDATION_COST: Final = 1 / 3
"""About what an image costs in validation, where a training step's costs 1: forward alone, without backward."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained, and on what: all that differs between systems.

    Args:
        network: on its device; maps what ``inputs`` gives to logits (n, C), in training mode perhaps to a tuple that
            begins with them.
        groups: the optimiser's parameter groups, each with the factor that its rate has: (factor, parameters).
        inputs: returns the network's input for some rows; the epoch tells the augmentation, None is without.
        targets: returns what the loss compares with for some rows and the same epoch, on the device.
        loss: on the device.
        labels: (N,) of the whole data set.
        classes: their names.
        train: the rows that are trained on, some perhaps several times (:mod:`fer_cli.training.sampler`).
        validation: the rows that an epoch is chosen by.
        mixes_batch: an image's logits depend on the other images of its batch, so each is validated alone.
    """

    network: nn.Module
    groups: Sequence[tuple[float, list[nn.Parameter]]]
    inputs: Callable[[Rows, int | None], torch.Tensor]
    targets: Callable[[Rows, int], Any]
    loss: Objective
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    train: Rows
    validation: Rows
    mixes_batch: bool = False


@dataclass(frozen=True, slots=True)
class Trained:
    """The tensors of the epoch that was chosen, and the course of the training."""

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
    directory: Path,
    run: str,
    device: str,
    ranks: distributed.Ranks,
    workers: int,
    stop: signals.StopRequest,
    title: str,
    record: Callable[[History], None],
) -> Trained:
    """Train, from the checkpoint in ``directory`` where there is one.

    Args:
        task: what is trained.
        recipe: of the training.
        seed: of the order, the augmentation and the dropout.
        directory: where checkpoints are.
        run: what the training is; a checkpoint of another one is refused.
        device: torch's name of the device.
        ranks: the processes that share each batch.
        workers: threads that prepare batches ahead.
        stop: asked after each step.
        title: of the progress that is shown.
        record: given the history after each epoch.

    Raises:
        FerError: the loss is not finite, memory is short, or a checkpoint is damaged.
        PreemptedError: a signal came; the checkpoint is written.
    """
    return _Training(task, recipe, seed, directory, run, device, ranks, stop, workers).run(title, record)


class _Training:
    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        seed: int,
        directory: Path,
        run: str,
        device: str,
        ranks: distributed.Ranks,
        stop: signals.StopRequest,
        workers: int,
    ) -> None:
        self.task, self.recipe, self.seed, self.directory, self.run_name = task, recipe, seed, directory, run
        self.device, self.ranks, self.stop, self.workers = device, ranks, stop, workers
        self.optimiser = new_optimiser(task.groups, recipe.optim)
        self.mixes = bool(recipe.augmentation.mixup or recipe.augmentation.cutmix)
        self.averaged = copy.deepcopy(task.network).requires_grad_(False) if recipe.train.ema else None
        self.state = TrainingState(task.network, self.averaged, task.loss, self.optimiser)
        self.steps = len(self._batches(0))
        self.validation_steps = VALIDATION_COST * len(task.validation) / recipe.train.batch
        self.loss: float | None = None
        self.tally = Tally(device)
        self.tally_start = 0
        self._restore()
        self.progress = self.state.progress
        self.forward = self._wrapped()
        self.saved = time.perf_counter()
        self.exchanged, self.steps_since, self.steps_until = self.saved, 0, 1

    def run(self, title: str, record: Callable[[History], None]) -> Trained:
        progress, epoch = self.progress, self.steps + self.validation_steps
        done = progress.epoch * epoch + progress.step
        with track(title, self.recipe.train.epochs * epoch, unit=None, done=done) as advance:
            return self._run(advance, record)

    def _run(self, advance: Advance, record: Callable[[History], None]) -> Trained:
        progress = self.progress
        images = 0
        begun, before = time.perf_counter(), progress.seconds
        advance(0, self._status())
        while progress.epoch < self.recipe.train.epochs and not self._waited_enough():
            for size in self._epoch():
                images += size
                progress.seconds = before + time.perf_counter() - begun
                advance(1, self._status())
                self._save_if_asked()
            self._end_epoch(advance)
            advance(0, self._status())
            record(progress.history)
            progress.seconds = before + time.perf_counter() - begun
            self._save_if_asked(now=True)
        if images:
            self._save()  # what follows can be killed as well
        seconds = time.perf_counter() - begun
        rate = images / seconds if images else math.nan
        return Trained(self.state.best, progress.best_epoch, progress.history, progress.seconds, rate)

    def _epoch(self) -> Iterator[int]:
        """Make the steps that are left of the epoch, and yield after each how many images it had in all processes."""
        left = list(enumerate(self._batches(self.progress.epoch)))[self.progress.step :]
        self.task.network.train()  # whatever it says of itself: a part may be in evaluation mode where the whole is not
        with prefetch(self._loaded, [rows for _, rows in left], self.workers) as loaded:
            for step, rows in left:
                with self._memory():
                    self._step(step, *next(loaded))
                self.progress.step = step + 1
                yield len(rows) * self.ranks.world

    def _loaded(self, rows: Rows) -> tuple[torch.Tensor, Any, torch.Tensor]:
        """Return the network's input, what the loss compares with, and the classes (n,), all on the device."""
        task, epoch = self.task, self.progress.epoch
        labels = torch.from_numpy(task.labels[rows % len(task.labels)]).to(self.device)
        x, target = task.inputs(rows, epoch), task.targets(rows, epoch)
        if self.mixes:
            x, target = mix(
                x, target, torch.from_numpy(rows), seed=self.seed, epoch=epoch, settings=self.recipe.augmentation
            )
        return x, target, labels

    def _batches(self, epoch: int) -> list[Rows]:
        settings, task = self.recipe.train, self.task
        images = len(task.labels)
        labels = task.labels[task.train % images]
        order = epoch_rows(
            task.train, images=images, seed=self.seed, epoch=epoch, sampling=settings.sampling, labels=labels
        )
        return batches(
            order, settings.batch // self.ranks.world, rank=self.ranks.rank, world=self.ranks.world, drop_last=True
        )

    def _step(self, step: int, x: torch.Tensor, target: Any, labels: torch.Tensor) -> None:  # noqa: ANN401 - the loss knows
        """Make one step. Nothing in it waits for a GPU, but a look at the loss every :data:`CHECK_STEPS` steps."""
        recipe, task = self.recipe, self.task
        number = self.progress.epoch * self.steps + step
        # Dropout draws from torch's own generators: seeded by the step, they need not be kept in checkpoints.
        _seed(_mixed(self.seed, number, self.ranks.rank), self.device)
        rate = self._rate(number)
        for group in self.optimiser.param_groups:
            group["lr"] = group["factor"] * rate
        output, loss = self._gradients(x, target)
        if recipe.optim.sam:
            with ascended(task.network, recipe.optim.sam):
                _seed(_mixed(self.seed, number, self.ranks.rank), self.device)  # the same units are dropped
                self._gradients(x, target)
        if recipe.optim.clip is not None:
            nn.utils.clip_grad_norm_([p for _, group in task.groups for p in group], recipe.optim.clip)
        self.tally.add(loss, output[0] if isinstance(output, tuple) else output, labels)
        if (step + 1) % _check_every(self.device) == 0:
            self._check_loss()
        self.optimiser.step()
        task.loss.advance(self.ranks)
        self._average(number)

    def _gradients(self, x: torch.Tensor, target: Any) -> tuple[Any, torch.Tensor]:  # noqa: ANN401 - the loss knows
        """Return the network's output and the loss, whose gradients the parameters have then."""
        with self._autocast():
            output = self.forward(x)
        loss = loss_of(self.task.loss, output, target)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        return output, loss

    def _check_loss(self) -> None:
        """Refuse to go on from a step whose loss was no finite number; waits for the device."""
        if (fault := self.tally.first_not_finite()) is not None:
            steps, loss = fault
            number = self.progress.epoch * self.steps + self.tally_start + steps
            raise self._diverged(f"the loss is {loss} at step {number + 1} (epoch {self.progress.epoch + 1})")
        total, _, images = self.tally.sums()
        self.loss = total / images if images else self.loss

    def _rate(self, number: int) -> float:
        recipe = self.recipe
        return recipe.optim.lr * rate_factor(
            recipe.schedule, step=number, steps=self.steps, epochs=recipe.train.epochs, plateau=self.progress.plateau
        )

    @torch.no_grad()
    def _average(self, number: int) -> None:
        if self.averaged is None:
            return
        # Short at first: the mean would else hold the network's beginning for hundreds of steps.
        decay = min(self.recipe.train.ema, (1 + number) / (10 + number))
        means, own = self.averaged.state_dict(), self.task.network.state_dict()
        floating = [name for name, mean in means.items() if mean.is_floating_point()]
        advance = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        advance([means[name] for name in floating], [own[name] for name in floating], None)
        for name in means.keys() - set(floating):
            means[name].copy_(own[name])

    def _status(self) -> str:
        """Return what to say of the training: epoch, mean loss of its steps so far, and what epochs are chosen by."""
        progress, epochs = self.progress, self.recipe.train.epochs
        parts = [f"epoch {min(progress.epoch + 1, epochs)}/{epochs}"]
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3f}")
        if progress.history:
            metric, last = metric_of(self.recipe.train.monitor), progress.history[-1]
            value = f"{last['validation_loss']:.3f}" if metric == "loss" else f"{last[metric]:.1%}"
            parts.append(f"val. {metric.replace('_', ' ').replace('f1', 'F1')} {value}")
        return ", ".join(parts)

    def _end_epoch(self, advance: Advance) -> None:
        """Measure the epoch, keep it where it is the best so far, and go to the next."""
        progress, recipe = self.progress, self.recipe
        self._check_loss()
        network = self.averaged if self.averaged is not None else self.task.network
        broadcast_tensors(network.buffers(), self.ranks)  # each process's batch norms saw other images
        task = self.task
        scores = validate(
            network,
            task.inputs,
            task.validation,
            labels=task.labels,
            classes=len(task.classes),
            autocast=self._autocast,
            ranks=self.ranks,
            batch=1 if task.mixes_batch else min(BATCH, recipe.train.batch),
            is_stopped=lambda: self.stop.signal is not None,
            advance=lambda share: advance(share * self.validation_steps),
        )
        if scores is None:
            self._save()
            self._stop(self.stop.signal or signal.SIGTERM)
            raise AssertionError("a stop raises")
        if not math.isfinite(scores["validation_loss"]):
            raise self._diverged(f"the validation loss is {scores['validation_loss']} after epoch {progress.epoch + 1}")
        sums = np.sum(all_gather(self.tally.sums(), self.ranks), axis=0)
        line = {
            "epoch": float(progress.epoch + 1),
            "lr": self._rate((progress.epoch + 1) * self.steps - 1),
            "train_loss": float(sums[0] / sums[2]),
            "train_accuracy": float(sums[1] / sums[2]),
            **scores,
        }
        progress.history.append(line)
        select = recipe.train.monitor
        value = {"last": float(progress.epoch), "loss": -scores["validation_loss"]}.get(select)
        value = scores[select] if value is None else value
        if value > progress.best_value:
            progress.best_value, progress.best_epoch = value, progress.epoch + 1
            self.state.best = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        if recipe.schedule.name == "plateau":
            progress.plateau.update(scores["validation_loss"], recipe.schedule)
        note(
            f"epoch {progress.epoch + 1}/{recipe.train.epochs}: loss {line['train_loss']:.3f}, val. "
            f"{scores['validation_loss']:.3f}, accuracy {scores['accuracy']:.1%}, balanced "
            f"{scores['balanced_accuracy']:.1%}{', best' if progress.best_epoch == progress.epoch + 1 else ''}"
        )
        progress.epoch, progress.step = progress.epoch + 1, 0
        self.tally, self.tally_start = Tally(self.device), 0

    def _waited_enough(self) -> bool:
        patience = self.recipe.train.early_stopping
        epoch = self.progress.epoch
        return patience is not None and epoch - self.progress.best_epoch >= patience and epoch > 0

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.partition(":")[0], torch.bfloat16, enabled=self.recipe.train.precision == "bfloat16"
        )

    def _diverged(self, what: str) -> DivergedError:
        """Return the error of a training that came to what is no number; it says what there is to go back to."""
        hint = "take a lower optim.lr, more schedule.warmup or a lower optim.clip"
        if has_checkpoint(self.directory):
            hint = f"the last good checkpoint is kept; {hint}"
        return DivergedError(what, hint=hint, directory=self.directory)

    def _wrapped(self) -> Callable[[torch.Tensor], Any]:
        network: nn.Module = self.task.network
        if self.ranks.world > 1:
            on = [torch.device(self.device)] if self.device.startswith("cuda") else None
            network = nn.parallel.DistributedDataParallel(network, device_ids=on, broadcast_buffers=False)
        return torch.compile(network) if self.recipe.train.compile else network

    @contextmanager
    def _memory(self) -> Iterator[None]:
        """Say what would fit when the memory does not hold a batch."""
        try:
            yield
            return
        except (MemoryError, RuntimeError) as error:
            if not machine.is_memory(error):
                raise
            reason = one_line(str(error)).partition(". ")[0] or type(error).__name__
        # The error is gone, and with it what its frames held: now there is room to find out.
        fitting = self._fitting()
        raise FerError(
            f"out of memory with train.batch = {self.recipe.train.batch} ({reason})",
            hint=f"take train.batch = {fitting}, which fits"
            if fitting
            else "no smaller batch fits: take a smaller data.size or backbone",
        )

    def _fitting(self) -> int:
        """Return the largest batch of all processes, from half of the recipe's down, that has room; 0: none.

        The network is no use any more then: its trained weights are in the last checkpoint.
        """
        batch, world = self.recipe.train.batch, self.ranks.world
        least = max(2, world)
        while batch > least:
            batch = max(least, batch // 2 // world * world)
            try:
                self._try(self.task.train[: batch // world])
                return batch
            except (MemoryError, RuntimeError) as error:
                if not machine.is_memory(error):
                    raise
        return 0

    def _try(self, rows: Rows) -> None:
        """Make a step in a frame of its own: nothing of one that failed stands in the way of the next."""
        self.optimiser.zero_grad(set_to_none=True)
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        x, target, _ = self._loaded(rows)
        with self._autocast():
            output = self.task.network(x)
        loss_of(self.task.loss, output, target).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

    # ---- checkpoints

    def _save_if_asked(self, *, now: bool = False) -> None:
        """Write a checkpoint when it is time, or when any process was asked to stop: then all stop.

        Processes tell each other about twice a second, and at the end of an epoch: ``now``.
        """
        self.steps_since += 1
        if self.ranks.world > 1 and self.steps_since < self.steps_until and not now:
            return
        clock = time.perf_counter()
        due = clock - self.saved > SAVE_SECONDS
        pace = (clock - self.exchanged) / self.steps_since
        flags = all_gather([float(self.stop.signal or 0), float(due), pace], self.ranks)
        slowest = max(flag[2] for flag in flags)
        self.exchanged, self.steps_since = clock, 0
        self.steps_until = max(1, min(CHECK_STEPS, int(EXCHANGE_SECONDS / slowest)))
        asked = any(flag[0] for flag in flags)
        if asked or flags[0][1]:
            self._save()
        if asked:
            self._stop(signal.Signals(int(max(flag[0] for flag in flags))))

    def _stop(self, number: signal.Signals) -> None:
        """Stop, all being saved."""
        self.stop.signal = self.stop.signal or number
        progress = self.progress
        step = f"step {progress.step} of {self.steps}, epoch {progress.epoch + 1} of {self.recipe.train.epochs}"
        done = progress.step == 0 and progress.epoch
        self.stop.check(f"saved after {f'epoch {done} of {self.recipe.train.epochs}' if done else step}")

    def _save(self) -> None:
        """Write a checkpoint; the sums of each process go into it, everything else is the same in all."""
        self._check_loss()
        done = self.progress.epoch * self.steps + self.progress.step
        if not self.state.is_finite():
            where = f"after step {done} (epoch {self.progress.epoch + 1})"
            raise self._diverged(f"the network or the loss holds values that are not finite {where}")
        sums = all_gather(self.tally.sums(), self.ranks)
        if self.ranks.rank == 0:
            # An epoch's end comes after its last step.
            save_checkpoint(self.directory, self.run_name, done + self.progress.epoch, self.state, sums)
        self.saved = time.perf_counter()

    def _restore(self) -> None:
        sums = load_checkpoint(self.directory, self.run_name, self.state)
        if sums is None:
            return
        progress = self.state.progress
        if len(sums) == self.ranks.world:
            self.tally, self.tally_start = Tally(self.device, sums[self.ranks.rank]), progress.step
        elif progress.step:
            raise FerError(
                f"the checkpoint is of {len(sums)} processes, now there are {self.ranks.world}",
                hint="in the middle of an epoch resume with as many as before",
                path=self.directory,
            )
        note(f"resuming from epoch {progress.epoch + 1}, step {progress.step}")


def _check_every(device: str) -> int:
    """Return after how many steps the loss is looked at: on a CPU that is free, for a GPU one would have to wait."""
    return 1 if device == "cpu" else CHECK_STEPS


def _seed(number: int, device: str) -> None:
    """Seed the generators that a step draws from; torch's own function looks at every device each time."""
    torch.default_generator.manual_seed(number)
    if device.startswith("cuda"):
        torch.cuda.manual_seed(number)
    elif device.startswith("mps"):
        torch.mps.manual_seed(number)


def _mixed(*numbers: int) -> int:
    """Return a seed that differs wherever one of the numbers does."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
