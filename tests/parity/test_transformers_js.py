"""transformers.js loads the bundles without change and computes what the runtime computes."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tolerances import OTHER_BUILD_COSINE

import medge
from medge.runtime.golden.phantom import phantom
from medge.runtime.pictures.preprocess import preprocess

PACKAGE = "@huggingface/transformers@4.3.1"
SCRIPT = """
import { env, AutoTokenizer, SiglipTextModel, SiglipVisionModel, Tensor } from '@huggingface/transformers';
import { readFileSync } from 'node:fs';
const [root, name, dtype, side, pixels] = process.argv.slice(2);
env.allowRemoteModels = false; env.localModelPath = root;
const options = { dtype };
const tokenizer = await AutoTokenizer.from_pretrained(name);
const ids = tokenizer(['A CT, of the Head!'], { padding: 'max_length', truncation: true });
const text = await SiglipTextModel.from_pretrained(name, options);
const vision = await SiglipVisionModel.from_pretrained(name, options);
const data = new Float32Array(new Uint8Array(readFileSync(pixels)).buffer);
const image = new Tensor('float32', data, [1, 3, Number(side), Number(side)]);
const pool = async (model, inputs) => Array.from((await model(inputs)).pooler_output.data);
console.log(JSON.stringify({ ids: Array.from(ids.input_ids.data).map(Number),
  text: await pool(text, ids), image: await pool(vision, { pixel_values: image }) }));
"""


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """transformers.js, installed once into a cache outside the repository."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "medge" / PACKAGE.replace("/", "-")
    if not (cache / "node_modules" / "onnxruntime-node").is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        # Its install scripts would fetch GPU builds from elsewhere; the CPU library lies in the package.
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", PACKAGE]
        done = subprocess.run(command, cwd=cache, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"npm could not install {PACKAGE}: {done.stderr.strip()[-200:]}")
    return cache


@pytest.mark.parametrize(("recipe", "dtype"), [("fp32", "fp32"), ("fp16", "fp16"), ("int8", "q8"), ("int4", "q4")])
def test_transformers_js(
    node_modules: Path, make_bundle: Callable[[str], Path], tmp_path: Path, recipe: str, dtype: str
) -> None:
    bundle = make_bundle(recipe)
    encoder = medge.load(bundle, allow_failed_parity=True)
    pixels = preprocess(phantom(), "eval-tf", encoder.facts.image_size)[None]
    (tmp_path / "pixels").write_bytes(pixels.tobytes())
    script = node_modules / "medge-test.mjs"
    script.write_text(SCRIPT)
    command = [
        "node",
        str(script),
        f"{bundle.parent}/",
        bundle.name,
        dtype,
        str(pixels.shape[-1]),
        str(tmp_path / "pixels"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    expected_ids = encoder.tokenizer.encode(["A CT, of the Head!"])[0][0]
    # transformers.js stops at the longest text of a batch unless a length is fixed: what it gives must be a prefix.
    assert facts["ids"]
    assert facts["ids"] == expected_ids[: len(facts["ids"])].tolist()
    image = np.array(facts["image"])
    image /= np.linalg.norm(image)
    assert image @ encoder.embed_pixels(pixels)[0] > OTHER_BUILD_COSINE
    text = np.array(facts["text"])
    assert text / np.linalg.norm(text) @ encoder.embed_ids(np.array([facts["ids"]]))[0] > OTHER_BUILD_COSINE
