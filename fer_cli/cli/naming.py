"""``fer tag``, ``note``, ``rename`` and ``rm``: what a user calls artifacts, and which ones stay."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_cli.cli.common import Output, counted, headline, print_pairs, say
from fer_cli.cli.listing import in_bytes
from fer_cli.cli.options import command
from fer_cli.core.errors import FerError, UsageError

if TYPE_CHECKING:
    from fer_cli.artifacts.annotations import Annotation
    from fer_cli.artifacts.artifact import Artifact
    from fer_cli.artifacts.store import Store

ReferenceArgument = Annotated[str, typer.Argument(metavar="REF", help="The artifact.")]


@command("tag")
def tag(
    store: Store,
    reference: ReferenceArgument,
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="+TAG/-TAG", help="+TAG adds a tag, -TAG removes one.")
    ] = None,
) -> Output:
    """Add tags to an artifact or remove them: `fer tag REF +paper -draft`; without any, show them.

    `fer gc` never removes what is tagged. Tags are no part of an artifact and change no version.
    """
    from fer_cli.artifacts.annotations import Annotations
    from fer_cli.artifacts.manifest import KINDS

    words = changes or []
    if unknown := [
        word for word in (reference, *words) if word.startswith("--")
    ]:  # -TAG is no option, so none are known
        raise UsageError(f"No such option: {unknown[0]}", hint="see 'fer tag --help'")
    if wrong := [word for word in words if word[:1] not in {"+", "-"}]:
        raise UsageError(
            f"{wrong[0]!r} is not +TAG or -TAG", hint=f"write +{wrong[0]} to add it, -{wrong[0]} to remove it"
        )
    add, remove = ([word[1:] for word in words if word[0] == sign] for sign in "+-")
    artifact = store.find_own(reference, KINDS)
    annotations = Annotations(store)
    if missing := sorted(set(remove) - set(annotations.of(artifact.kind, artifact.version).tags)):
        raise FerError(f"{artifact.reference} has no tag {missing[0]}", hint="'fer tag REF' shows its tags")
    changed = annotations.change(artifact, add=add, remove=remove) if words else None
    return _said(artifact, changed or annotations.of(artifact.kind, artifact.version))


@command("note")
def note(
    store: Store,
    reference: ReferenceArgument,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="The note; '' removes it. [default: show it]")
    ] = None,
) -> Output:
    """Write a note beside an artifact, or show it."""
    from fer_cli.artifacts.annotations import Annotations
    from fer_cli.artifacts.manifest import KINDS

    artifact = store.find_own(reference, KINDS)
    annotations = Annotations(store)
    if text is None:
        return _said(artifact, annotations.of(artifact.kind, artifact.version))
    return _said(artifact, annotations.change(artifact, note=text))


def _said(artifact: Artifact, said: Annotation) -> Output:
    def show() -> None:
        headline(artifact.reference)
        print_pairs([("tags", " ".join(said.tags) or "none"), ("note", said.note or "none")])

    return Output({"artifact": artifact.to_json(), "tags": list(said.tags), "note": said.note}, show)


@command("rename")
def rename(
    store: Store,
    reference: ReferenceArgument,
    new: Annotated[str, typer.Argument(metavar="NAME", help="The new name: a-z, 0-9, '.', '_', '-'.")],
) -> Output:
    """Give an artifact another name; nothing is made again, and what was made from it still finds it."""
    from fer_cli.artifacts.manifest import KINDS
    from fer_cli.artifacts.naming import chosen_name

    name = chosen_name(new, "NAME")
    before = store.find_own(reference, KINDS)
    renamed = before if before.name == name else store.rename(before, name)

    def show() -> None:
        headline(renamed.reference, f"was {before.reference}")

    return Output({"artifact": renamed.to_json(), "before": before.to_json()}, show)


@command("rm")
def rm(
    store: Store,
    references: Annotated[list[str], typer.Argument(metavar="REF...", help="The artifacts, or unfinished work.")],
    with_dependents: Annotated[
        bool, typer.Option("--with-dependents", help="Also all that was made from them.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Although other artifacts were made from them, which stay.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> Output:
    """Remove artifacts. What was made from one is named, and refused unless --with-dependents or --force is given."""
    from fer_cli.artifacts import atomic_io
    from fer_cli.artifacts.dependents import dependents
    from fer_cli.artifacts.maintenance import discard

    named = list(dict.fromkeys(_place(store, reference) for reference in references))
    finished = {(path.parent.parent.name, path.name) for path in named if not path.name.startswith(".")}
    others = [path for path in dependents(store, finished) if path not in named]
    if others and not (with_dependents or force):
        few = ", ".join(_reference(path) for path in others[:3]) + (", ..." if len(others) > 3 else "")
        verb = "was" if len(others) == 1 else "were"
        hint = "add --with-dependents to remove them too, or --force to leave them without what they were made from"
        raise FerError(f"{counted(len(others), 'artifact')} {verb} made from it: {few}", hint=hint)
    going = [*(others if with_dependents else []), *_last_first(store, named)]
    sizes = {path: atomic_io.tree_size(path) for path in going}
    if not yes:
        _ask(sizes, [] if with_dependents else others)
    freed = discard(store, going)

    def show() -> None:
        for path in going:
            say(f"{in_bytes(sizes[path]):>9}  {_reference(path)}")
        say(f"removed {in_bytes(freed)}")

    values: dict[str, Any] = {"removed": [_reference(path) for path in going], "bytes": freed}
    return Output({**values, "left_without": [] if with_dependents else [_reference(path) for path in others]}, show)


def _ask(sizes: dict[Path, int], orphans: list[Path]) -> None:
    """Ask whether to remove what was found.

    Raises:
        UsageError: nobody is there to ask.
        FerError: the answer is no.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{counted(len(sizes), 'artifact')} would be removed", hint="add --yes to do it")
    for path, size in sizes.items():
        say(f"{in_bytes(size):>9}  {_reference(path)}", err=True)
    for path in orphans:
        say(f"{'orphan':>9}  {_reference(path)}", err=True)
    if not typer.confirm(f"Remove {counted(len(sizes), 'artifact')}?", err=True):
        raise FerError("nothing was removed", hint="the answer was no")


