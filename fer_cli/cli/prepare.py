"""``fer prepare``: one subcommand per data set, made of what its loader declares in the registry of data sets."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fer_cli.cli.common import Output, artifact_output
from fer_cli.cli.options import ForceOption, SeedOption, command, registry_app
from fer_cli.core.errors import FerError
from fer_cli.datasets.registry import DATASETS, DatasetDefinition, default_source

if TYPE_CHECKING:
    from fer_cli.artifacts.artifact import Artifact
    from fer_cli.artifacts.store import Store

ValidationOption = Annotated[
    float, typer.Option("--validation", help="Share of train to hold out for validation where the source has none.")
]
DropOption = Annotated[
    bool,
    typer.Option("--drop-duplicates", help="Remove training images that (nearly) equal others; see fer audit."),
]
_SHARED: Final = [
    Parameter("seed", Parameter.KEYWORD_ONLY, default=0, annotation=SeedOption),
    Parameter("force", Parameter.KEYWORD_ONLY, default=False, annotation=ForceOption),
    Parameter("name", Parameter.KEYWORD_ONLY, default=None, annotation=str | None),
]
_SPLITTING: Final = [
    Parameter("drop_duplicates", Parameter.KEYWORD_ONLY, default=False, annotation=DropOption),
    Parameter("validation", Parameter.KEYWORD_ONLY, default=0.1, annotation=ValidationOption),
]


def _build(name: str) -> tuple[Callable[..., None], dict[str, Any]]:
    try:
        dataset = DATASETS.load(name)
    except FerError as error:  # another package's fault: the other datasets stay usable
        return _failing(error), {"help": str(error)}
    return _command(name, dataset), {"help": dataset.help, "short_help": dataset.summary}


app = registry_app("Read a dataset's layout, check it, and store it.", DATASETS.names, _build)


def _failing(error: FerError) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def _command(dataset_name: str, dataset: DatasetDefinition) -> Callable[..., None]:
    """Return the command of a data set: the options that its loader declares, then those of every data set."""

    def prepare(*, store: Store, seed: int, force: bool, name: str | None, **options: Any) -> Output:  # noqa: ANN401 - the loader's own
        from fer_cli.stages.prepare import prepare as stage

        shared = {item.name: options.pop(item.name) for item in _SPLITTING if item.name in options}
        if dataset.default_source and not dataset.generated:
            options["source"] = options["source"] or default_source(dataset_name)
        if dataset.takes("seed"):
            options["seed"] = seed
        if dataset.takes("name"):
            options["name"] = name
        words = [word for word in sys.argv[1:] if word not in {"--json", "--debug", "--force"}]
        result = stage(
            store=store,
            loader=dataset.open_with(**options),
            seed=seed,
            command=shlex.join(["fer", *words]),
            force=force,
            name=name,
            **shared,
        )
        return artifact_output(result, _lines(result.artifact))

    parameters = [*_options(dataset), *([] if dataset.generated else _SPLITTING), *_SHARED]
    store_parameter = Parameter("store", Parameter.KEYWORD_ONLY)
    prepare.__dict__["__signature__"] = Signature([*parameters, store_parameter])
    prepare.__annotations__ = {item.name: item.annotation for item in parameters}
    return command(f"prepare {dataset_name}")(prepare)


def _options(dataset: DatasetDefinition) -> list[Parameter]:
    options = []
    for item in dataset.parameters():
        if item.name == "name":  # of every command that makes an artifact
            continue
        kind, default = item.type, item.default
        if item.name == "source" and dataset.default_source:
            kind, default = Path | None, None
        flags = item.option.flags or f"--{item.name.replace('_', '-')}"
        annotation = Annotated[kind, typer.Option(flags, help=item.option.help)]  # type: ignore[valid-type]
        options.append(Parameter(item.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation))
    return options


def _lines(artifact: Artifact) -> list[tuple[str, str]]:
    from fer_cli.artifacts.protocol import DatasetProtocol
    from fer_cli.artifacts.summaries import DatasetSummary

    summary, protocol = DatasetSummary.of(artifact), DatasetProtocol.of(artifact)
    lines = [("labels", protocol.label_rule)]
    for split, counts in summary.classes.items():
        of = ", ".join(f"{name} {number:,}" for name, number in counts.items())
        lines.append((split, f"{sum(counts.values()):,}  ({of})"))
    origins = {"validation": protocol.validation, "test": protocol.test}
    lines += [(f"{split} split", str(origin)) for split, origin in origins.items() if origin.kind == "carved"]
    lines += protocol.roles()
    if protocol.alignment is not None:
        lines.append(("alignment", str(protocol.alignment)))
    lines += [("dropped", f"{number:,} {reason}") for reason, number in summary.dropped.items()]
    lines += [("missing", text) for text in summary.missing]
    lines += [("source", str(leftover)) for leftover in protocol.leftovers]
    lines += [("images", str(odd)) for odd in protocol.odd_images]
    if extra := summary.duplicates.extra_copies:
        across = summary.duplicates.groups_across_splits
        lines.append(("duplicates", f"{extra:,} extra copies of equal pixels, {across:,} groups across splits"))
    return lines
