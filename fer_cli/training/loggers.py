"""Where a training can be watched as it goes: TensorBoard, Weights & Biases and MLflow, behind one small interface.

A service is imported only where it is asked for. A fault of one is said once and ends what is sent to it, never the
training. A training that resumes goes on in the run that it began in each service, whose id is beside its checkpoints.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from uuid import uuid4

from fer_cli.artifacts.atomic_io import write_file
from fer_cli.core.errors import FerError, PreemptedError, UsageError
from fer_cli.core.progress import note, warn
from fer_cli.training.history import History

STARTED: Final = "loggers.json"
"""Beside the checkpoints: by service its run's id and the last epoch that it was given."""

State = Literal["finished", "stopped", "failed"]


class Logger(Protocol):
    """One service, open for one training. Any exception of it ends the logging to it alone."""

    id: str
    """Of the run there, by which a later part of the training finds it again."""

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Take what was measured after an epoch, counted from 1."""

    def close(self, state: State) -> None:
        """End the run, or this part of it."""


@dataclass(frozen=True, slots=True)
class Run:
    """A training as services show it.

    ``group`` is what its seeds and folds share; ``settings`` are the recipe and what else decides the training, nested.
    """

    name: str
    group: str
    settings: Mapping[str, Any]


Opener = Callable[[Run, str | None], Logger]
"""Opens a service for a run, given the id of the one that it resumes."""


class TensorBoardLogger:
    """Event files in a folder of the run's own. What an earlier part wrote of epochs that come again is taken back."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.id = str(folder / run.name)
        self._writer: Any = None

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Write the values of an epoch."""
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None:
            self._writer = SummaryWriter(self.id, purge_step=epoch)
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self, state: State) -> None:  # noqa: ARG002 - the files do not say it
        """Close the files."""
        if self._writer is not None:
            self._writer.close()


class WandbLogger:
    """Weights & Biases: ``$WANDB_PROJECT`` or ``fer``; offline where ``$WANDB_MODE`` says so or no key is there."""

    def __init__(self, run: Run, resumed: str | None) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        offline = "WANDB_MODE" not in os.environ and not wandb.login(prompt=False)
        # The id of a run is its own for ever: one that was removed there cannot be used again.
        self.id = resumed or uuid4().hex[:12]
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "fer"),
            id=self.id,
            name=run.name,
            group=run.group,
            resume="allow",
            config=dict(run.settings),
            mode="offline" if offline else None,
            settings=wandb.Settings(console="off", init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", "30"))),
        )
        if self._run.offline:
            note(f"W&B: no API key or WANDB_MODE=offline; 'wandb sync {Path(self._run.dir).parent}' sends it")
        else:
            note(f"W&B: {self._run.url}")

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Send the values of an epoch."""
        self._run.log(dict(values), step=epoch)

    def close(self, state: State) -> None:
        """End the run."""
        self._run.finish(exit_code=1 if state == "failed" else 0)


