"""``fer show``, ``verify`` and ``gc``: the artifact store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_cli.cli.common import (
    Output,
    console,
    counted,
    headline,
    plain,
    print_file,
    print_line,
    print_pairs,
    say,
)
from fer_cli.cli.listing import in_bytes
from fer_cli.cli.options import command
from fer_cli.cli.search import print_board, trials_board
from fer_cli.core.errors import CheckFailedError, FerError
from fer_cli.core.progress import note

if TYPE_CHECKING:
    from rich.tree import Tree

    from fer_cli.artifacts.annotations import Annotation
    from fer_cli.artifacts.artifact import Artifact
    from fer_cli.artifacts.maintenance import Lineage
    from fer_cli.artifacts.store import Store


@command("show")
def show(
    store: Store,
    reference: Annotated[str | None, typer.Argument(help="The artifact. [default: the newest]")] = None,
) -> Output:
    """Show an artifact: its settings, results, files and lineage."""
    from fer_cli.artifacts.annotations import Annotations
    from fer_cli.artifacts.maintenance import lineage
    from fer_cli.artifacts.manifest import KINDS

    artifact = store.find(reference, KINDS, lineage_too=True)
    tree = lineage(store, artifact)
    manifest = artifact.manifest.model_dump(by_alias=True)
    recipe = _recipe(store, artifact)
    said = Annotations(store).of(artifact.kind, artifact.version)
    values: dict[str, object] = {
        "artifact": artifact.to_json(),
        "tags": list(said.tags),
        "note": said.note,
        "manifest": manifest,
    }
    values |= {"lineage": _lineage_json(tree), "recipe": recipe}
    return Output(values, lambda: _show(artifact, tree, said, recipe))


def _recipe(store: Store, artifact: Artifact) -> str | None:
    """Return the recipe of a model, a study or a search as TOML, the system's default noted where it differs."""
    from fer_cli.core.toml_text import toml_text
    from fer_cli.systems.recipe_sources import KINDS, find_source, source_of

    if artifact.kind not in KINDS:
        return None
    try:
        source = source_of(store, artifact)
        recipe = source.read()
        return toml_text(recipe, defaults=find_source(source.of(None), store).read())
    except FerError as error:  # gone, of a system that is not installed, or of another version of fer
        return f"# {error}\n"


def _show(artifact: Artifact, tree: Lineage, said: Annotation, recipe: str | None) -> None:
    from rich.tree import Tree

    manifest, computed = artifact.manifest, _computed_with(artifact)
    apart = {"recipe", "numerics", "numerics_differ", "features"} if computed else {"recipe"}
    headline(artifact.reference)
    code = manifest.code
    commit = "" if code.commit is None else f", commit {code.commit[:10]}{' + changes' if code.modified else ''}"
    print_pairs(
        [
            *([("tags", " ".join(said.tags))] if said.tags else []),
            *([("note", said.note)] if said.note else []),
            ("path", str(artifact.path)),
            *([("payload", "lineage only, no payload here")] if artifact.lineage_only else []),
            (
                "created",
                f"{manifest.created} by fer {code.version}{commit}, {manifest.stage} revision {manifest.revision}",
            ),
            ("content", manifest.content),
            *computed,
            *_lines("config", {key: value for key, value in manifest.config.items() if key not in apart}),
            *_lines("protocol", {key: value for key, value in manifest.protocol.items() if key not in apart}),
            *_lines("summary", manifest.summary),
            *_lines("measured", manifest.measured),
            ("environment", _flat(manifest.environment)),
            *[("warning", text) for text in manifest.warnings],
            *[("file", f"{entry.path}  {entry.size:,} bytes  sha256 {entry.sha256[:16]}…") for entry in manifest.files],
        ]
    )
    if artifact.kind == "search":
        print_board(trials_board(artifact))
    if recipe is not None:
        print_line(plain("recipe", "bold"))
        print_file(recipe)
    print_line(plain("lineage", "bold"))
    root = Tree(plain(artifact.reference), guide_style="dim")
    _grow(root, tree)
    console().print(root, soft_wrap=True)


def _computed_with(artifact: Artifact) -> list[tuple[str, str]]:
    """Return what a training, a fit or an extraction was computed with; nothing where its protocol cannot be read."""
    from fer_cli.artifacts.protocol import TrainingProtocol

    if artifact.kind not in TrainingProtocol.kinds:
        return []
    try:
        protocol = TrainingProtocol.of(artifact)
    except FerError:
        return []
    return [("computed with", protocol.computed_with)]


