"""Towers to LiteRT through litert-torch (the `torch.export` path), in full precision; recipes are applied to what comes out.

A tower is converted once, with what enters each block among its outputs: parity compares them, and the file of a bundle has the
same tensors by the same names and gives its embedding only. The input is one image or one text: LiteRT's kernels are planned for
shapes that don't change, and token ids have 32 bits there.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ...quant.litert_graph.graph import Graph
from ...runtime.device.litert.session import silenced
from ...runtime.errors import naming_extra
from ..families.encoder import PATCH, EncoderReference, Signature, block_name
from ..families.full_precision import FullPrecision
from ..families.pooling import pooling_attention

STAGE = "stage/"  # what the names of the tensors that parity compares begin with


class _Tower(nn.Module):
    """A tower that gives its embedding, and what its blocks read and write on the way."""

    def __init__(self, tower: Any, output: str) -> None:
        super().__init__()
        self.tower, self.output = tower, output

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        stages: list[torch.Tensor] = []

        def keep(_module: object, _inputs: object, out: torch.Tensor | tuple[torch.Tensor]) -> None:
            stages.append(out[0] if isinstance(out, tuple) else out)

        hooks = [part.register_forward_hook(keep) for part in (self.tower.embeddings, *self.tower.encoder.layers)]
        try:
            given = getattr(self.tower(**inputs), self.output)
        finally:
            for hook in hooks:
                hook.remove()
        return {**{_stage(number): value for number, value in enumerate(stages)}, self.output: given}


def full_graph(full: FullPrecision, tower: str) -> Graph:
    """A tower in full precision, converted once, with its stages among the outputs; whoever changes it takes a copy."""
    return full.kept(("litert", tower), lambda: convert_tower(full.reference, tower))


def convert_tower(reference: EncoderReference, tower: str) -> Graph:
    """Convert a tower.

    Raises:
        MissingExtraError: litert-torch is not installed.
    """
    module, signature = reference.tower(tower), reference.signatures[tower]
    with pooling_attention(module):
        graph = Graph.read(_convert(_Tower(module, signature.outputs[-1]).eval(), _example(module, signature)))
    for number, name in enumerate((PATCH, *map(block_name, range(len(module.encoder.layers))))):
        graph.tensors[graph.outputs[_stage(number)]].name = f"{STAGE}{name}".encode()
    for tensor in graph.tensors:
        tensor.name = short_name(tensor.name.decode()).encode()
    return graph


def stage_tensors(graph: Graph) -> dict[str, int]:
    """{stage: tensor} of a converted tower, whatever was made of its weights since, in the order they are computed."""
    named = {tensor.name.decode(): index for index, tensor in enumerate(graph.tensors)}
    stages = {name.removeprefix(STAGE): index for name, index in named.items() if name.startswith(STAGE)}
    return dict(sorted(stages.items(), key=lambda item: item[1]))


def short_name(name: str) -> str:
    """A tensor's name without Python's modules and classes: "encoder/0/mlp" for "...SiglipEncoder_encoder/...Layer_0/..._mlp"."""
    whole = re.sub(rf"[\w.]*\.{_Tower.__name__}/([\w.]*_tower/)?", "", name)
    return re.sub(r"[\w.]*\.[A-Za-z0-9]+_(?=\w)", "", whole)


def _stage(number: int) -> str:
    return f"stage_{number}"


def _example(tower: Any, signature: Signature) -> dict[str, torch.Tensor]:
    (name,) = signature.inputs
    if name == "pixel_values":
        side = tower.config.image_size
        return {name: torch.zeros(1, 3, side, side)}
    return {name: torch.ones(1, tower.config.max_position_embeddings, dtype=torch.int32)}


def _convert(module: nn.Module, example: dict[str, torch.Tensor]) -> bytes:
    """The bytes of the .tflite file; litert-torch writes what it does to every stream there is."""
    with _quiet():
        with naming_extra("litert-export"):
            import litert_torch
        content: bytes = litert_torch.convert(module, sample_kwargs=example).model_content()
    return content


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on the standard streams, Python's or a library's, and no warnings, of which there are dozens."""
    level = logging.root.manager.disable
    with (
        silenced(1, 2), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):  # fmt: skip
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(level)
