"""What transformers 4.57 and 5 do differently, in one place; everything else reads a SigLIP or Gemma 3 through this.

All of it can go when the `export` extra demands transformers 5 or newer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def vision_transformer(model: Any) -> Any:
    """The module with `embeddings`, `encoder` and `post_layernorm` of a `SiglipVisionModel`.

    transformers 4 keeps it one level down, as `vision_model`; in 5 it is the model itself.
    """
    return getattr(model, "vision_model", model)


def features(output: Any) -> torch.Tensor:
    """What `get_image_features` and `get_text_features` found.

    A tensor in transformers 4; in 5 it stands in the place of the output's pooled state.
    """
    found: torch.Tensor = getattr(output, "pooler_output", output)
    return found


def image_processor(name: str) -> type[Any]:
    """The class of a family's image processor ("SiglipImageProcessor") that resizes with Pillow.

    transformers 5 gave the plain name to the one that resizes with torchvision.
    """
    import transformers

    return getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)


def with_pillow() -> dict[str, Any]:
    """What `AutoProcessor.from_pretrained` must be told to resize with Pillow, as the published processors do.

    transformers 4 calls that the slow processor, 5 the backend "pil".
    """
    import transformers

    return {"backend": "pil"} if hasattr(transformers, "SiglipImageProcessorPil") else {"use_fast": False}