@command("verify")
def verify(
    store: Store,
    reference: Annotated[str | None, typer.Argument(help="Only this artifact. [default: the whole store]")] = None,
) -> Output:
    """Hash every file again and compare with the manifests; look for what artifacts were made from.

    Exit code 3 if a file differs, a payload has no manifest, or an artifact is missing that another was made from; each
    is named. Artifacts of an earlier form are no fault: they are named with the command that makes them again.
    """
    from fer_cli.artifacts.maintenance import verify_store
    from fer_cli.artifacts.manifest import KINDS
    from fer_cli.core.progress import track

    named = None if reference is None else [_directory(store, reference, KINDS)]
    verified = []
    with track("verify", len(named or store.directories()), "artifacts") as advance:
        for one in verify_store(store, named):
            verified.append(one)
            advance()
    damage = [fault for one in verified for fault in one.damage]
    earlier = [one.earlier for one in verified if one.earlier is not None]
    elsewhere = sorted({name for one in verified for name in one.lineage_only})
    count = len(verified) - len(earlier)

    def show() -> None:
        for error in earlier:
            say(f"{error.path}: earlier form, not read any more; {error.hint}")
        for one in elsewhere:
            say(f"{one}: lineage only, no payload here to verify")
        for fault in damage:
            say(str(fault))
        say(f"{counted(count, 'artifact')} verified, {counted(len(damage), 'fault')}")

    def check() -> None:
        if damage:
            raise CheckFailedError(
                f"{counted(len(damage), 'fault')} in the store", hint="rebuild those artifacts with --force"
            )

    faults = [{"path": str(fault.path), "expected": fault.expected, "found": fault.found} for fault in damage]
    old = [{"path": str(error.path), "hint": error.hint} for error in earlier]
    values = {"artifacts": count, "damage": faults, "earlier": old, "lineage_only": elsewhere}
    return Output(values, show, check)


@command("gc")
def gc(
    store: Store,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it, only list what would be removed.")] = False,
    superseded: Annotated[
        bool,
        typer.Option(
            "--superseded",
            help="Also runs that an equal one (same name and settings) with newer code or data replaced, and that "
            "nothing else needs.",
        ),
    ] = False,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also work that was stopped and that the same command would resume.")
    ] = False,
) -> Output:
    """List what killed commands left behind; remove it with --yes.

    Runs with other settings, tagged ones, ones with a note, and all that what stays was made from are never removed;
    `fer rm` removes one by its name. Each line says why something goes, or stays.
    """
    from fer_cli.artifacts.dependents import unfinished_work
    from fer_cli.artifacts.maintenance import leftovers, remove
    from fer_cli.artifacts.superseded import fates

    found = leftovers(store, superseded=superseded, unfinished=unfinished)
    kept = [(fate.reference, fate.reason) for fate in fates(store) if not fate.goes] if superseded else []
    for work in unfinished_work(store):
        if work.is_under_way(store):
            kept.append((work.reference, "under way: a process is at it"))
        elif not unfinished:
            kept.append((work.reference, "unfinished: the same command resumes it; --unfinished removes it"))
    total = sum(leftover.size for leftover in found)
    if yes:
        remove(store, found)

    def show() -> None:
        for reference, reason in kept:
            note(f"{'stays':>9}  {reference}  ({reason})")
        for leftover in found:
            say(f"{in_bytes(leftover.size):>9}  {leftover.path}  ({leftover.reason})")
        if found:
            say(f"{'removed' if yes else 'would remove'} {in_bytes(total)}{'' if yes else '; add --yes to do it'}")
        else:
            say("nothing to remove")

    entries = [{"path": str(leftover.path), "bytes": leftover.size, "reason": leftover.reason} for leftover in found]
    stays = [{"artifact": reference, "reason": reason} for reference, reason in kept]
    return Output({"removed": yes, "bytes": total, "leftovers": entries, "kept": stays}, show)


def _directory(store: Store, reference: str, kinds: tuple[str, ...]) -> Path:
    """Return the directory of a reference, a damaged one too: verify reports damage."""
    try:
        return store.find(reference, kinds).path
    except FerError:
        path = Path(reference)
        name, _, version = reference.partition("@")
        kind, slash, rest = name.partition("/")
        within = store.directories((kind,), rest, f"{version}*") if slash and kind in kinds else None
        found = within if within is not None else store.directories(kinds, name, f"{version}*")
        if found:
            return found[0]
        if (path / "manifest.json").is_file():
            return path
        raise


def _lines(key: str, value: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - any JSON value
    """Return a line for each value of a tree whose tables hold tables, and one for a table of plain values."""
    if isinstance(value, dict) and (key.count(".") == 0 or any(isinstance(item, dict) for item in value.values())):
        return [line for name, item in value.items() for line in _lines(f"{key}.{name}", item)]
    return [(key, _flat(value))]


def _flat(value: Any) -> str:  # noqa: ANN401 - any JSON value
    match value:
        case dict():
            return ", ".join(f"{key} {_flat(item)}" for key, item in value.items()) or "-"
        case list():
            return ", ".join(_flat(item) for item in value) or "-"
        case None:
            return "-"
        case bool() | str():
            return str(value)
        case float():
            return f"{value:.6g}"
        case _:
            return f"{value:,}"


def _grow(branch: Tree, node: Lineage) -> None:
    for parent in node.parents:
        source = parent.source
        if source.kind == "files":
            text = plain(f"{parent.role}: files of {source.name}, sha256 {source.content[:16]}…")
        else:
            named = f"{source.kind}/{source.name}@{source.version}"
            text = plain(f"{parent.role}: {named if parent.artifact is None else parent.artifact.reference}")
            if parent.artifact is None:
                text.append("  gone from this store", style="yellow")
            elif parent.artifact.lineage_only:
                text.append("  lineage only, no payload here", style="yellow")
            if parent.changed:
                text.append("  CHANGED since", style="red")
        _grow(branch.add(text), parent)


def _lineage_json(node: Lineage) -> dict[str, Any]:
    return {
        "role": node.role,
        **node.source.model_dump(),
        "present": node.artifact is not None and not node.artifact.lineage_only,
        "lineage_only": node.artifact is not None and node.artifact.lineage_only,
        "changed": node.changed,
        "made_from": [_lineage_json(parent) for parent in node.parents],
    }
