"""Conv-cut: the head is trained, on feature maps that are cached or computed in every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fer_cli.core import assets
from fer_cli.core.citations import Citation
from fer_cli.core.progress import note
from fer_cli.systems.base import BuildInputs, FeatureCache, Needs, System, Trainable
from fer_cli.systems.conv_cut.recipe import ConvCutRecipe
from fer_cli.systems.conv_cut.summary import ConvCutSummary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from fer_cli.models.backbones import Preprocessing
    from fer_cli.models.truncation import Truncated
    from fer_cli.systems.conv_cut.network import ConvCutHead


MEASURED: Final = 1000
"""Validation images that the attention is measured on, at most."""
BATCH: Final = 32
"""Images of a batch there, as in ``fer eval --batching shuffled``."""


class ConvCutSystem(System[ConvCutRecipe]):
    """A truncated frozen backbone and a small head."""

    name = "conv-cut"
    help = "Conv-cut (Nan et al.): a truncated frozen backbone, a detail block, self-attention."
    paper = "Nan, Liu, Qian, Song: A visual self-attention mechanism FER network beyond ConvNeXt"
    citations = (
        Citation(
            "nan-conv-cut",
            "misc",
            "A Visual Self-attention Mechanism Facial Expression Recognition Network beyond ConvNeXt",
            ("Nan, Bingyu", "Liu, Feng", "Qian, Xuezhong", "Song, Wei"),
        ),
    )
    recipe_type = ConvCutRecipe
    ready_recipe = "conv-cut/laptop"

    @property
    def default_recipe(self) -> Path:
        """That of ConvNeXt-Base with feature maps that are computed once."""
        return assets.recipe("conv-cut/convnext.toml")

    def needs(self, recipe: ConvCutRecipe) -> Needs:
        """Return that it takes cached feature maps, unless they are computed in every step."""
        model = recipe.model
        if model.feature_cache == "none":
            return Needs()
        return Needs(feature_cache=FeatureCache(level=model.cut, dtype=model.feature_cache))

    def mixes_batch(self, recipe: ConvCutRecipe) -> bool:
        """Tell whether attention is over the batch, as published."""
        return recipe.model.attention == "batch"

    def build(self, recipe: ConvCutRecipe, inputs: BuildInputs) -> Trainable:
        """Build what a recipe names: with cached maps the head alone is trained, else it within the whole network.

        Raises:
            FerError: the backbone has no such cut or size, or the map is too small for the head.
        """
        import numpy as np
        import torch

        from fer_cli.models.truncation import truncate
        from fer_cli.systems.conv_cut.attention import measure_attention
        from fer_cli.systems.conv_cut.cached_inputs import CachedInputs
        from fer_cli.systems.conv_cut.network import ConvCut
        from fer_cli.training.inputs import ClassTargets, ImageInputs

        dataset, seed, device = inputs.dataset, inputs.seed, inputs.device
        cut = truncate(recipe.model.backbone, cut=recipe.model.cut, size=recipe.data.size, weights=inputs.weights)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = self._head(cut, len(dataset.classes), recipe)
        whole = ConvCut(cut.network, head).to(device)
        cache = inputs.feature_cache
        images: ImageInputs | CachedInputs
        if cache is None:
            images = ImageInputs(dataset.images, cut.preprocessing, recipe.augmentation, seed=seed, device=device)
        else:
            images = CachedInputs(cache(), recipe.augmentation.flip, seed=seed, device=device)
        summary = ConvCutSummary(
            cut=cut.cut,
            map=(cut.channels, cut.side, cut.side),
            head_parameters=sum(parameter.numel() for parameter in head.parameters()),
        )

        def summarise(rows: NDArray[np.int64]) -> ConvCutSummary:
            """Measure the attention on some images, in shuffled batches of those that ``eval --batching`` takes."""
            attention = head.attention
            if attention is None:
                return summary
            chosen = np.random.default_rng(0).permutation(rows)[:MEASURED]
            blocks = [chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]
            maps = (
                images(block, None) if cache is not None else whole.backbone(images(block, None)) for block in blocks
            )
            measure = measure_attention(attention, head, maps)
            note(f"attention over {recipe.model.attention}: {measure}")
            return summary.model_copy(update={"attention": measure})

        return Trainable(
            network=whole if cache is None else head,
            groups=[(1.0, list(head.parameters()))],
            inputs=images,
            targets=ClassTargets(dataset.labels, dataset.targets if recipe.loss.soft else None, device),
            loss=recipe.loss.build(dataset.labels[inputs.rows], dataset.classes, head.classifier.in_features).to(
                device
            ),
            inference=whole,
            preprocessing=cut.preprocessing,
            tensors_loaded=cut.tensors_loaded,
            summary=summary,
            summarise=summarise,
        )

    def open(self, recipe: ConvCutRecipe, classes: int) -> tuple[nn.Module, Preprocessing]:
        """Return the inference network of a trained model's recipe, without its weights, and its preprocessing."""
        from fer_cli.models.truncation import truncate
        from fer_cli.systems.conv_cut.network import ConvCut

        cut = truncate(recipe.model.backbone, cut=recipe.model.cut, size=recipe.data.size, weights=None)
        return ConvCut(cut.network, self._head(cut, classes, recipe)), cut.preprocessing

    def facts(self, details: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        """Return what the attention does on the validation images."""
        measure = ConvCutSummary.model_validate(details).attention
        return () if measure is None else (("attention", str(measure)),)

    def map_layer(self, network: nn.Module, size: int) -> nn.Module:  # noqa: ARG002 - the cut is where it is
        """Return the truncated backbone, whose output is the map at the cut."""
        from fer_cli.systems.conv_cut.network import ConvCut

        assert isinstance(network, ConvCut)
        return network.backbone

    def _head(self, cut: Truncated, classes: int, recipe: ConvCutRecipe) -> ConvCutHead:
        from fer_cli.systems.conv_cut.network import ConvCutHead

        model = recipe.model
        return ConvCutHead(
            cut.channels,
            cut.side,
            classes,
            detail=model.detail,
            attention=model.attention,
            form=model.form,
            after=model.attention_after,
            stride=model.detail_stride,
        )
