"""The command line as a whole: its commands, and how every end of a command becomes an exit code and one line."""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final

import typer

from fer_cli import __version__
from fer_cli.cli import (
    audit,
    bench,
    cite,
    common,
    compare,
    demo,
    doctor,
    ensemble,
    evaluate,
    export,
    export_predictions,
    extract,
    fit_ahm,
    import_,
    listing,
    naming,
    parse_masks,
    plot,
    predict,
    prepare,
    recipe,
    reproduce,
    search,
    split,
    store,
    train,
    watch,
    weights,
)
from fer_cli.cli.common import SCHEMA
from fer_cli.cli.options import CommandGroup
from fer_cli.cli.terminal import on_stderr
from fer_cli.core import machine, signals
from fer_cli.core.errors import ExitCode, FerError, PreemptedError, one_line
from fer_cli.core.progress import speaks


class _InOrder(CommandGroup):
    """Shows the commands in the order in which they are used."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - typer's own signature
        """Return the names of the stages first, then of the rest."""
        stages = [
            "demo",
            "prepare",
            "split",
            "parse-masks",
            "extract",
            "fit-ahm",
            "train",
            "recipe",
            "search",
            "ensemble",
            "eval",
            "predict",
            "export",
            "import",
            "bench",
            "compare",
            "reproduce",
            "audit",
            "plot",
            "export-predictions",
            "cite",
        ]
        return sorted(self.commands, key=lambda name: stages.index(name) if name in stages else len(stages))


app = typer.Typer(
    name="fer",
    cls=_InOrder,
    help="Facial expression recognition: from data sets to numbers that can be trusted.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.add_typer(prepare.app, name="prepare")
app.command("split")(split.split)
app.command("parse-masks")(parse_masks.parse_masks)
app.command("extract")(extract.extract)
app.command("fit-ahm")(fit_ahm.fit_ahm)
app.add_typer(train.app, name="train")
app.add_typer(recipe.app, name="recipe")
app.command("search")(search.search)
app.command("ensemble")(ensemble.ensemble)
app.command("eval")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("export")(export.export)
app.command("import")(import_.import_)
app.command("bench")(bench.bench)
app.command("compare")(compare.compare)
app.command("reproduce")(reproduce.reproduce)
app.command("audit")(audit.audit)
app.add_typer(plot.app, name="plot")
app.command("export-predictions")(export_predictions.export_predictions)
app.command("cite")(cite.cite)
app.command("ls")(listing.ls)
app.command("watch")(watch.watch)
app.command("show")(store.show)
app.command("tag", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})(naming.tag)
app.command("note")(naming.note)
app.command("rename")(naming.rename)
app.command("rm")(naming.rm)
app.command("verify")(store.verify)
app.command("gc")(store.gc)
app.add_typer(weights.app, name="weights")
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fer {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; whatever goes wrong is one line on stderr.

    ``--json`` and ``--debug`` are looked for in the arguments themselves: they count even where parsing fails.
    """
    wants_json, debug = "--json" in arguments, "--debug" in arguments
    common.forget_json()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without Unicode shows escapes rather than a traceback
            stream.reconfigure(errors="backslashreplace")
    told = list[signal.Signals]()

    def interrupt(number: int, _frame: FrameType | None) -> None:
        told.append(signal.Signals(number))
        raise _StoppedError

    for number in signals.handled():
        signal.signal(number, interrupt)
    try:
        with _one_voice(), on_stderr():
            ended = app(args=list(arguments), prog_name="fer", standalone_mode=False)
            sys.stdout.flush()
        if ended == ExitCode.INTERRUPTED:  # what typer makes of a KeyboardInterrupt
            raise KeyboardInterrupt
        return int(ended or ExitCode.DONE)
    except BaseException as error:  # the one place where every end of a command comes by
        if debug:
            for line in traceback.format_exc().rstrip("\n").split("\n"):
                print(one_line(line), file=sys.stderr)  # noqa: T201
        if isinstance(error, BrokenPipeError):
            # The reader went away (head, less): nothing is wrong, but Python's own flush at exit would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        if isinstance(error, SystemExit):  # typer's own way out when the reader of its output went away
            return int(error.code or 0) if isinstance(error.code, int | None) else ExitCode.USER
        if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: its message is its help
            text = error.format_message() if isinstance(error, typer.TyperException) else str(error)
            print(text, file=sys.stderr)  # noqa: T201
            return ExitCode.USAGE
        code: int
        interrupted = isinstance(error, (KeyboardInterrupt, typer.Abort))
        if interrupted and told and told[0] != signal.SIGINT:
            code, text = ExitCode.PREEMPTED, f"stopped by {told[0].name}; {_AGAIN}: {_again(arguments)}"
        elif interrupted:
            code, text = ExitCode.INTERRUPTED, f"interrupted; {_AGAIN}: {_again(arguments)}"
        elif isinstance(error, PreemptedError):
            kept = [word for word in arguments if not (error.without_force and word == "--force")]
            code, text = error.exit_code, f"{error}: {_again(kept)}"
        else:
            code, text = _explain(error)
        _say(code, text, arguments, as_json=wants_json)
        return code


