"""The full-precision PyTorch model that everything is measured against, with its intermediate stages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from transformers import SiglipConfig, SiglipModel

from ...runtime.bundles.manifest import EncoderFacts, Preprocessing, TokenizerFacts
from ...runtime.errors import CheckpointError
from ...runtime.pictures.preprocess import SIGLIP, Pixels, to_8_bit
from ..source.checkpoint import Checkpoint
from .siglip_tokenizer import device_tokenizer
from .transformers_versions import siglip_image_processor

PATCH, POOLED = "patch embedding", "pooled"
END_ID = 1  # </s>, which ends and pads


def block_name(index: int) -> str:
    """The name of the stage after encoder block `index`, from 0."""
    return f"block {index}"


def load_siglip(checkpoint: Checkpoint) -> SiglipModel:
    """The checkpoint as a `SiglipModel` in fp32, evaluation mode, attention written out (exact and exportable).

    Raises:
        CheckpointError: a tensor is missing, unknown or of another shape.
    """
    try:
        config = SiglipConfig(**checkpoint.config)
        config._attn_implementation = "eager"
        with torch.device("meta"):
            model = SiglipModel(config)
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{checkpoint.folder / 'config.json'}: not a SigLIP configuration ({error})") from error
    names = [name for name in checkpoint.in_file_order() if not name.endswith("position_ids")]
    state = {name: checkpoint.tensor(name).float() for name in names}
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if missing := sorted(set(expected) - set(state) - {n for n in expected if n.endswith("position_ids")}):
        raise CheckpointError(f"{checkpoint.folder}: the weights lack {missing[0]!r} and {len(missing) - 1} more")
    if unknown := sorted(set(state) - set(expected)):
        raise CheckpointError(f"{checkpoint.folder}: {unknown[0]!r} belongs to no part of the model")
    for name, tensor in state.items():
        if tensor.shape != expected[name]:
            found, wanted = tuple(tensor.shape), tuple(expected[name])
            raise CheckpointError(f"{checkpoint.folder}: {name!r} has shape {found}, the configuration says {wanted}")
    model.load_state_dict(state, strict=False, assign=True)
    for part in (model.vision_model, model.text_model):  # buffers that no checkpoint stores stay on "meta" otherwise
        embeddings = part.embeddings
        embeddings.register_buffer(
            "position_ids", torch.arange(embeddings.position_embedding.num_embeddings)[None], persistent=False
        )
    return model.eval().requires_grad_(False)


@dataclass(frozen=True)
class Stages:
    """What one tower computes for a batch: {stage: (N, ...) float32} and the unit-length embedding (N, D)."""

    stages: dict[str, NDArray[np.float32]]
    embedding: NDArray[np.float32]


class Reference:
    """Runs the towers of a `SiglipModel` and records the stages that parity compares."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.model = load_siglip(checkpoint)
        self._known: dict[bytes, NDArray[np.float32]] = {}

    def tower(self, name: str) -> Any:
        """The model of the "vision" or the "text" tower."""
        return self.model.vision_model if name == "vision" else self.model.text_model

    def facts(self) -> EncoderFacts:
        """What the manifest says of the model."""
        vision, text = self.model.config.vision_config, self.model.config.text_config
        return EncoderFacts(
            family="siglip", embedding_size=vision.hidden_size, image_size=vision.image_size,
            patch_size=vision.patch_size, vocabulary=text.vocab_size,
            tokenizer=TokenizerFacts(text.max_position_embeddings, END_ID, END_ID),
            logit_scale=float(self.model.logit_scale.exp()), logit_bias=float(self.model.logit_bias),
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
        )  # fmt: skip

    def preprocessing(self, profile: str) -> Preprocessing:
        """What the manifest says of images."""
        return Preprocessing(profile, SIGLIP.mean, SIGLIP.std)

    def processor_config(self, profile: str) -> dict[str, Any]:
        """`preprocessor_config.json` for a profile."""
        return processor_config(self.model.config.vision_config.image_size, profile)

    def image_embeddings(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit-length embeddings, (N, D), of prepared images; each image is computed once in the life of this object."""
        return self._remembered(pixels, self.images)

    def text_embeddings(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Unit-length embeddings, (N, D), of token ids; each text is computed once in the life of this object."""
        return self._remembered(ids, self.texts)

    def _remembered(self, rows: NDArray[Any], run: Callable[[NDArray[Any]], Stages]) -> NDArray[np.float32]:
        keys = [hashlib.sha256(row.tobytes()).digest() for row in rows]
        new = [index for index, key in enumerate(keys) if key not in self._known]
        if new:
            self._known |= zip((keys[index] for index in new), run(rows[new]).embedding, strict=True)
        return np.stack([self._known[key] for key in keys])

    @torch.no_grad()
    def images(self, pixels: NDArray[np.float32]) -> Stages:
        """Inputs of (N, 3, side, side) float32."""
        return self._run(self.model.vision_model, pixel_values=torch.from_numpy(pixels))

    @torch.no_grad()
    def texts(self, ids: NDArray[np.int64]) -> Stages:
        """Token ids of (N, length) int64."""
        return self._run(self.model.text_model, input_ids=torch.from_numpy(ids))

    def _run(self, tower: Any, **inputs: torch.Tensor) -> Stages:
        stages: dict[str, NDArray[np.float32]] = {}
        hooks = [tower.embeddings.register_forward_hook(lambda _m, _i, out: stages.update({PATCH: out.numpy()}))]
        for index, block in enumerate(tower.encoder.layers):

            def keep(
                _m: object, _i: object, out: tuple[torch.Tensor] | torch.Tensor, name: str = block_name(index)
            ) -> None:
                stages[name] = (out[0] if isinstance(out, tuple) else out).numpy()

            hooks.append(block.register_forward_hook(keep))
        try:
            pooled = tower(**inputs).pooler_output
        finally:
            for hook in hooks:
                hook.remove()
        stages[POOLED] = pooled.numpy()
        return Stages(stages, F.normalize(pooled, dim=-1).numpy())


def reference_pixels(image: Pixels, profile: str, side: int) -> NDArray[np.uint8]:
    """The resized image by code that shares nothing with the runtime's: PyTorch for `eval-tf`, else the HF processor.

    Returns (side, side, 3) uint8. `F.interpolate` without antialiasing has the same half-pixel rule as TensorFlow;
    it may differ by one grey level where the exact value lies on an integer.
    """
    kind = siglip_image_processor()

    def processor(array: NDArray[np.uint8], resample: Image.Resampling) -> NDArray[np.uint8]:
        hf = kind(size={"height": side, "width": side}, resample=resample, do_rescale=False)
        return np.asarray(hf(array, do_normalize=False, return_tensors="np", input_data_format="channels_last")
                          .pixel_values[0]).transpose(1, 2, 0).astype(np.uint8)  # fmt: skip

    eight = to_8_bit(image)
    if profile == "eval-tf":
        tensor = torch.from_numpy(eight.astype(np.float64)).permute(2, 0, 1)[None]
        out = F.interpolate(tensor, (side, side), mode="bilinear", align_corners=False, antialias=False)
        return out[0].permute(1, 2, 0).numpy().astype(np.uint8)
    if profile == "serving-pad":
        unit = torch.from_numpy(image.astype(np.float64) / np.iinfo(image.dtype).max)
        height, width = unit.shape[:2]
        gap = abs(height - width)
        before, after = gap // 2, gap - gap // 2
        padding = (0, 0, 0, 0, before, after) if height < width else (0, 0, before, after, 0, 0)
        square = F.pad(unit, padding).numpy() * 255
        whole = np.rint(square) if image.dtype == np.uint8 else np.floor(square)
        return processor(whole.astype(np.uint8), Image.Resampling.BICUBIC)
    resample = {"hf-bicubic": Image.Resampling.BICUBIC, "finetune-pil": Image.Resampling.BILINEAR}[profile]
    return processor(eight, resample)


def text_ids(checkpoint: Checkpoint, texts: Sequence[str]) -> NDArray[np.int64]:
    """Token ids by transformers' own tokenizer classes: (N, length) int64."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(device_tokenizer(checkpoint)),
        eos_token="</s>", pad_token="</s>", unk_token="<unk>",
    )  # fmt: skip
    length = int(checkpoint.config["text_config"].get("max_position_embeddings", 64))
    encoded = tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="np")
    return np.asarray(encoded["input_ids"], np.int64)


BATCH = 16


def embed_reference(reference: Reference, texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit-length text embeddings of the full-precision model, (N, D)."""
    ids = text_ids(reference.checkpoint, texts)
    return np.concatenate([reference.text_embeddings(ids[i : i + BATCH]) for i in range(0, len(ids), BATCH)])


# PIL's numbers of the filters, for readers of preprocessor_config.json that don't know our profiles.
_RESAMPLE = {"eval-tf": 2, "hf-bicubic": 3, "finetune-pil": 2, "serving-pad": 3}


def processor_config(side: int, profile: str = "hf-bicubic") -> dict[str, Any]:
    """`preprocessor_config.json` of a SigLIP checkpoint for images of `side` pixels, as near to a profile as it can say."""
    return {
        "image_processor_type": "SiglipImageProcessor", "processor_class": "SiglipProcessor",
        "do_resize": True, "resample": _RESAMPLE[profile], "size": {"height": side, "width": side},
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
