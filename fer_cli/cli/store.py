"""``fer ls``, ``show``, ``verify`` and ``gc``: the artifact store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_cli.cli.common import (
    DebugOption,
    JsonOption,
    StoreOption,
    console,
    counted,
    open_store,
    print_json,
    print_pairs,
    print_table,
)
from fer_cli.core.errors import CheckFailedError, FerError

if TYPE_CHECKING:
    from rich.tree import Tree

    from fer_cli.artifacts.maintenance import Lineage
    from fer_cli.artifacts.store import Artifact, Store


def ls(
    kind: Annotated[str | None, typer.Argument(help="One kind alone, such as dataset or features.")] = None,
    store: StoreOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List the artifacts, the last made or used first."""
    from fer_cli.artifacts.manifest import KINDS

    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"{kind!r} is no kind of artifact; take one of {', '.join(KINDS)}")
    place = open_store(store)
    rows: list[list[str]] = []
    entries: list[dict[str, Any]] = []
    for directory in place.directories(KINDS if kind is None else (kind,)):
        size = sum(path.stat().st_size for path in directory.iterdir() if path.is_file())
        try:
            artifact = place.open(directory)
        except FerError as error:
            name = f"{directory.parent.name}@{directory.name}"
            rows.append([directory.parent.parent.name, name, "", _bytes(size), f"DAMAGED: {error.what}"])
            entries.append({"path": str(directory), "damaged": str(error)})
            continue
        manifest = artifact.manifest
        created = manifest.created.replace("T", " ").removesuffix("+00:00")
        rows.append([artifact.kind, f"{artifact.name}@{artifact.version[:6]}", created, _bytes(size), _brief(artifact)])
        entries.append({**artifact.to_json(), "created": manifest.created, "bytes": size, "summary": manifest.summary})
    if json:
        print_json("ls", artifacts=entries)
    elif rows:
        columns = {"kind": "left", "name@version": "left", "created (UTC)": "left", "size": "right", "what": "left"}
        print_table(columns, rows)
    else:
        typer.echo(f"no artifacts in {place.root}; 'fer demo' or 'fer prepare' makes the first")


def show(
    reference: Annotated[str | None, typer.Argument(help="The artifact. [default: the newest]")] = None,
    store: StoreOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show an artifact, and its lineage as a tree."""
    from fer_cli.artifacts.maintenance import lineage
    from fer_cli.artifacts.manifest import KINDS

    place = open_store(store)
    artifact = place.find(reference, KINDS)
    tree = lineage(place, artifact)
    manifest = artifact.manifest
    if json:
        print_json(
            "show",
            artifact=artifact.to_json(),
            manifest=manifest.model_dump(by_alias=True),
            lineage=_lineage_json(tree),
        )
        return
    from rich.tree import Tree

    out = console()
    out.print(f"[bold]{artifact.reference}[/bold]", highlight=False, soft_wrap=True)
    code = manifest.code
    commit = "" if code.commit is None else f", commit {code.commit[:10]}{' + changes' if code.modified else ''}"
    print_pairs(
        [
            ("path", str(artifact.path)),
            (
                "created",
                f"{manifest.created} by fer {code.version}{commit}, {manifest.stage} revision {manifest.revision}",
            ),
            ("content", manifest.content),
            *[(f"config.{key}", _flat(value)) for key, value in manifest.config.items()],
            *[(f"protocol.{key}", _flat(value)) for key, value in manifest.protocol.items()],
            *[(f"summary.{key}", _flat(value)) for key, value in manifest.summary.items()],
            *[(f"measured.{key}", _flat(value)) for key, value in manifest.measured.items()],
            ("environment", _flat(manifest.environment)),
            *[("warning", text) for text in manifest.warnings],
            *[("file", f"{entry.path}  {entry.size:,} bytes  sha256 {entry.sha256[:16]}…") for entry in manifest.files],
        ]
    )
    out.print("lineage", style="bold")
    root = Tree(artifact.reference, guide_style="dim")
    _grow(root, tree)
    out.print(root, soft_wrap=True)


def verify(
    reference: Annotated[str | None, typer.Argument(help="One artifact alone. [default: the whole store]")] = None,
    store: StoreOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Hash every file again.

    Exit code 3 when anything differs from the manifests; what, is said by file.
    """
    from fer_cli.artifacts.maintenance import verify_directory
    from fer_cli.artifacts.manifest import KINDS
    from fer_cli.core.progress import track

    place = open_store(store)
    directories = place.directories() if reference is None else [_directory(place, reference, KINDS)]
    damage = []
    with track("verify", len(directories), "artifacts") as advance:
        for directory in directories:
            damage += verify_directory(directory)
            advance()
    if json:
        print_json(
            "verify",
            artifacts=len(directories),
            damage=[{"path": str(one.path), "expected": one.expected, "found": one.found} for one in damage],
        )
    else:
        for one in damage:
            typer.echo(str(one))
        typer.echo(f"{counted(len(directories), 'artifact')} verified, {counted(len(damage), 'fault')}")
    if damage:
        raise CheckFailedError(
            f"{counted(len(damage), 'fault')} in the store", hint="make those artifacts again with --force"
        )


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it gc only says what it would remove.")] = False,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Also versions with a newer one of the same name that nothing needs.")
    ] = False,
    store: StoreOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show, and remove with --yes, what killed commands left."""
    from fer_cli.artifacts.maintenance import leftovers, remove

    place = open_store(store)
    found = leftovers(place, superseded=superseded)
    total = sum(leftover.size for leftover in found)
    if yes:
        remove(place, found)
    if json:
        entries = [{"path": str(one.path), "bytes": one.size, "reason": one.reason} for one in found]
        print_json("gc", removed=yes, bytes=total, leftovers=entries)
        return
    for leftover in found:
        typer.echo(f"{_bytes(leftover.size):>9}  {leftover.path}  ({leftover.reason})")
    if not found:
        typer.echo("nothing to remove")
    else:
        typer.echo(f"{'removed' if yes else 'would remove'} {_bytes(total)}{'' if yes else '; add --yes to do it'}")


def _directory(store: Store, reference: str, kinds: tuple[str, ...]) -> Path:
    """Return the directory of a reference, a damaged one too: damage is what verify is there to tell."""
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


def _brief(artifact: Artifact) -> str:
    summary = artifact.manifest.summary
    match artifact.kind:
        case "dataset":
            folds = [f"{summary['folds']} folds"] if "folds" in summary else []
            return ", ".join([*(f"{number:,} {split}" for split, number in summary["splits"].items()), *folds])
        case "features":
            shape = "x".join(str(side) for side in summary["shape"])
            return f"{summary['images']:,} x {shape} {summary['dtype']}, {'+'.join(summary['views'])}"
        case _:
            return str(summary.get("headline", ""))


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


def _bytes(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def _grow(branch: Tree, node: Lineage) -> None:
    from rich.text import Text

    for parent in node.parents:
        source = parent.source
        if source.kind == "files":
            text = Text(f"{parent.role}: files of {source.name}, sha256 {source.content[:16]}…")
        else:
            text = Text(f"{parent.role}: {source.kind}/{source.name}@{source.version}")
            if parent.artifact is None:
                text.append("  gone from this store", style="yellow")
            elif parent.changed:
                text.append("  CHANGED since", style="red")
        _grow(branch.add(text), parent)


def _lineage_json(node: Lineage) -> dict[str, Any]:
    return {
        "role": node.role,
        **node.source.model_dump(),
        "present": node.artifact is not None,
        "changed": node.changed,
        "made_from": [_lineage_json(parent) for parent in node.parents],
    }
