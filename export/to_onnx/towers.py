"""Towers to ONNX, one file each, through `torch.onnx` (the `torch.export` path).

Why not optimum here: optimum-onnx 0.1.0 knows SigLIP only as one graph with both towers, traced with TorchScript at an
opset in which LayerNormalization and Gelu fall apart into a dozen nodes. transformers.js, and a device that needs one
tower, want two files; the quantizers want whole operators. See docs/decisions/0002-exporter.md, and
benchmarks/full_size.py for what optimum's export costs beside this one.

After the export the graph is put into one normal form that everything downstream relies on:
- nodes stand in the order in which the outputs need them;
- every node and tensor is named after the module that made it (`encoder.layers.3.mlp.fc1/MatMul`);
- `stage/...` names mark what parity compares: the patch embedding and each block's output;
- a linear layer is always MatMul (weight (K, N)) followed by Add;
- stack traces and paths of the exporting machine are gone.
"""

from __future__ import annotations

import collections
import contextlib
import io
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from ...quant.onnx_graph.graph import Graph
from ...quant.recipes.onnx import OnnxRecipe
from ...runtime.bundles.bundle import BundleWriter
from ...runtime.bundles.facts import MERGED, GoldenBound, TowerFacts
from ..families.encoder import PATCH, Signature, block_name
from ..families.pooling import pooling_attention

OPSET = 20  # the first with Gelu as an operator; ONNX Runtime since 1.17, onnxruntime-web since 1.18
STAGE = "stage/"


