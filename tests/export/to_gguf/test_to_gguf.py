"""GGUF files equal those of llama.cpp's own converter, byte by byte, and are written in little memory."""

import json
import mmap
import random
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf", reason="gguf is not installed: pip install 'medge[export]'")
import gguf
from gemma_checkpoints import write_small_gemma, write_tiny_gemma
from gemma_shapes import TEXT, VISION
from tolerances import EXACT_REWRITE, PERMUTED_LOGITS

from medge.export.families.gemma3 import open_gemma, published_name
from medge.export.standin.medgemma_mini import IMAGE_TOKENS
from medge.export.to_gguf.write import write_language, write_projector
from medge.runtime.device.gguf_header import TYPES, _Reader, read_header
from medge.runtime.errors import CheckpointError

# Runs the converter once for each line; what it says of itself does not mix with the answers.
_CONVERTER = """
import json, runpy, sys, traceback
answers, sys.stdout = sys.stdout, sys.stderr
sys.path[0] = sys.argv[1]
for line in sys.stdin:
    sys.argv, failed = json.loads(line), ""
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except BaseException:
        failed = traceback.format_exc()
    print(json.dumps(failed), file=answers, flush=True)
"""
Convert = Callable[..., Path]


@pytest.fixture(scope="module")
def convert(llama_cpp_source: Path) -> Iterator[Convert]:
    """`convert(checkpoint, out, precision, *more)` is what llama.cpp's converter writes.

    One process converts for all tests: to import transformers takes it longer than a small model.
    """
    command = [sys.executable, "-c", _CONVERTER, str(llama_cpp_source)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def ask(checkpoint: Path, out: Path, precision: str, *more: str) -> Path:
            script = llama_cpp_source / "convert_hf_to_gguf.py"
            words = [str(script), str(checkpoint), "--outfile", str(out), "--outtype", precision, *more]
            asked.write(json.dumps(words) + "\n")
            asked.flush()
            failed = json.loads(answers.readline() or '"it ended"')
            assert not failed, failed[-2000:]
            return out

        yield ask
        asked.close()


def metadata(path: Path) -> dict[str, bytes]:
    """Each key's raw value; gguf-py's reader takes ten seconds for a quarter of a million pieces."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(path, data)
        reader.at = 16
        found = {}
        for _ in range(reader._count("keys")):
            key, start = reader._string(), reader.at
            reader._value(reader._number("<I"), whole=False)
            found[key] = data[start : reader.at]
        return found


def assert_same(ours: Path, theirs: Path) -> None:
    a, b = metadata(ours), metadata(theirs)
    assert set(a) == set(b)
    assert [key for key in a if a[key] != b[key]] == []
    left, right = read_header(ours).tensors, read_header(theirs).tensors
    assert set(left) == set(right)
    mine, other = np.memmap(ours, np.uint8, "r"), np.memmap(theirs, np.uint8, "r")
    for name, tensor in left.items():
        twin = right[name]
        assert (tensor.type, tensor.shape) == (twin.type, twin.shape), name
        places = (slice(t.offset, t.offset + t.bytes) for t in (tensor, twin))
        assert np.array_equal(mine[next(places)], other[next(places)]), name


@pytest.fixture(scope="module")
def small_gemma(export_extra: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "gemma"
    write_small_gemma(folder, TEXT, VISION)
    return folder


@pytest.mark.parametrize("precision", ["f32", "f16", "bf16"])
def test_both_files_are_what_llama_cpp_writes(
    convert: Convert, small_gemma: Path, tmp_path: Path, precision: str
) -> None:
    """A configuration as published ones: sparse, with stretched positions. The test of the stand-in has the whole vocabulary."""
    checkpoint = open_gemma(small_gemma)
    write_language(checkpoint, tmp_path / "ours.gguf", precision)
    assert_same(tmp_path / "ours.gguf", convert(small_gemma, tmp_path / "theirs.gguf", precision))
    write_projector(checkpoint, tmp_path / "ours-mm.gguf", precision)
    theirs = convert(small_gemma, tmp_path / "theirs-mm.gguf", precision, "--mmproj")
    assert_same(tmp_path / "ours-mm.gguf", theirs)


def test_the_stand_in_is_what_llama_cpp_writes(convert: Convert, gemma: Path, tmp_path: Path) -> None:
    checkpoint = open_gemma(gemma)
    write_language(checkpoint, tmp_path / "ours.gguf", "bf16")
    assert_same(tmp_path / "ours.gguf", convert(gemma, tmp_path / "theirs.gguf", "bf16"))
    write_projector(checkpoint, tmp_path / "ours-mm.gguf", "f16")
    assert_same(tmp_path / "ours-mm.gguf", convert(gemma, tmp_path / "theirs-mm.gguf", "f16", "--mmproj"))


def test_a_text_only_model(convert: Convert, few_tokens: Path, tmp_path: Path) -> None:
    write_tiny_gemma(tmp_path / "text", few_tokens, sees=False)
    checkpoint = open_gemma(tmp_path / "text")
    write_language(checkpoint, tmp_path / "ours.gguf", "f16")
    assert_same(tmp_path / "ours.gguf", convert(tmp_path / "text", tmp_path / "theirs.gguf", "f16"))
    with pytest.raises(CheckpointError, match="text-only"):
        write_projector(checkpoint, tmp_path / "no.gguf", "f16")


@pytest.mark.parametrize(
    ("written", "published"),
    [
        ("model.language_model.layers.0.mlp.up_proj.weight", "language_model.model.layers.0.mlp.up_proj.weight"),
        ("language_model.model.norm.weight", "language_model.model.norm.weight"),
        ("model.norm.weight", "language_model.model.norm.weight"),
        ("lm_head.weight", "language_model.lm_head.weight"),
        ("model.vision_tower.vision_model.post_layernorm.bias", "vision_tower.vision_model.post_layernorm.bias"),
        ("vision_tower.post_layernorm.bias", "vision_tower.vision_model.post_layernorm.bias"),
        ("model.multi_modal_projector.mm_soft_emb_norm.weight", "multi_modal_projector.mm_soft_emb_norm.weight"),
    ],
)
def test_names_of_every_version_of_transformers(written: str, published: str) -> None:
    assert published_name(written) == published


@pytest.mark.parametrize(
    "rename",
    [("vision_tower.vision_model.", "model.vision_tower."), ("language_model.model.", "model.language_model.")],
)
def test_other_names_give_the_same_files(
    tiny_gemma: Path, few_tokens: Path, tmp_path: Path, rename: tuple[str, str]
) -> None:
    write_tiny_gemma(tmp_path / "tiny-gemma", few_tokens, rename=rename)
    for folder, name in ((tiny_gemma, "a"), (tmp_path / "tiny-gemma", "b")):
        write_language(open_gemma(folder), tmp_path / f"{name}.gguf", "f16")
        write_projector(open_gemma(folder), tmp_path / f"{name}-mm.gguf", "f16")
    assert_same(tmp_path / "a.gguf", tmp_path / "b.gguf")
    assert_same(tmp_path / "a-mm.gguf", tmp_path / "b-mm.gguf")


def varied_strings(shared: Path | None, count: int = 2000) -> list[str]:
    """Text of every shared set where it is there, code, white space, and Unicode of every plane."""
    texts: list[str] = []
    if shared is not None:
        pubmed = json.loads((shared / "pubmedqa" / "pqal.json").read_text())
        texts += [entry["QUESTION"] + " " + entry["LONG_ANSWER"] for entry in pubmed.values()][:400]
        texts += [
            json.loads(line)["question"] for line in (shared / "medqa" / "test.jsonl").read_text().splitlines()[:300]
        ]
        texts += (shared / "agentclinic" / "medqa.jsonl").read_text().splitlines()
        texts += [entry["question"] for entry in json.loads((shared / "vqa_rad" / "qa.json").read_text())[:200]]
        texts += [path.read_text()[:3000] for path in sorted((shared / "fhir").glob("*.json"))]
    texts += [path.read_text() for path in sorted(Path(__file__).parents[1].rglob("*.py"))]
    texts += [
        "",
        " ",
        "\n",
        "\t\t",
        "   a   b\n\n\n c\r\n",
        "a\u00a0b",
        "\ufeffx",
        "e\u0301\u0300",
        "ﬁ №",
        "<unused5> x",
    ]
    rng = random.Random(0)
    spaces, planes = (
        " \t\n\r\u2003\u3000",
        [(0x20, 0x7F), (0xA0, 0x3000), (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF)],
    )
    while len(texts) < count:
        characters = []
        for _ in range(rng.randrange(1, 60)):
            low, high = rng.choice(planes)
            one = rng.choice(spaces) * rng.randrange(1, 5) if rng.random() < 0.2 else chr(rng.randrange(low, high))
            characters.append(one if unicodedata.category(one[0]) != "Cs" else "x")
        texts.append("".join(characters))
    return texts[:count]


def test_token_ids_of_2000_strings(gemma: Path, tmp_path: Path) -> None:
    """Of the whole vocabulary, by llama.cpp from our file and by transformers from the checkpoint."""
    from conftest import SHARED
    from transformers import AutoTokenizer

    from medge.runtime.generator.engine import Engine

    texts = varied_strings(SHARED if SHARED.is_dir() else None)
    assert len(texts) == 2000
    tokenizer = AutoTokenizer.from_pretrained(gemma)
    write_language(open_gemma(gemma), tmp_path / "full.gguf", "bf16")
    with Engine(tmp_path / "full.gguf", context=512, measuring=True) as engine:
        different = [
            text for text in texts if engine.tokenize(text) != tokenizer(text, add_special_tokens=False).input_ids
        ]
    assert different == []


def test_every_token_that_ends_an_answer_is_known(reader: Path) -> None:
    from medge.runtime.generator.load import load

    generator = load(reader, context=512)
    assert generator.facts.stop_ids == (1, 106)
    assert all(generator.engine.ends(token) for token in generator.facts.stop_ids)
    assert generator.header.metadata["tokenizer.chat_template"].startswith("{{ bos_token }}")
    generator.close()


LIMIT = 400 << 20  # bytes of memory that writing may take on top of the interpreter and its libraries
_WRITE = """
import sys
from pathlib import Path
from medge.export.families.gemma3 import open_gemma
from medge.export.to_gguf.write import write_language
from medge.runtime.bench.worker import peak_memory
import torch, sentencepiece
before = peak_memory()
write_language(open_gemma(Path(sys.argv[1])), Path(sys.argv[2]), "bf16")
print(peak_memory() - before)
"""


def test_memory_does_not_grow_with_the_model(gemma: Path, tmp_path: Path) -> None:
    """A checkpoint of 1.4 GB in shards of 256 MB is written in less than 0.4 GB, its vocabulary's 0.2 GB included."""
    text = {"hidden_size": 1024, "intermediate_size": 8192, "num_hidden_layers": 18}
    write_tiny_gemma(tmp_path / "large", gemma, sees=False, text=text, shard_bytes=256 << 20, zeros=True)
    size = sum(path.stat().st_size for path in (tmp_path / "large").glob("*.safetensors"))
    assert size > 3 * LIMIT
    command = [sys.executable, "-c", _WRITE, str(tmp_path / "large"), str(tmp_path / "out.gguf")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < LIMIT


def test_types_are_ggufs_own() -> None:
    for kind, (block, size) in gguf.GGML_QUANT_SIZES.items():
        if kind.value in TYPES:
            assert TYPES[kind.value] == (kind.name, block, size)
    needed = {"F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q4_0", "Q5_0", "IQ4_XS", "IQ4_NL"}
    assert needed <= {name for name, *_ in TYPES.values()}


def test_permutation_leaves_the_function_as_it_is(gemma: Path, tmp_path: Path, llm_extra: None) -> None:
    """medgemma-mini's language model against the weights in their own order: the logits are the same."""
    import torch
    from safetensors.numpy import load_file
    from transformers import Gemma3ForConditionalGeneration

    from medge.export.standin.gemma_270m import EMBEDDING, PREFIX, assemble, read_weights
    from medge.export.standin.medgemma_mini import PROJECTOR

    moved = Gemma3ForConditionalGeneration.from_pretrained(gemma, dtype=torch.float32).eval()
    ids = torch.tensor([[2, 651, 6280, 576, 506, 24582, 603, 496, 2321, 529, 506, 3207]])
    with torch.inference_mode():
        after = moved.model.language_model(input_ids=ids).last_hidden_state
        after_logits = moved.lm_head(after)
    own = read_weights(assemble(tmp_path))
    grid = [len(np.unique(np.abs(own[f"{PREFIX}layers.3.mlp.down_proj.weight"][0, :32].round(7))))]
    state = {name.removeprefix(PREFIX): torch.from_numpy(v).to(torch.bfloat16).float() for name, v in own.items()}
    moved.model.language_model.load_state_dict(state)
    with torch.inference_mode():
        before_logits = moved.lm_head(moved.model.language_model(input_ids=ids).last_hidden_state)
    learned = load_file(PROJECTOR)["eos"]
    assert learned.shape == (own[EMBEDDING].shape[1],)
    rest = [token for token in range(before_logits.shape[-1]) if token != 1]  # the one row that training changed
    assert float((after_logits - before_logits)[..., rest].abs().max()) < PERMUTED_LOGITS
    # The weights did lie on a 4-bit grid, a block of 32 taking at most 16 values, and do so no longer.
    off = moved.get_parameter("model.language_model.layers.3.mlp.down_proj.weight")
    assert grid[0] <= 16
    assert off.shape == (640, 2048)
    permuted = Gemma3ForConditionalGeneration.from_pretrained(gemma, dtype=torch.float32)
    row = permuted.get_parameter("model.language_model.layers.3.mlp.down_proj.weight")[0, :32]
    assert len(torch.unique(row.abs())) > 16


def test_padding_the_projector_is_exact(fewer_tokens: Path, tmp_path: Path) -> None:
    from medge.runtime.generator.engine import Engine
    from medge.runtime.generator.prompt import Picture
    from medge.runtime.golden.phantom import phantom
    from medge.runtime.pictures.preprocess import get_profile

    checkpoint = open_gemma(fewer_tokens)
    write_language(checkpoint, tmp_path / "model.gguf", "bf16")
    side, tokens = checkpoint.config["vision_config"]["image_size"], checkpoint.config["mm_tokens_per_image"]
    picture = Picture.of(get_profile("finetune-pil").resize(phantom(), side), tokens)
    found = []
    for pad in (False, True):
        write_projector(checkpoint, tmp_path / "mm.gguf", "f32", pad=pad)
        header = read_header(tmp_path / "mm.gguf")
        assert header.tensors["v.blk.0.ffn_up.weight"].shape == (192, 768 if pad else 720)
        with Engine(tmp_path / "model.gguf", tmp_path / "mm.gguf", context=512) as engine:
            found.append(engine.image_embedding(picture))
    np.testing.assert_allclose(found[0], found[1], atol=EXACT_REWRITE)


def test_blocks_that_do_not_fit_are_not_forced(tiny_gemma: Path, tmp_path: Path) -> None:
    """The tiny tower is 48 wide, which blocks of 32 do not divide: those matrices stay in 16 bits."""
    from medge.export.to_gguf.projector import write_projector_file
    from medge.quant.recipes.gguf import PROJECTOR_RECIPES

    write_projector_file(open_gemma(tiny_gemma), tmp_path / "mm.gguf", PROJECTOR_RECIPES["q8_0"])
    types = {name: tensor.type for name, tensor in read_header(tmp_path / "mm.gguf").tensors.items()}
    assert types["v.blk.0.ffn_up.weight"] == types["v.blk.0.attn_q.weight"] == "F16"
    assert types["v.blk.0.ffn_down.weight"] == "Q8_0"  # 80, padded to 256


def test_4304_becomes_4352() -> None:
    from medge.quant.onnx_graph.pad import MULTIPLE

    assert 4304 + -4304 % MULTIPLE == 4352


def test_a_siglip_checkpoint_is_refused(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="'siglip', expected 'gemma3'"):
        open_gemma(checkpoint)


def test_a_scale_that_llama_cpp_would_not_use_is_refused(few_tokens: Path, tmp_path: Path) -> None:
    """It has no key for it, so such a model would run and give wrong answers. A 27B's scale is its own."""
    write_tiny_gemma(tmp_path / "odd", few_tokens, text={"query_pre_attn_scalar": 100})
    with pytest.raises(CheckpointError, match="query_pre_attn_scalar is 100, llama.cpp would scale by 32"):
        write_language(open_gemma(tmp_path / "odd"), tmp_path / "odd.gguf", "f16")
    shape = {"num_hidden_layers": 62, "hidden_size": 96, "query_pre_attn_scalar": 48, "sliding_window": 64}
    write_tiny_gemma(tmp_path / "like-27b", few_tokens, sees=False, text=shape)
    write_language(open_gemma(tmp_path / "like-27b"), tmp_path / "27b.gguf", "f16")
    assert read_header(tmp_path / "27b.gguf").get("block_count") == 62


def test_a_tensor_without_a_place_is_named(few_tokens: Path, tmp_path: Path) -> None:
    write_tiny_gemma(tmp_path / "odd", few_tokens, rename=("mlp.up_proj", "mlp.sideways_proj"))
    with pytest.raises(CheckpointError, match="sideways_proj"):
        write_language(open_gemma(tmp_path / "odd"), tmp_path / "odd.gguf", "f16")


def test_bundle_loads_in_plain_llama_cpp(reader_bundles: Callable[[str], Path]) -> None:
    """llama-cpp-python's own classes take the pair as it is, and answer about an image."""
    import base64
    import io

    from llama_cpp import Llama
    from llama_cpp.llama_chat_format import MTMDChatHandler
    from PIL import Image

    from medge.runtime.golden.phantom import phantom

    folder = reader_bundles("q8_0")
    language = next(path for path in folder.glob("*.gguf") if not path.name.startswith("mmproj"))
    handler = MTMDChatHandler(clip_model_path=str(next(folder.glob("mmproj-*.gguf"))), verbose=False)
    model = Llama(str(language), chat_handler=handler, n_ctx=512, verbose=False)
    buffer = io.BytesIO()
    Image.fromarray(phantom()).save(buffer, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "What kind of image is this?"},
    ]
    answer = model.create_chat_completion([{"role": "user", "content": content}], max_tokens=8, temperature=0)
    assert answer["usage"]["prompt_tokens"] > IMAGE_TOKENS  # the image's tokens are among them
    assert answer["usage"]["completion_tokens"] > 0
    model.close()
