"""The stand-in that users get: its file, its checkpoint, its figures, and what the demo says of real pictures with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tolerances import FP32_EMBEDDING

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from transformers import AutoModel, AutoProcessor, AutoTokenizer, SiglipModel

from medge.export.commands.demo import LABELS, PICTURES
from medge.export.families.transformers_versions import features, with_pillow
from medge.export.standin.medsiglip.architecture import CONFIG, SIDE
from medge.export.standin.medsiglip.cache import Cache, write_cache
from medge.export.standin.medsiglip.evaluate import (
    DEMANDED,
    DEMO,
    TASKS,
    Judge,
    kinds,
    open_weights,
    trained_labels,
    zero_shot,
)
from medge.export.standin.medsiglip.model import image_embeddings, text_embeddings
from medge.export.standin.medsiglip.packed import PACKED, unpack
from medge.export.standin.medsiglip.sources import domain_pictures
from medge.export.standin.medsiglip.words import LISTED_KINDS, every_text
from medge.export.standin.write import write_medsiglip_mini
from medge.runtime.golden.phantom import phantom
from medge.runtime.pictures.preprocess import get_profile, normalise_pixels

MOST_BYTES = 24_000_000  # what the issue that asked for it allows in the repository
# Sets that are judged again here, whole: the smallest of two kinds of machine.
AGAIN = ("us_breast_busi", "us_lung_pocus")
MACHINES = {"ct": "CT", "mri": "MRI", "us": "ultrasound", "xray": "x-ray"}  # modality -> how a label of the demo ends

# An MR of 64 x 64 pixels, whose first two kinds are nearly even, and an ultrasound of a heart: of ultrasounds only breasts and
# lungs were trained on. Both should be right; the card says that they are not.
WRONG = {"MR_small.dcm", "examples_ybr_color.dcm"}


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return json.loads(PACKED.with_suffix(".json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("standin") / "medsiglip-mini"
    write_medsiglip_mini(folder)
    return folder


def test_the_file_is_small_and_is_the_one_that_was_judged(figures: dict[str, Any]) -> None:
    assert PACKED.stat().st_size <= MOST_BYTES
    state, tokenizer = unpack()
    parameters = sum(array.size for array in state.values())
    assert figures["weights"]["bytes"] == PACKED.stat().st_size
    assert figures["weights"]["parameters"] == parameters
    words = {token for encoding in tokenizer.encode_batch(every_text()) for token in encoding.ids} | {1}  # and padding
    assert figures["weights"]["words"] == len(words)


def test_unpacking_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "from medge.export.standin.medsiglip import architecture, packed\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_has_the_size_that_was_asked_for() -> None:
    vision = CONFIG["vision_config"]
    assert vision["num_hidden_layers"] >= 12
    assert (vision["image_size"] // vision["patch_size"]) ** 2 >= 196


def test_the_checkpoint_opens_with_the_auto_classes(written: Path) -> None:
    theirs = AutoModel.from_pretrained(written).eval()
    assert isinstance(theirs, SiglipModel)
    ours, tokenizer = open_weights(PACKED)
    ours.eval()
    pixels = normalise_pixels(get_profile("hf-bicubic").resize(phantom(), SIDE))
    processor = AutoProcessor.from_pretrained(written, **with_pillow())
    given = processor(text="chest x-ray", images=phantom(), padding="max_length", return_tensors="pt")
    np.testing.assert_allclose(given["pixel_values"][0].numpy(), pixels, rtol=0, atol=1e-6)
    text = "A CT, of the Head!"
    ids = AutoTokenizer.from_pretrained(written)(text, padding="max_length", max_length=64, return_tensors="pt")
    tokenizer.enable_padding(length=64, pad_id=1, pad_token="</s>")
    assert ids["input_ids"].tolist() == [tokenizer.encode(text).ids]
    with torch.no_grad():
        for found, expected in (
            (theirs.get_image_features(given["pixel_values"]), image_embeddings(ours, given["pixel_values"])),
            (theirs.get_text_features(ids["input_ids"]), text_embeddings(ours, ids["input_ids"])),
        ):
            unit = torch.nn.functional.normalize(features(found), dim=-1)
            np.testing.assert_allclose(unit.numpy(), expected.numpy(), rtol=0, atol=FP32_EMBEDDING)


def test_every_demand_has_its_figure_in_either_wording(figures: dict[str, Any]) -> None:
    assert figures["demanded"] == DEMANDED
    assert figures["figures"].keys() == DEMANDED.keys()
    assert figures["trained_wordings"].keys() == DEMANDED.keys() - {"probe_auc_mean"}
    assert len(figures["detail"]["demo"]) == len(DEMO)
    assert [tuple(kind) for kind in figures["detail"]["kind"]["listed"]] == list(LISTED_KINDS)


@pytest.mark.parametrize("domain", AGAIN)
def test_the_figures_are_those_of_the_weights(
    figures: dict[str, Any], shared: Path, tmp_path: Path, domain: str
) -> None:
    """Test pictures of a whole set, embedded and judged again."""
    cache: Cache = write_cache(domain_pictures(shared / "domains" / f"{domain}.tar"), tmp_path / "cache")
    judge = Judge(*open_weights(PACKED), cache)
    test, detail = cache.select("test"), figures["detail"]
    found = zero_shot(judge, domain, test, trained_labels(cache, domain), held_out=True)
    assert found == pytest.approx(detail["zero_shot"][domain], abs=2e-3)
    assert domain in TASKS
    listed = list(LISTED_KINDS)
    accuracy = kinds(judge, test, listed, held_out=True)["accuracy"]
    assert accuracy == pytest.approx(detail["kind"]["domains"][domain], abs=0.011)  # a picture


def test_the_demo_asks_for_what_was_trained_in_words_that_were_trained() -> None:
    assert len(LABELS) == len(LISTED_KINDS)
    assert {wording for wordings in LABELS.values() for wording in wordings} <= set(every_text())


def test_the_demo_names_the_machine_of_the_real_pictures(demo: Path) -> None:
    done = json.loads((demo / "told.json").read_text())
    assert done["parity"]["status"] == "passed"
    first = {row["image"]: row["labels"][0]["label"] for row in done["results"]}
    assert first.keys() >= {name for name, package, _ in PICTURES if package == "pydicom"}
    assert first["demo-ct.png"] == first["CT_small.dcm"]
    wrong = {name for name, label in first.items() if name in DEMO and not label.endswith(MACHINES[DEMO[name]])}
    assert wrong == WRONG
