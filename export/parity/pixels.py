"""Each preprocessing profile by code that shares nothing with the runtime's."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from ...runtime.pictures.preprocess import Pixels, to_8_bit
from ..families.transformers_versions import image_processor


def reference_pixels(image: Pixels, profile: str, side: int) -> NDArray[np.uint8]:
    """The resized image by code that shares nothing with the runtime's: PyTorch for `eval-tf`, else the HF processor.

    Returns (side, side, 3) uint8. `F.interpolate` without antialiasing has the same half-pixel rule as TensorFlow;
    it may differ by one grey level where the exact value lies on an integer.
    """

    def processor(array: NDArray[np.uint8], resample: Image.Resampling) -> NDArray[np.uint8]:
        hf = image_processor("SiglipImageProcessor")(
            size={"height": side, "width": side}, resample=resample, do_rescale=False
        )
        return np.asarray(hf(array, do_normalize=False, return_tensors="np", input_data_format="channels_last")
                          .pixel_values[0]).transpose(1, 2, 0).astype(np.uint8)  # fmt: skip

    eight = to_8_bit(image)
    if profile == "clip-crop":
        hf = image_processor("CLIPImageProcessor")(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        )
        return np.asarray(hf(eight, do_rescale=False, do_normalize=False, return_tensors="np",
                             input_data_format="channels_last").pixel_values[0]).transpose(1, 2, 0).astype(np.uint8)  # fmt: skip
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
