"""How fast a model answers in one form: what a process of ``fer bench`` does, with a number of threads of its own.

It reads a :class:`TimingJob` as one line of JSON, opens the forms, warms each up on each batch, and writes one line:
form -> why it cannot be had. Of each further line, a form and a number of images, it writes the seconds of each pass.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.sections import Record
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError, one_line
from fer_cli.prediction.model import Model, open_model
from fer_cli.prediction.onnx_model import from_bytes

Form = Literal["fp32", "bf16", "compiled", "onnx", "onnx-int8"]
FORMS: Final[tuple[Form, ...]] = get_args(Form)
Predict = Callable[[NDArray[np.uint8]], object]
_WARM_UP: Final = 3  # passes that do not count
_PASSES: Final = 3  # of a round, at least


class TimingJob(Record):
    """What a process measures: ``files`` are the exported ones by form; a round takes ``seconds``, or three passes."""

    store: str
    model: str
    forms: tuple[Form, ...]
    files: dict[str, str]
    batches: tuple[int, ...]
    threads: int
    side: int
    grey: bool
    seconds: float


def predictor(form: Form, job: TimingJob) -> Predict:
    """Return what answers to uint8 crops (n, S, S) or (n, S, S, 3) in a form.

    Raises:
        FerError: the form cannot be had here.
    """
    if form in job.files:
        path = Path(job.files[form])
        return from_bytes(path.read_bytes(), path, threads=job.threads).predict
    store = Store(Path(job.store))
    model = open_model(store, store.find(job.model, ["model", "study", "ensemble"]), "cpu")
    if form == "bf16":
        return _in_bfloat16(model)
    if form == "compiled":
        for one in model.networks:
            one.network.compile()
    return model.predict


def _in_bfloat16(model: Model) -> Predict:
    import torch

    def predict(crops: NDArray[np.uint8]) -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return model.predict(crops)

    return predict


def crops_of(job: TimingJob, batch: int) -> NDArray[np.uint8]:
    """Return noise in the form of the model's crops: how fast it answers does not depend on what it sees."""
    shape = (batch, job.side, job.side) if job.grey else (batch, job.side, job.side, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def passes(predict: Predict, crops: NDArray[np.uint8], seconds: float) -> list[float]:
    """Return the seconds of each pass of a round."""
    taken: list[float] = []
    while len(taken) < _PASSES or sum(taken) < seconds:
        begun = time.perf_counter()
        predict(crops)
        taken.append(time.perf_counter() - begun)
    return taken


def main() -> None:
    """Measure as the lines of stdin say, until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    job = TimingJob.model_validate_json(sys.stdin.readline())
    crops = {batch: crops_of(job, batch) for batch in job.batches}
    ready: dict[str, Predict] = {}
    missing: dict[str, str] = {}
    for form in job.forms:
        try:
            predict = predictor(form, job)
            for batch in job.batches:
                for _ in range(_WARM_UP):
                    predict(crops[batch])
            ready[form] = predict
        except FerError as error:
            missing[form] = str(error)
        except Exception as error:  # a compiler's, of many classes: the other forms are measured all the same
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            missing[form] = one_line(lines[0] if lines else type(error).__name__)[:200]
    answers.write(json.dumps(missing) + "\n")
    answers.flush()
    for line in sys.stdin:
        form_name, batch = json.loads(line)
        answers.write(json.dumps(passes(ready[form_name], crops[batch], job.seconds)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
