"""What each operation of an ML program computes, in torch: one function an operation, found by its name in `OPS`.

Semantics from coremltools' operation reference (`coremltools.converters.mil.mil.ops.defs`). Values are torch tensors; fp16
ones are held in float32 and rounded to fp16 by the evaluator after each operation, so that sums run in float32 as they do
on the GPU and in CPU kernels. How wide the Neural Engine's sums are is not published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ....runtime.errors import BundleError

Arguments = Mapping[str, Any]  # torch tensors, python scalars and texts, lists of tensors
OPS: dict[str, Callable[[Arguments], Any]] = {}


def operation(*names: str) -> Callable[[Callable[[Arguments], Any]], Callable[[Arguments], Any]]:
    """Register a function under the operation's name."""

    def register(function: Callable[[Arguments], Any]) -> Callable[[Arguments], Any]:
        OPS.update(dict.fromkeys(names, function))
        return function

    return register


def apply(kind: str, arguments: Arguments) -> list[Any]:
    """An operation's results; most have one."""
    result = OPS[kind](arguments)
    return list(result) if isinstance(result, (tuple, list)) else [result]


def refuse(what: str) -> BundleError:
    """A form of a known operation that no package of ours has, and that nothing here was held against."""
    return BundleError(f"the package uses {what}, which medge does not compute: was it made by another tool?")


def ints(value: Any) -> list[int]:
    """A tensor of integers, or one integer, as a list."""
    return [int(item) for item in np.atleast_1d(np.asarray(value))]


# Arithmetic


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Arguments], Any]:
    return lambda a: function(torch.as_tensor(a["x"]), torch.as_tensor(a["y"]))


OPS |= {"add": _binary(torch.add), "sub": _binary(torch.sub), "mul": _binary(torch.mul), "real_div": _binary(torch.div),
        "greater_equal": _binary(torch.ge), "equal": _binary(torch.eq), "maximum": _binary(torch.maximum)}  # fmt: skip


@operation("log")
def _log(a: Arguments) -> Any:
    return torch.log(a["x"] + float(a.get("epsilon", 1e-45)))


def _axes(a: Arguments) -> list[int]:
    return ints(a["axes"]) if "axes" in a else list(range(a["x"].ndim))


def _l2_norm(x: torch.Tensor, axes: list[int], *, keepdim: bool) -> torch.Tensor:
    return x.square().sum(axes, keepdim=keepdim).sqrt()


def _reduce(function: Callable[..., Any]) -> Callable[[Arguments], Any]:
    return lambda a: function(a["x"], _axes(a), keepdim=bool(a.get("keep_dims", False)))


OPS |= {"reduce_mean": _reduce(torch.mean), "reduce_max": _reduce(torch.amax),
        "reduce_l2_norm": _reduce(_l2_norm)}  # fmt: skip


@operation("reduce_argmax")
def _reduce_argmax(a: Arguments) -> Any:
    return a["x"].argmax(int(a.get("axis", -1)), keepdim=bool(a.get("keep_dims", False))).to(torch.int32)


@operation("identity")
def _identity(a: Arguments) -> Any:
    return a["x"]


@operation("cast")
def _cast(a: Arguments) -> Any:
    wanted = {"fp16": torch.float32, "fp32": torch.float32, "int32": torch.int32, "int16": torch.int16,
              "uint16": torch.int32, "int8": torch.int8, "uint8": torch.uint8, "bool": torch.bool}  # fmt: skip
    return a["x"].to(wanted[a["dtype"]])


@operation("select")
def _select(a: Arguments) -> Any:
    return torch.where(a["cond"], torch.as_tensor(a["a"]), torch.as_tensor(a["b"]))