class _Tower(nn.Module):
    """A tower with its outputs in a fixed order."""

    def __init__(self, tower: nn.Module, keyword: str, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.tower, self.keyword, self.outputs = tower, keyword, outputs

    def forward(self, inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        out = self.tower(**{self.keyword: inputs})
        return out if isinstance(out, torch.Tensor) else tuple(getattr(out, name) for name in self.outputs)


def export_tower(tower: Any, signature: Signature) -> Graph:
    """Export a tower with a dynamic batch.

    Args:
        tower: a family's tower, one that merges, or an `ImageTokens`.
        signature: how it is called; its one input is "pixel_values" or "input_ids".
    """
    (keyword,), outputs = signature.inputs, signature.outputs
    if keyword == "pixel_values":
        side = tower.config.image_size
        example = torch.zeros(2, 3, side, side)
    else:
        example = torch.ones(2, tower.config.max_position_embeddings, dtype=torch.int64)
    with pooling_attention(tower):
        return export_module(_Tower(tower, keyword, outputs), {keyword: example}, outputs)


def export_module(module: nn.Module, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str]) -> Graph:
    """Export any module with a dynamic batch.

    Args:
        module: in evaluation mode.
        inputs: {name: example}, in the order of its arguments; the first dimension is the batch.
        outputs: names, in order.
    """
    batch = torch.export.Dim("batch")
    with _quiet():
        program = torch.onnx.export(
            module, tuple(inputs.values()), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=list(inputs), output_names=list(outputs), dynamic_shapes=tuple({0: batch} for _ in inputs),
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    to_normal_form(model)
    graph = Graph(model)
    onnx.checker.check_model(graph.without_weights())
    return graph


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its progress on stdout and warns of optional packages; neither is for our users."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def to_normal_form(model: onnx.ModelProto) -> None:
    """Put an exported tower into the normal form that the module's docstring describes, in place."""
    _gemm_to_matmul(model.graph)
    _sort_by_use(model.graph)
    _name_everything(model.graph)
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    del model.graph.value_info[:]  # shapes of the old names; whoever needs shapes infers them
    del model.metadata_props[:]
    for item in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        item.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    model.graph.name = "tower"
    model.producer_name, model.producer_version, model.doc_string = "medge", "", ""


def _gemm_to_matmul(graph: onnx.GraphProto) -> None:
    """Gemm(a, b transposed, c) on two-dimensional inputs is MatMul(a, b.T) + c."""
    weights = {item.name: item for item in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "Gemm":
            nodes.append(node)
            continue
        given = {item.name: item for item in node.attribute}
        assert all(given[name].f == 1 for name in ("alpha", "beta") if name in given)
        assert "transA" not in given or not given["transA"].i
        weight = weights[node.input[1]]
        if "transB" in given and given["transB"].i:
            name = f"{node.input[1]}.transposed"
            array = np.ascontiguousarray(numpy_helper.to_array(weight).T)
            graph.initializer.append(numpy_helper.from_array(array, name))
            node.input[1] = name
        if len(node.input) == 2:  # a projection without a bias
            pair = [onnx.helper.make_node("MatMul", node.input, list(node.output), node.name)]
        else:
            product = f"{node.output[0]}.product"
            pair = [
                onnx.helper.make_node("MatMul", node.input[:2], [product], node.name),
                onnx.helper.make_node("Add", [product, node.input[2]], list(node.output), f"{node.name}.bias"),
            ]
        for part in pair:
            part.metadata_props.extend(node.metadata_props)
        nodes += pair
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [item for item in graph.initializer if item.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _sort_by_use(graph: onnx.GraphProto) -> None:
    """Put each node after what it reads, input by input: the order does not tell how the model's code is written."""
    makers = {name: node for node in graph.node for name in node.output}
    ordered: list[onnx.NodeProto] = []
    seen: set[str] = set()
    for output in graph.output:
        waiting = [(output.name, False)]
        while waiting:
            name, ready = waiting.pop()
            if name not in makers or (not ready and name in seen):
                continue
            node = makers[name]
            if ready:
                ordered.append(node)
                continue
            seen.update(node.output)
            waiting.append((name, True))
            waiting += [(read, False) for read in reversed(node.input)]
    del graph.node[:]
    graph.node.extend(ordered)


def _scope(node: onnx.NodeProto) -> str:
    """The module that made a node ("encoder.layers.0.mlp.fc1"), from the exporter's metadata."""
    for prop in node.metadata_props:
        if prop.key == "pkg.torch.onnx.name_scopes":
            scopes = [name for name in json.loads(prop.value.replace("'", '"'))[:-1] if name]
            return scopes[-1].removeprefix("tower").removeprefix(".") if scopes else ""
    return ""


def _name_everything(graph: onnx.GraphProto) -> None:
    fixed = {item.name for item in [*graph.input, *graph.output]}
    renamed: dict[str, str] = {}
    counts: collections.Counter[str] = collections.Counter()
    last_add: dict[str, str] = {}
    weights = {item.name for item in graph.initializer}
    taken: set[str] = set()
    scope = "embeddings"
    for node in graph.node:
        scope = _scope(node) or scope  # nodes that an optimisation made have no scope: they belong to their neighbours
        base = f"{scope}/{node.op_type}"
        node.name = f"{base}_{counts[base]}" if counts[base] else base
        counts[base] += 1
        for position, output in enumerate(node.output):
            if output and output not in fixed:
                renamed[output] = node.name + (f":{position}" if position else "")
        if node.op_type == "Add":
            last_add[scope] = node.output[0]
        for position, name in enumerate(node.input):
            if name in weights and name not in renamed:
                label = "weight" if node.op_type == "MatMul" else f"{node.op_type.lower()}.{position}"
                wanted = name.removeprefix("tower.") if name.startswith("tower.") else f"{scope}.{label}"
                while wanted in taken:
                    wanted += "_"
                taken.add(wanted)
                renamed[name] = wanted
    for scope, output in last_add.items():
        if scope == "embeddings":
            renamed[output] = STAGE + PATCH
        elif match := re.fullmatch(r"encoder\.layers\.(\d+)", scope):
            renamed[output] = STAGE + block_name(int(match[1]))
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for name in fixed & set(renamed):  # a stage that the graph gives as it is: the output keeps its name, too
        graph.node.append(onnx.helper.make_node("Identity", [renamed[name]], [name], f"{name}/Identity"))
    for item in graph.initializer:
        item.name = renamed.get(item.name, item.name)


def stage_names(graph: Graph) -> list[str]:
    """The tensors that parity compares, in the order they are computed."""
    return [name for node in graph.nodes for name in node.output if name.startswith(STAGE)]


def describe_graph(graph: Graph) -> str:
    """The graph as text without weights' values: what the golden files of tests/golden hold."""
    lines = [f"opset {item.domain or 'ai.onnx'} {item.version}" for item in graph.model.opset_import]
    for item in [*graph.model.graph.input, *graph.model.graph.output]:
        shape = [dim.dim_param or dim.dim_value for dim in item.type.tensor_type.shape.dim]
        lines.append(f"{item.name} {shape} {onnx.TensorProto.DataType.Name(item.type.tensor_type.elem_type)}")
    for node in graph.nodes:
        attributes = sorted(
            f"{a.name}={onnx.helper.get_attribute_value(a)}" for a in node.attribute if a.type != a.TENSOR
        )
        inputs = [f"{n}{list(graph.weights[n].dims)}" if n in graph.weights else n for n in node.input]
        lines.append(f"{node.op_type}({', '.join(inputs)}) -> {', '.join(node.output)} {' '.join(attributes)}".rstrip())
    return "\n".join(lines) + "\n"


def write_tower(
    writer: BundleWriter, role: str, stem: str, recipe: OnnxRecipe, graph: Graph, decisions: dict[str, Any],
    signature: Signature, golden: GoldenBound,
) -> TowerFacts:  # fmt: skip
    """Put a tower into a bundle as `onnx/<stem><suffix>.onnx`, its weights beside it where they exceed 2 GB.

    With patches merged, a rounding can send one elsewhere: no batch is quite what single images give.
    """
    path = f"onnx/{stem}{recipe.suffix}.onnx"
    for extra in graph.save(writer.add(path, role))[1:]:
        writer.add(f"onnx/{extra.name}", f"{role}.data")
    return TowerFacts(
        recipe.name, path, "onnx", golden, inputs=signature.inputs, output=signature.outputs[-1], opset=graph.opset,
        batch_invariant=recipe.batch_invariant and MERGED not in decisions, decisions=decisions,
    )  # fmt: skip
