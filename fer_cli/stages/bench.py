"""Stage ``bench``: how many images a second a model answers, and how long one batch takes, in each of its forms."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.machine import usable_cpus
from fer_cli.core.progress import track
from fer_cli.prediction.model import BATCH, SHIPPED, Model, open_model
from fer_cli.prediction.timing import FORMS, Form, TimingJob, crops_of

KINDS: Final = ("model", "study", "ensemble")
BATCHES: Final = (1, 8, 64)
ROUNDS: Final = 10
SECONDS: Final = 0.2
_SIDE: Final = 112  # px of a crop, of a model that takes any
_LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True)
class Speed:
    """A form with a number of threads and of images at once.

    ``rate`` is the median over the rounds of the images a second, ``low`` and ``high`` its 95% interval, infinite where
    there are too few rounds; ``p50`` and ``p95`` are of the milliseconds of all ``passes``.
    """

    form: Form
    threads: int
    batch: int
    rate: float
    low: float
    high: float
    p50: float
    p95: float
    passes: int


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What was measured of a model, and form -> why it was not, with the machine's load when it began."""

    model: str
    side: int
    rounds: int
    seconds: float
    load: float
    speeds: tuple[Speed, ...]
    missing: dict[str, str]


def bench(
    *,
    store: Store,
    model: str | None = None,
    forms: Sequence[Form] = FORMS,
    batches: Sequence[int] = BATCHES,
    threads: Sequence[int] | None = None,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
) -> Benchmark:
    """Measure on the CPU how fast a model answers, from uint8 crops to calibrated probabilities.

    Each number of threads has a process of its own. After a warm-up every round measures each form, batch and number of
    threads once, in turn, so that what else the machine does meets all alike.

    Args:
        store: where the model is.
        model: reference of a model, a study or an ensemble; the one that comes with fer where it is None.
        forms: torch in float32, in bfloat16 or compiled, and onnxruntime in float32 or 8 bits.
        batches: images at once, 1 to 64.
        threads: 1, 2, 4 and so on to all cores where it is None.
        rounds: of the measurement.
        seconds: of each, at least; three passes at least.

    Raises:
        FerError: there is no such model, or a process ended.
        UsageError: a number is out of range.
    """
    threads = _doubled(usable_cpus()) if threads is None else threads
    limits = (("--batches", batches, BATCH), ("--threads", threads, 1024), ("--rounds", [rounds], 1000))
    for option, values, most in limits:
        if not values or len(set(values)) != len(values) or not all(1 <= value <= most for value in values):
            given = ",".join(map(str, values))
            raise UsageError(f"{option} {given} is out of range", hint=f"take 1 to {most}, each once")
    if unknown := [form for form in forms if form not in FORMS]:
        raise UsageError(f"--forms {unknown[0]!r} is not a choice", hint=f"take {', '.join(FORMS)}")
    artifact = store.find(model or SHIPPED, KINDS)
    opened = open_model(store, artifact, "cpu")
    load, side = os.getloadavg()[0], opened.crops.side or _SIDE
    taken: dict[tuple[Form, int, int], list[list[float]]] = {}
    with TemporaryDirectory() as folder, ExitStack() as stack:
        base = TimingJob(
            store=str(artifact.path.parents[2]),
            model=artifact.reference,
            forms=tuple(forms),
            files={},
            batches=tuple(batches),
            threads=1,
            side=side,
            grey=opened.crops.grey,
            seconds=seconds,
        )
        files, missing = _exported(store, artifact, opened, base, Path(folder))
        here = tuple(form for form in forms if form not in missing)
        processes: list[_Process] = []
        with track("prepare", len(threads), "processes") as advance:
            for count in threads:
                job = base.model_copy(update={"threads": count, "forms": here, "files": files})
                processes.append(stack.enter_context(_process(job)))
                missing |= processes[-1].missing
                advance()
        cells = [
            (process, form, batch)
            for process in processes
            for form in forms
            if form not in missing
            for batch in batches
        ]
        with track("measure", rounds * len(cells), "runs") as advance:
            for number in range(rounds):
                for process, form, batch in cells if number % 2 == 0 else reversed(cells):
                    key = (form, process.job.threads, batch)
                    taken.setdefault(key, []).append(process.measure(form, batch))
                    advance()
    speeds = tuple(_speed(*key, of) for key, of in sorted(taken.items(), key=lambda one: _place(forms, one[0])))
    return Benchmark(artifact.reference, side, rounds, seconds, load, speeds, missing)


