"""A recipe on a rewritten tower: which functions each kind of recipe runs, before the conversion and after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ...quant.recipes.coreml import CoreMLKind
from .options import PackageOptions
from .precision import selector
from .quietly import check, checked_once, quiet
from .storage import store_linear, store_palettes, store_with_activations
from .weights import Compressing, palettize_layers, round_to_blocks
from .write import MergingPackage, save


@dataclass(frozen=True)
class Method:
    """How a kind of recipe makes a package smaller; both functions return what they decided, for the manifest.

    Attributes:
        change: changes the tower's weights in place, in torch.
        store: changes how the converted model stores them.
    """

    change: Callable[[Compressing], dict[str, Any]] = lambda _: {}
    store: Callable[[Any, Compressing], tuple[Any, dict[str, Any]]] = lambda model, _: (model, {})


METHODS: dict[CoreMLKind, Method] = {
    "half": Method(),
    "linear": Method(store=store_linear),
    "blocks": Method(change=round_to_blocks, store=store_linear),
    "palette": Method(change=palettize_layers, store=store_palettes),
    "linear8_activations8": Method(store=store_with_activations),
}


# A tower, its options, its block and what is computed in fp16, to an unsaved CoreML model.
Convert = Callable[[nn.Module, PackageOptions, int, Any], Any]


def make_package(
    work: Compressing, kept: Mapping[str, str], metadata: Mapping[str, str], convert: Convert
) -> dict[str, Any]:
    """Apply a recipe to a rewritten tower (its weights change) and save the package.

    Args:
        work: the tower and its recipe.
        kept: operations that fp16 can't hold, `precision.fp32_operations`.
        metadata: what the package says of itself.
        convert: converts the tower.

    Returns:
        what was decided, for the manifest.
    """
    options, method = work.options, METHODS[work.recipe.kind]
    decisions: dict[str, Any] = {
        "kept_in_fp32": dict(kept), "ios": options.ios, "image_input": options.image_input, "batches": list(options.batches),
    }  # fmt: skip
    if isinstance(work.module, MergingPackage):
        decisions |= work.module.tower.encoder.facts()
    decisions |= method.change(work)
    model = half_precision(work, kept, convert)
    with quiet(), checked_once():
        model, stored = method.store(model, work)
    save(check(model), work.path, metadata)
    return decisions | stored


def half_precision(work: Compressing, kept: Mapping[str, str], convert: Convert) -> Any:
    """The tower with the weights that it has now, converted to fp16 but for what is kept; as an unsaved CoreML model."""
    return convert(work.module, work.options, work.recipe.block or 1, selector(kept))
