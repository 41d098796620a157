"""Stage ``extract``: a dataset artifact in, a features artifact out. Resumes; several processes share the blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.naming import composed_name, slug
from fer_cli.artifacts.protocol import DatasetProtocol, Numerics, TrainingProtocol
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.runner import run
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import FeaturesConfig, FeaturesSummary, Measured, ModelConfig
from fer_cli.artifacts.work import Plan, Work
from fer_cli.core import distributed, machine
from fer_cli.core.errors import FerError, UsageError
from fer_cli.datasets.dataset import open_dataset
from fer_cli.evaluation.ancestors import starting_weights
from fer_cli.inference.extraction import VIEWS, extract_features, feature_shape
from fer_cli.models.backbones import POOLED, Backbone, check_name, cost
from fer_cli.models.features import logits_of
from fer_cli.models.truncation import open_level
from fer_cli.systems.model_features import open_model_level
from fer_cli.systems.starting_weights import SINGLE, find_network, find_starting_weights, weights_of
from fer_cli.weights.files import WeightsFile, pretraining_of

REVISION: Final = 1
LONGEST_FEATURES: Final = 96
"""Characters of the name of features: that of what is made of them has more."""
DTYPES: Final = ("float32", "float16")
BACKBONE: Final = "tf_efficientnet_lite0"
"""Whose features are taken where no network is named."""


def extract(
    *,
    store: Store,
    dataset: str | None = None,
    data: str | None = None,
    backbone: str | None = None,
    level: str = POOLED,
    size: int | None = None,
    views: Sequence[str] = ("original",),
    weights: str = "auto",
    dtype: str = "float32",
    batch: int = 64,
    device: str = "auto",
    force: bool = False,
    name: str | None = None,
) -> Result:
    """Run a frozen backbone, or a trained model, over every image of a data set.

    The payload is one ``<view>.npy`` a view: (N, d) for ``pooled``, (N, C, H, W) for a stage; row i is the data set's
    row i. Of a model its own logits are kept too, in ``<view>-logits.npy``.

    Args:
        store: where artifacts are.
        dataset: reference of the data set, the newest where it is None; or of the model whose features are taken.
        data: reference of the data set where ``dataset`` names a model; None: the one that it was trained on.
        backbone: timm's name of the network; None: :data:`BACKBONE`.
        level: ``pooled``, ``stage1`` to the network's last feature level, a block of a ConvNeXt (``stage3.block23``),
            or ``auto``, where Conv-cut cuts it.
        size: side in pixels that images are resized to; the network's own where it is None.
        views: of ``original`` and ``flip`` (mirrored left to right).
        weights: ``auto``, ``none``, a file, or the reference of a model.
        dtype: ``float32`` or ``float16``, of the stored features; the network computes in float32.
        batch: images a forward pass.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        force: extract again even when it is up to date.
        name: of what is made; from its inputs and settings where it is None.

    Raises:
        FerError: a name, the weights or the machine is at fault.
        PreemptedError: a stop signal came; what was finished is kept, and the same call resumes.
    """
    views = _check_options(views, dtype, batch, size)
    machine.tune_allocator()
    ranks = distributed.ranks()
    found, model = _sources(store, dataset, data)
    source = open_dataset(found)
    if model is not None:
        if backbone is not None or weights != "auto":
            option = "--backbone" if backbone is not None else "--weights"
            raise UsageError(f"{option} is not for the features of a model, {model.reference}", hint="leave it out")
        weights_file: WeightsFile | None = weights_of(model)
    else:
        backbone = backbone or BACKBONE
        check_name(backbone)
        weights_file = find_starting_weights(store, backbone, weights)
        model = None if weights_file is None else weights_file.model
    if model is None:
        network = open_level(str(backbone), level=level, size=size, weights=weights_file)
    else:
        network = open_model_level(model, level=level, size=size)
    classes = () if model is None else ModelConfig.of(model).classes
    target = machine.device_name(device)
    machine.share_cores(target)
    network.network.to(target)
    if network.whole is not None:
        network.whole.to(target)
    shape = feature_shape(network, target)
    plan = _plan(source.artifact, network, weights_file, views, dtype)
    plan = replace(plan, name=name or _name(plan, network, weights, model))

    def produce(work: Work) -> None:
        rate = extract_features(
            work.directory,
            network,
            source.images,
            views=views,
            shape=shape,
            dtype=dtype,
            batch=batch,
            device=target,
            ranks=ranks,
            run=plan.version,
            title=f"extract {plan.name}",
            classes=len(classes),
        )
        if ranks.rank:
            return
        work.commit(
            summary=FeaturesSummary(
                images=len(source.images),
                views=tuple(views),
                shape=tuple(shape),
                dtype=dtype,
                weights=None if weights_file is None else weights_file.record(),
                classes=classes or None,
                tensors_loaded=network.tensors_loaded,
                **cost(network),
            ),
            protocol=TrainingProtocol(
                data=DatasetProtocol.of(source.artifact),
                pretraining=pretraining_of(weights_file),
                start=None if model is None else starting_weights(store, model, source),
                numerics=Numerics(processes=ranks.world, **machine.numerics(target)),
            ),
            measured=Measured(
                images_per_second=rate,
                batch=batch,
                processes=ranks.world,
                **machine.usage(target),
            ),
            warnings=source.artifact.manifest.warnings,
            files=[f"{name}.npy" for view in views for name in (view, *([logits_of(view)] if classes else []))],
        )

    return run(store, plan, produce, ranks=ranks, force=force)


def _sources(store: Store, reference: str | None, data: str | None) -> tuple[Artifact, Artifact | None]:
    """Return the data set, and the model where the reference names one."""
    try:
        dataset = store.find(reference, ["dataset"])
    except FerError:
        if reference is None:
            raise
        try:
            store.find(reference, SINGLE)
        except FerError:
            dataset = store.find(reference, ["dataset"])  # nothing of this name: the error lists data sets
        else:
            model = find_network(store, reference)
            if data is not None:
                return store.find(data, ["dataset"]), model
            return open_parent(store, model, "dataset"), model
    if data is not None:
        raise UsageError(
            "--data is for the features of a model", hint=f"leave it out, or name a model, not {reference}"
        )
    return dataset, None


def _check_options(views: Sequence[str], dtype: str, batch: int, size: int | None) -> list[str]:
    if unknown := [view for view in views if view not in VIEWS]:
        raise UsageError(f"--views {unknown[0]!r} is not a view", hint=f"take {','.join(VIEWS)}")
    if not views:
        raise UsageError("--views is empty", hint=f"take {','.join(VIEWS)}")
    if dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype!r} is not a type", hint=f"take {' or '.join(DTYPES)}")
    if batch < 1:
        raise UsageError(f"--batch {batch} is not a number of images", hint="take 1 or more")
    if size is not None and not 16 <= size <= 2048:
        raise UsageError(f"--size {size} is out of range", hint="take 16 to 2048 px")
    return [view for view in VIEWS if view in views]


def _plan(dataset: Artifact, network: Backbone, weights: WeightsFile | None, views: Sequence[str], dtype: str) -> Plan:
    return Plan(
        kind="features",
        name=dataset.name,
        stage="extract",
        revision=REVISION,
        config=FeaturesConfig(
            backbone=network.name,
            level=network.level,
            # Equal bytes are equal weights, wherever they came from: the rest is in the summary.
            weights="none: random, seed 0" if weights is None else weights.identity,
            preprocessing=network.preprocessing.record(),
            views=tuple(views),
            dtype=dtype,
        ).record(),
        inputs={
            "dataset": dataset.as_input(),
            **({} if weights is None or weights.model is None else {"model": weights.model.as_input()}),
        },
        seeds=[] if weights is not None else [0],
    )


def _name(plan: Plan, network: Backbone, weights: str, model: Artifact | None) -> str:
    """Return data set and network or model, and what is other than usual."""
    preprocessing, views = network.preprocessing, plan.config["views"]
    words = [
        *([str(preprocessing.size)] if preprocessing.size != network.own_size else []),
        *([network.level] if network.level != POOLED else []),
        *(["random"] if plan.seeds else [] if weights == "auto" or model is not None else [Path(weights).stem]),
        *(["flip-only" if len(views) == 1 else "flip"] if "flip" in views else []),
        *([plan.config["dtype"]] if plan.config["dtype"] != "float32" else []),
    ]
    stem = slug(network.name) if model is None else f"of-{model.name}"
    return composed_name(f"{plan.name}-{stem}", words, longest=LONGEST_FEATURES)
