"""Stage ``cite``: what a paper cites for a result, by the lineage of its artifacts. It writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.manifest import KINDS
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ModelConfig
from fer_cli.core.citations import FER, Citation
from fer_cli.core.errors import FerError
from fer_cli.core.progress import warn
from fer_cli.datasets.registry import DATASETS
from fer_cli.systems import registry
from fer_cli.systems.ahm.citation import ZHANG_AHM


def cite(*, store: Store, references: Sequence[str] = ()) -> list[Citation]:
    """Return what a paper cites that shows some results: fer, then systems, then data sets, each once.

    What cannot be told, such as the source of a folder of own pictures, is said on stderr.

    Args:
        store: where artifacts are.
        references: of artifacts of any kind; what each was made from is followed to its sources.

    Raises:
        FerError: a reference leads to nothing, or an artifact is damaged.
    """
    found = list(_lineage(store, [store.find(reference, KINDS) for reference in references]))
    systems = [one for artifact in found for one in _of_system(artifact)]
    datasets = [one for artifact in found for one in _of_dataset(artifact)]
    return list({one.key: one for one in (FER, *systems, *datasets)}.values())


def _lineage(store: Store, artifacts: Sequence[Artifact]) -> Iterator[Artifact]:
    """Yield artifacts and what they were made from, each once."""
    ahead = list(artifacts)
    seen = {(one.kind, one.version) for one in ahead}
    while ahead:
        artifact = ahead.pop(0)
        yield artifact
        for source in artifact.manifest.inputs.values():
            if source.kind not in KINDS or (source.kind, source.version) in seen:
                continue
            seen.add((source.kind, source.version))
            if there := store.directories((source.kind,), version=source.version):
                ahead.append(store.open(there[0]))
            elif (known := store.lineage_of(source.kind, source.version)) is not None:
                ahead.append(known)
            else:
                reference = f"{source.kind}/{source.name}@{source.version}"
                warn(f"{reference} is not in this store: what it was made from is not cited")


def _of_system(artifact: Artifact) -> tuple[Citation, ...]:
    if artifact.kind == "ahm":
        return (ZHANG_AHM,)
    if artifact.kind != "model":
        return ()
    system = ModelConfig.of(artifact).system
    try:
        return registry.load(system).citations
    except FerError:
        warn(f"{artifact.reference}: the package of its system {system} is not installed, which is not cited")
        return ()


def _of_dataset(artifact: Artifact) -> tuple[Citation, ...]:
    if artifact.kind != "dataset" or any(source.kind == "dataset" for source in artifact.manifest.inputs.values()):
        return ()
    loader = artifact.manifest.config.get("loader")
    definition = next((one for one in map(DATASETS.load, DATASETS.names()) if one.loads(str(loader))), None)
    if definition is not None and (definition.citations or definition.generated):
        return definition.citations
    warn(f"{artifact.reference} is of no data set that fer knows: cite its source yourself")
    return ()