def _last_first(store: Store, named: list[Path]) -> list[Path]:
    """Return artifacts, each before those that it was made from: a kill leaves none without its inputs."""
    from fer_cli.artifacts.dependents import dependents

    versions = {(path.parent.parent.name, path.name) for path in named}
    made = [path for path in dependents(store, versions) if path in named]
    return [*made, *(path for path in named if path not in made)]


def _reference(path: Path) -> str:
    unfinished = path.name.startswith(".")
    version = path.name.rpartition("-")[2]
    return f"{path.parent.parent.name}/{path.parent.name}@{version}{' (unfinished)' if unfinished else ''}"


def _place(store: Store, reference: str) -> Path:
    """Return the directory of an artifact, a damaged one too, or of unfinished work."""
    from fer_cli.artifacts.dependents import unfinished_work
    from fer_cli.artifacts.manifest import KINDS
    from fer_cli.artifacts.naming import is_name

    kind, slash, rest = reference.partition("/")
    kinds, rest = ((kind,), rest) if slash and kind in KINDS else (KINDS, reference)
    name, at, version = rest.partition("@")
    if not at and is_name(name):
        versions = store.directories(kinds, name)
        if len(versions) > 1:
            shown = ", ".join(_reference(path) for path in versions[:3])
            raise FerError(f"{reference!r} fits {counted(len(versions), 'artifact')}", hint=f"name one: {shown}")
    try:
        return store.find_own(reference, kinds).path
    except FerError:
        if is_name(name) and set(version) <= set("0123456789abcdef"):
            damaged = store.directories(kinds, name, f"{version}*")
            stopped = [work.path for work in unfinished_work(store, kinds, name, f"{version}*")]
            if len(found := damaged or stopped) == 1:
                return found[0]
            if found:
                hint = f"name one: {', '.join(_reference(path) for path in found[:3])}"
                raise FerError(f"{reference!r} fits {counted(len(found), 'artifact')}", hint=hint) from None
        raise