def _place(forms: Sequence[Form], key: tuple[Form, int, int]) -> tuple[int, int, int]:
    return forms.index(key[0]), key[1], key[2]


def _doubled(cores: int) -> list[int]:
    return sorted({*(2**power for power in range(cores.bit_length()) if 2**power <= cores), cores})


def _speed(form: Form, threads: int, batch: int, rounds: Sequence[Sequence[float]]) -> Speed:
    rates = sorted(batch * len(taken) / sum(taken) for taken in rounds)
    every = 1000 * np.concatenate(rounds)
    low, high = median_interval(rates)
    p50, p95 = (float(np.percentile(every, share)) for share in (50, 95))
    return Speed(form, threads, batch, float(np.median(rates)), low, high, p50, p95, len(every))


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95% interval of the median of sorted values, by ranks: nothing is assumed of how they are spread.

    Of fewer than six values it is infinite (David & Nagaraja 2003, "Order Statistics", section 7.1).
    """
    n, tail, rank = len(values), 0.0, 0
    while tail + math.comb(n, rank) / 2**n <= (1 - _LEVEL) / 2:
        tail += math.comb(n, rank) / 2**n
        rank += 1
    return (values[rank - 1], values[n - rank]) if rank else (-math.inf, math.inf)


def _exported(
    store: Store, artifact: Artifact, opened: Model, job: TimingJob, folder: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Write the model's ONNX files; return form -> file, and form -> why there is none."""
    wanted = [form for form in job.forms if form in {"onnx", "onnx-int8"}]
    if not wanted:
        return {}, {}
    try:
        from fer_cli.export import graph as graphs
        from fer_cli.stages.export_model import record_of

        record = record_of(store, artifact, opened, "fp32", graphs.OPSET)
        data = graphs.onnx_bytes(graphs.PixelsToProbabilities(opened).eval(), record)
        files: dict[str, str] = {}
        for form in wanted:
            of = data
            if form == "onnx-int8":  # the ranges decide how good it is, not how fast
                of = graphs.to_int8(data, [np.stack([record.pixels(crop) for crop in crops_of(job, 8)])])
            path = folder / f"{form}.onnx"
            path.write_bytes(graphs.with_record(of, record))
            files[form] = str(path)
    except FerError as error:
        return {}, dict.fromkeys(wanted, str(error))
    return files, {}


class _Process:
    """A process that measures with its own number of threads."""

    def __init__(self, job: TimingJob, pipes: subprocess.Popen[str]) -> None:
        self.job, self._pipes = job, pipes
        self.missing: dict[str, str] = json.loads(self._asked(job.model_dump_json()))

    def measure(self, form: Form, batch: int) -> list[float]:
        """Return the seconds of each pass of one round."""
        taken: list[float] = json.loads(self._asked(json.dumps([form, batch])))
        return taken

    def _asked(self, line: str) -> str:
        stdin, stdout = self._pipes.stdin, self._pipes.stdout
        assert stdin is not None, "a pipe"
        assert stdout is not None, "a pipe"
        try:
            stdin.write(f"{line}\n")
            stdin.flush()
            answer = stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise FerError(
                f"the process with {self.job.threads} threads ended with status {self._pipes.wait()}",
                hint="leave forms or batches out; is there enough memory?",
            )
        return answer


@contextmanager
def _process(job: TimingJob) -> Iterator[_Process]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(job.threads))
    pipes = subprocess.Popen(
        [sys.executable, "-m", "fer_cli.prediction.timing"],
        env={**os.environ, **threads},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield _Process(job, pipes)
    finally:
        pipes.kill()
        pipes.communicate()