class _StoppedError(KeyboardInterrupt):
    """A signal came. Of its own class: where a KeyboardInterrupt crosses a C module's code, Python ends with 130."""


@contextmanager
def _one_voice() -> Iterator[None]:
    """Let the first of the processes that ``torchrun`` started speak alone on stdout."""
    if speaks():
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


def _explain(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the one line for whatever ended a command."""
    if isinstance(error, FerError):
        return error.exit_code, str(error)
    if isinstance(error, typer.TyperException):
        what = error.format_message() if hasattr(error, "format_message") else str(error)
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "fer"
        return ExitCode.USAGE, f"{what.rstrip('.')}; see '{command} --help'"
    if machine.is_memory(error):
        advice = "use a smaller batch or smaller images (--batch, --size; in a recipe train.batch, data.size)"
        return ExitCode.USER, f"out of memory; {advice}, or a machine with more memory"
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename else ""
        return ExitCode.USER, f"{where}{os.strerror(error.errno)}; {_ADVICE.get(error.errno, _LOOK)}"
    what = f"a bug in fer: {type(error).__name__}: {error}"
    return ExitCode.BUG, f"{what}; run it again with --debug and report the output"


def _again(arguments: Sequence[str]) -> str:
    """Return the command as a shell takes it."""
    return one_line(shlex.join(["fer", *arguments]))


_AGAIN = (
    "no artifact is left half-written; those that were finished, and what stopped work had saved, are kept; the same "
    "command does the rest"
)
_LOOK = "check that path and its permissions"
_ADVICE = {
    errno.ENOSPC: "free some space or use another --store; existing artifacts are unharmed",
    errno.EDQUOT: "free some of your quota or use another --store; existing artifacts are unharmed",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) or use another --store",
    errno.EROFS: "this file system is read-only: use another --store or --out",
    errno.EACCES: "no permission to read or write there: use another --store, --out or --source",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}


_GROUPS: Final = ("prepare", "plot", "recipe", "train", "weights")


def _say(code: int, text: str, arguments: Sequence[str], *, as_json: bool) -> None:
    if not speaks() and code in {ExitCode.PREEMPTED, ExitCode.INTERRUPTED}:
        return  # the first process says it for all; an error of another kind may be this process's own
    print(one_line(f"fer: error: {text}"), file=sys.stderr)  # noqa: T201
    if as_json and speaks() and not common.printed_json():
        words = [word for word in arguments if not word.startswith("-")]
        command = " ".join(words[: 2 if words[:1] and words[0] in _GROUPS else 1])
        print(json.dumps({"schema": SCHEMA, "command": command, "error": {"code": int(code), "message": text}}))  # noqa: T201