class MlflowLogger:
    """MLflow: ``$MLFLOW_TRACKING_URI`` and ``$MLFLOW_EXPERIMENT_NAME``, or ``fer``; else files in ``mlruns``."""

    _ENDS: Final = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
    _LONGEST: Final = 500
    """Characters of a parameter's value that every store takes."""

    def __init__(self, run: Run, resumed: str | None) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        uri = None
        if "MLFLOW_TRACKING_URI" not in os.environ and find_spec("sqlalchemy") is None:
            # mlflow-skinny has no database; its files have to be asked for since 3.17.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            uri = Path("mlruns").absolute().as_uri()
        self._client = MlflowClient(tracking_uri=uri)
        if resumed is not None:
            self.id = resumed
            self._client.update_run(self.id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "fer")
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        self.id = self._client.create_run(experiment, run_name=run.name, tags={"group": run.group}).info.run_id
        params = [Param(key, str(value)[: self._LONGEST]) for key, value in flat(run.settings)]
        for start in range(0, len(params), 100):
            self._client.log_batch(self.id, params=params[start : start + 100])
        note(f"MLflow: run {self.id} of experiment {name}")

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Send the values of an epoch."""
        import time

        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        self._client.log_batch(self.id, metrics=[Metric(name, value, now, epoch) for name, value in values.items()])

    def close(self, state: State) -> None:
        """Set what became of the run."""
        self._client.set_terminated(self.id, status=self._ENDS[state])


SERVICES: Final[Mapping[str, tuple[str, Opener]]] = {
    "wandb": ("W&B", WandbLogger),
    "mlflow": ("MLflow", MlflowLogger),
}
"""By the name of the option, of the package and of fer's extra: the service's own name, and what opens it."""


def check_loggers(names: Sequence[str], board: Path | None) -> None:
    """Refuse to begin what would end at its first line.

    Raises:
        UsageError: a service is not known.
        FerError: its package is not installed, or TensorBoard's folder cannot be made.
    """
    for name in names:
        if name not in SERVICES:
            raise UsageError(f"--log {name!r} is not a choice", hint=f"take {' or '.join(SERVICES)}")
        if find_spec(name) is None:
            what = f"{SERVICES[name][0]} is not installed"
            raise FerError(what, hint=f"install fer with its extra: 'fer-cli[{name}]'")
    if board is None:
        return
    if board.exists() and not board.is_dir():
        raise FerError("this is a file", hint="give --tensorboard a folder", path=board)
    if find_spec("tensorboard") is None:
        raise FerError("TensorBoard is not installed", hint="install fer with its extra: 'fer-cli[tensorboard]'")


@dataclass(slots=True)
class _Started:
    """What each service was given so far, by its name; kept in a file."""

    file: Path
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def read(self) -> None:
        try:
            runs = json.loads(self.file.read_bytes())
            self.runs = {name: {"id": str(run["id"]), "epoch": int(run["epoch"])} for name, run in runs.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.runs = {}  # none yet, or killed while it was written: other runs begin

    def write(self, name: str, logger: Logger, epoch: int) -> None:
        self.runs[name] = {"id": logger.id, "epoch": epoch}
        write_file(self.file, json.dumps(self.runs).encode())


@contextmanager
def logged_to(
    run: Run, openers: Mapping[str, tuple[str, Opener]], directory: Path
) -> Iterator[Callable[[History], None]]:
    """Yield a callback that gives services the epochs of the history that they do not have yet.

    Args:
        run: what is trained.
        openers: the services.
        directory: where it is kept what runs were begun.
    """
    started, live = _Started(directory / STARTED), dict[str, Logger]()
    started.read()

    def attempt(name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # whatever a service raises, it is no reason to lose a training
            live.pop(name, None)
            reason = str(error).partition("\n")[0] or type(error).__name__
            warn(f"{openers[name][0]} failed, and the training goes on without it: {reason}")

    def begin(name: str) -> None:
        before = started.runs.get(name, {"id": None, "epoch": 0})
        live[name] = openers[name][1](run, before["id"])
        started.write(name, live[name], before["epoch"])

    def send(name: str, history: History) -> None:
        logger = live[name]
        for line in history:
            epoch = int(line["epoch"])
            if epoch > started.runs[name]["epoch"]:
                logger.log(epoch, {tag(key): value for key, value in line.items() if key != "epoch"})
                started.write(name, logger, epoch)

    def record(history: History) -> None:
        for name in list(live):
            attempt(name, lambda name=name: send(name, history))  # type: ignore[misc]

    for name in openers:
        attempt(name, lambda name=name: begin(name))  # type: ignore[misc]
    state: State = "failed"
    try:
        yield record
        state = "finished"
    except (PreemptedError, KeyboardInterrupt):
        state = "stopped"
        raise
    finally:
        for name, logger in list(live.items()):
            attempt(name, lambda logger=logger: logger.close(state))  # type: ignore[misc]


def flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings by dotted keys."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def tag(name: str) -> str:
    """Return what services call a measure of the history: one chart holds what is of one kind."""
    if name == "lr":
        return "learning rate"
    of, _, measure = name.partition("_") if name.startswith(("train_", "validation_")) else ("validation", "", name)
    return f"{measure}/{of}"
