"""Workers that run the checkpoint in other engines, for `medge bench --against` and the scripts in benchmarks/.

`python -m medge.export.bench.engines ENGINE CHECKPOINT BATCH PROFILE`: image in, pooled vision embedding out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from ...runtime.bench.worker import serve
from ...runtime.bundles.claim import scratch_folder
from ...runtime.device.cpu import usable_cores
from ...runtime.golden.phantom import phantom
from ...runtime.pictures.preprocess import preprocess
from ..families.table import family_of, open_encoder
from ..families.transformers_versions import features
from ..source.checkpoint import Checkpoint

Run = Callable[[np.ndarray[Any, Any]], Any]


def pytorch(folder: Path) -> Run:
    """transformers' own vision model with its fast attention."""
    reference = open_encoder(folder)
    model = reference.tower("vision")
    model.config._attn_implementation = "sdpa"

    @torch.no_grad()
    def run(pixels: np.ndarray[Any, Any]) -> Any:
        return reference.features("vision", torch.from_numpy(pixels))

    return run


def optimum(folder: Path) -> Run:
    """optimum-onnx's plain export of the vision model, in ONNX Runtime."""
    import onnxruntime
    from optimum.exporters.onnx import onnx_export_from_model
    from transformers import SiglipVisionModel

    whole = open_encoder(folder).model
    model = SiglipVisionModel(whole.config.vision_config)
    model.vision_model = whole.vision_model
    with scratch_folder() as place:
        onnx_export_from_model(model.eval(), place, task="feature-extraction", do_validation=False)
        del model
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_cores()
        session = onnxruntime.InferenceSession(str(next(place.glob("*.onnx"))), options)
    names = [item.name for item in session.get_outputs() if "pool" in item.name] or None
    return lambda pixels: session.run(names, {"pixel_values": pixels})


def openvino(folder: Path) -> Run:
    """OpenVINO in fp32 on our fp32 ONNX graph."""
    import openvino as ov

    from ..to_onnx.towers import export_tower

    reference = open_encoder(folder)
    graph = export_tower(reference.tower("vision"), reference.signatures["vision"])
    with scratch_folder() as place:
        graph.save(place / "vision.onnx")
        del graph
        hints: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        hints["INFERENCE_NUM_THREADS"] = usable_cores()
        compiled = ov.Core().compile_model(str(place / "vision.onnx"), "CPU", hints)
    request = compiled.create_infer_request()
    return lambda pixels: request.infer({"pixel_values": pixels})


def transformers(folder: Path) -> Run:
    """The whole zero-shot task as one writes it with transformers: load the model, embed the labels, score an image."""
    from transformers import PreTrainedTokenizerFast, SiglipModel

    labels = ["abdomen CT", "chest x-ray", "head MRI"]
    model = SiglipModel.from_pretrained(folder).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="</s>")
    ids = tokenizer(labels, padding="max_length", max_length=64, truncation=True, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        bank = torch.nn.functional.normalize(features(model.get_text_features(ids)), dim=-1)

    @torch.no_grad()
    def run(pixels: np.ndarray[Any, Any]) -> Any:
        images = torch.nn.functional.normalize(features(model.get_image_features(torch.from_numpy(pixels))), dim=-1)
        return (images @ bank.T * model.logit_scale.exp() + model.logit_bias).softmax(-1)

    return run


ENGINES: dict[str, Callable[[Path], Run]] = {
    "pytorch": pytorch,
    "optimum": optimum,
    "openvino": openvino,
    "transformers": transformers,
}


def main() -> None:
    engine, folder, batch, profile = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    torch.set_num_threads(usable_cores())
    family_of(Checkpoint.open(folder)).allow(engine)
    side = AutoConfig.from_pretrained(folder).vision_config.image_size
    run = ENGINES[engine](folder)
    images = [phantom()] * batch
    serve(lambda: run(np.stack([preprocess(image, profile, side) for image in images])))


if __name__ == "__main__":
    main()