@operation("gelu")
def _gelu(a: Arguments) -> Any:
    mode = a.get("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return a["x"] * torch.sigmoid(1.702 * a["x"])
    return functional.gelu(a["x"], approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


@operation("softmax")
def _softmax(a: Arguments) -> Any:
    return torch.softmax(a["x"], int(a.get("axis", -1)))


# Sums over a dimension


@operation("linear")
def _linear(a: Arguments) -> Any:
    return functional.linear(a["x"], a["weight"], a.get("bias"))


@operation("matmul")
def _matmul(a: Arguments) -> Any:
    x, y = a["x"], a["y"]
    x = x.transpose(-1, -2) if a.get("transpose_x", False) else x
    y = y.transpose(-1, -2) if a.get("transpose_y", False) else y
    return x @ y


@operation("einsum")
def _einsum(a: Arguments) -> Any:
    return torch.einsum(a["equation"], *a["values"])


@operation("conv")
def _conv(a: Arguments) -> Any:
    x, weight, bias = a["x"], a["weight"], a.get("bias")
    if x.ndim == 4 and weight.shape[2:] == (1, 1) and x.shape[2] == 1 and int(a.get("groups", 1)) == 1:
        # A 1x1 convolution of (B, C, 1, S) is a product of matrices; torch is several times faster at that.
        product = weight.flatten(1) @ x.flatten(2)
        return (product if bias is None else product + bias[:, None]).unsqueeze(2)
    kinds = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}
    padding = a.get("pad_type", "valid")
    if padding == "custom":
        pad = ints(a["pad"])
        x = functional.pad(x, pad[::-1] if x.ndim == 3 else [*pad[2:], *pad[:2]])
        padding = "valid"
    strides = ints(a["strides"]) if "strides" in a else 1
    dilations = ints(a["dilations"]) if "dilations" in a else 1
    return kinds[x.ndim](x, weight, bias, strides, padding, dilations, int(a.get("groups", 1)))


@operation("layer_norm")
def _layer_norm(a: Arguments) -> Any:
    x = a["x"]
    axes = ints(a["axes"]) if "axes" in a else list(range(x.ndim))
    mean = x.mean(axes, keepdim=True)
    spread = ((x - mean) ** 2).mean(axes, keepdim=True)
    out = (x - mean) * torch.rsqrt(spread + float(a.get("epsilon", 1e-5)))
    shape = [x.shape[axis] if axis in [i % x.ndim for i in axes] else 1 for axis in range(x.ndim)]
    if a.get("gamma") is not None:
        out = out * a["gamma"].reshape(shape)
    if a.get("beta") is not None:
        out = out + a["beta"].reshape(shape)
    return out


# Shapes


@operation("reshape")
def _reshape(a: Arguments) -> Any:
    shape = ints(a["shape"])
    return a["x"].reshape([a["x"].shape[axis] if size == 0 else size for axis, size in enumerate(shape)])


@operation("transpose")
def _transpose(a: Arguments) -> Any:
    return a["x"].permute(ints(a["perm"]))


@operation("expand_dims")
def _expand_dims(a: Arguments) -> Any:
    x, axes = a["x"], ints(a["axes"])
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operation("squeeze")
def _squeeze(a: Arguments) -> Any:
    x = a["x"]
    axes = [axis % x.ndim for axis in ints(a["axes"])] if "axes" in a else range(x.ndim)
    return x.reshape([size for axis, size in enumerate(x.shape) if not (axis in axes and size == 1)])


@operation("split")
def _split(a: Arguments) -> Any:
    sizes: Any = ints(a["split_sizes"]) if "split_sizes" in a else None
    axis = int(a["axis"])
    if sizes is None:
        sizes = a["x"].shape[axis] // int(a["num_splits"])
    return a["x"].split(sizes, axis)


@operation("concat")
def _concat(a: Arguments) -> Any:
    if a.get("interleave", False):
        raise refuse("interleaved concat")
    return torch.cat([torch.as_tensor(value) for value in a["values"]], int(a["axis"]))


@operation("gather")
def _gather(a: Arguments) -> Any:
    if int(a.get("batch_dims", 0)):
        raise refuse("gather with batch_dims")
    x, indices, axis = a["x"], a["indices"].long(), int(a.get("axis", 0))
    axis %= x.ndim
    found = torch.index_select(x, axis, indices.reshape(-1) % x.shape[axis])
    return found.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


@operation("gather_along_axis")
def _gather_along_axis(a: Arguments) -> Any:
    axis = int(a.get("axis", 0)) % a["x"].ndim
    return torch.gather(a["x"], axis, a["indices"].long() % a["x"].shape[axis])


@operation("topk")
def _topk(a: Arguments) -> Any:
    if bool(a.get("ascending", False)) or not bool(a.get("sort", True)):
        raise refuse("topk that is ascending or unsorted")
    values, indices = torch.topk(a["x"], int(a["k"]), int(a.get("axis", -1)))
    return [values, indices.to(torch.int32)]


@operation("tile")
def _tile(a: Arguments) -> Any:
    return a["x"].repeat(ints(a["reps"]))


@operation("fill_like")
def _fill_like(a: Arguments) -> Any:
    return torch.full_like(a["ref_tensor"], float(a["value"]))


@operation("slice_by_index")
def _slice_by_index(a: Arguments) -> Any:
    x = a["x"]
    begin, end = ints(a["begin"]), ints(a["end"])
    stride = ints(a["stride"]) if "stride" in a else [1] * x.ndim
    masks = {key: [bool(v) for v in np.atleast_1d(np.asarray(a[key]))] if key in a else [False] * x.ndim
             for key in ("begin_mask", "end_mask", "squeeze_mask")}  # fmt: skip
    for axis in reversed(range(x.ndim)):
        size = x.shape[axis]
        if masks["squeeze_mask"][axis]:
            x = x.select(axis, begin[axis])
            continue
        piece = slice(
            None if masks["begin_mask"][axis] else begin[axis],
            None if masks["end_mask"][axis] else end[axis],
            stride[axis],
        )
        x = x.index_select(axis, torch.tensor(range(size)[piece], dtype=torch.long))
    return x


# Compressed constants and quantized activations


def _repeat(value: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Spread one value per block over the block: each dimension of `shape` is a multiple of `value`'s."""
    for axis, size in enumerate(shape):
        if value.shape[axis] != size:
            value = np.repeat(value, size // value.shape[axis], axis)
    return value


@operation("constexpr_blockwise_shift_scale")
def _blockwise_shift_scale(a: Arguments) -> Any:
    data, scale = np.asarray(a["data"]), np.asarray(a["scale"])
    values = data.astype(np.float32)
    if a.get("offset") is not None:
        values = values - _repeat(np.asarray(a["offset"]).astype(np.float32), data.shape)
    return torch.from_numpy(values * _repeat(scale.astype(np.float32), data.shape))


@operation("constexpr_affine_dequantize")
def _affine_dequantize(a: Arguments) -> Any:
    data, axis = np.asarray(a["quantized_data"]), int(a["axis"])

    def along(value: Any) -> NDArray[np.float32]:
        array = np.asarray(value).astype(np.float32)
        return array.reshape([-1 if index == axis else 1 for index in range(data.ndim)]) if array.ndim else array

    return torch.from_numpy((data.astype(np.float32) - along(a["zero_point"])) * along(a["scale"]))


@operation("constexpr_lut_to_dense")
def _lut_to_dense(a: Arguments) -> Any:
    if "shape" in a:
        raise refuse("look-up tables in the form of iOS 16")
    return torch.from_numpy(_look_up(np.asarray(a["indices"]), np.asarray(a["lut"])))


def _look_up(indices: NDArray[Any], lut: NDArray[Any]) -> NDArray[np.float32]:
    """One table for each block of `indices`; `lut` is (*blocks, entries, 1)."""
    if lut.shape[-1] != 1:
        raise refuse("look-up tables of vectors")
    blocks, entries = lut.shape[:-2], lut.shape[-2]
    numbers = _repeat(np.arange(int(np.prod(blocks))).reshape(blocks), indices.shape)
    return lut.astype(np.float32).reshape(-1)[numbers * entries + indices]


@operation("quantize")
def _quantize(a: Arguments) -> Any:
    scale, zero = _per_axis(a)
    low, high = (0, 255) if a["output_dtype"] == "uint8" else (-128, 127)
    return torch.clamp(torch.round(a["input"] / scale) + zero, low, high)


@operation("dequantize")
def _dequantize(a: Arguments) -> Any:
    scale, zero = _per_axis(a)
    return (a["input"].float() - zero) * scale


def _per_axis(a: Arguments) -> tuple[torch.Tensor, torch.Tensor]:
    scale = torch.as_tensor(np.asarray(a["scale"]).astype(np.float32))
    zero = torch.as_tensor(np.asarray(a.get("zero_point", 0)).astype(np.float32))
    if scale.ndim:
        shape = [-1 if axis == int(a["axis"]) % a["input"].ndim else 1 for axis in range(a["input"].ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape) if zero.ndim else zero
    return scale, zero
