"""A vocabulary cut by script: the same ids up to renumbering, the same logits to the bit, and any text still has an encoding."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf", reason="gguf is not installed: pip install 'medge[export]'")
import gguf

from medge.export.families.cut_vocabulary import KeptTokens, cut, tokens_of
from medge.export.families.gemma3 import generator_facts, open_gemma
from medge.export.jobs.generator import export_medgemma, measure_generator_bundle
from medge.export.jobs.generator_job import GeneratorJob
from medge.export.parity.generator import Material
from medge.export.to_gguf.scripts import SCRIPTS, is_written_in, parse_scripts, say_scripts
from medge.export.to_gguf.vocabulary import MULTIPLE, read_vocabulary, tokens_by_script, tokens_in
from medge.export.to_gguf.write import write_language, write_projector
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.device.gguf_header import read_header
from medge.runtime.errors import CheckpointError, RecipeError
from medge.runtime.generator.conversation import Sampling
from medge.runtime.generator.engine import Engine
from medge.runtime.generator.prompt import Item, Picture
from medge.runtime.golden.generator import replay_answers
from medge.runtime.golden.phantom import phantom
from medge.runtime.kinds import load
from medge.runtime.pictures.preprocess import get_profile

TYPES = gguf.TokenType
OTHERS = (
    "右下肺有一个结节。", "Пневмонии нет.", "لا يوجد كسر", "कोई निमोनिया नहीं", "የሳንባ ምች የለም", "肺炎ではありません", "폐렴 없음",
    "naïve TNF-α ≥ 5 µg 🫁❤️ ﬁ", "\x00\x01\x7f\ufeff", "a\u0301\u200d\u202e", "\U00020000 \U0010fffd",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "scripts"),
    [
        ("latin", ("latin",)),
        ("cyrillic", ("latin", "cyrillic")),
        (" Cyrillic, arabic,latin", ("latin", "arabic", "cyrillic")),
    ],
)
def test_scripts_are_read(text: str, scripts: tuple[str, ...]) -> None:
    assert parse_scripts(text) == scripts


@pytest.mark.parametrize("text", ["", "fr", "latin,", "latin;cyrillic", "klingon"])
def test_what_is_no_script_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(RecipeError, match="there is no script '.*' for --vocabulary") as error:
        parse_scripts(text)
    assert "\n" not in str(error.value)
    assert all(name in str(error.value) for name in SCRIPTS)


def test_what_is_written_in_a_script() -> None:
    latin, both = ("latin",), ("latin", "cyrillic")
    for text in ("", "▁the", "ção", "ﬁ", "e\u0301", "α", "µg", "≥5", "🫁", "❤️", "½", "，"):
        assert is_written_in(text, latin), text
    for text in ("в", "aв", "的", "の", "א", "ा", "የ", "한"):
        assert not is_written_in(text, latin), text
    assert is_written_in("й", both)
    assert not is_written_in("й的", both)
    assert is_written_in("と思", ("latin", "han", "kana"))
    assert say_scripts(latin) == "Latin script"
    assert say_scripts(("latin", "arabic", "cyrillic")) == "Latin, Arabic and Cyrillic script"


@pytest.fixture(scope="module")
def kept(gemma: Path) -> KeptTokens:
    return tokens_by_script(open_gemma(gemma), ("latin",))


def test_every_piece_that_a_kept_piece_is_merged_from_is_kept(gemma: Path, kept: KeptTokens) -> None:
    """Of the whole vocabulary. A text of kept pieces is then merged by the same steps: none of them needs a dropped piece."""
    pieces, _, types = read_vocabulary(gemma, kept.of)
    texts = {piece.decode() for piece, kind in zip(pieces, types, strict=True) if kind == TYPES.NORMAL}
    stay = {pieces[index].decode() for index in kept.ids.tolist() if types[index] == TYPES.NORMAL}
    gone = texts - stay
    assert len(stay) > 150_000
    assert len(gone) > 90_000
    lost = [
        piece for piece in stay if any(piece[i:j] in gone for i, j in itertools.combinations(range(len(piece) + 1), 2))
    ]
    assert lost == []


def test_bytes_and_control_tokens_stay(gemma: Path, kept: KeptTokens) -> None:
    pieces, _, types = read_vocabulary(gemma, kept.of)
    ids = set(kept.ids.tolist())
    for kind in (TYPES.BYTE, TYPES.CONTROL, TYPES.USER_DEFINED):
        assert all(index in ids for index, found in enumerate(types) if found == kind), kind
    assert {b"<start_of_turn>", b"<start_of_image>", b"<image_soft_token>"} <= {pieces[index] for index in ids}
    assert len(ids) % MULTIPLE == 0
    assert kept.ids[:256].tolist() == list(range(256))  # the marks of a turn and of thinking are under the same ids


@dataclasses.dataclass(frozen=True)
class Pair:
    """medgemma-mini at 16 bits, whole and cut to Latin script, in one llama.cpp."""

    whole: Engine
    cut: Engine
    kept: KeptTokens
    side: int
    tokens: int


@pytest.fixture(scope="module")
def pair(gemma: Path, kept: KeptTokens, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    place, checkpoint = tmp_path_factory.mktemp("cut"), open_gemma(gemma)
    write_language(checkpoint, place / "whole.gguf", "f16")
    write_language(cut(checkpoint, kept), place / "cut.gguf", "f16")
    write_projector(checkpoint, place / "mm.gguf", "f16")
    found = tokens_in(place / "cut.gguf", checkpoint)
    assert found is not None
    assert np.array_equal(found.ids, kept.ids)
    assert tokens_in(place / "whole.gguf", checkpoint) is None
    saved = (place / "whole.gguf").stat().st_size - (place / "cut.gguf").stat().st_size
    assert saved > (kept.of - len(kept.ids)) * 640 * 2  # rows of 640 numbers of two bytes, and the pieces' names
    config = checkpoint.config
    with (
        Engine(place / "whole.gguf", place / "mm.gguf", context=512, threads=1, measuring=True) as whole,
        Engine(place / "cut.gguf", place / "mm.gguf", context=512, threads=1, measuring=True) as small,
    ):
        yield Pair(whole, small, kept, config["vision_config"]["image_size"], config["mm_tokens_per_image"])


def real_texts(shared: Path) -> list[str]:
    pubmed = json.loads((shared / "pubmedqa" / "pqal.json").read_text())
    questions = (shared / "medqa" / "test.jsonl").read_text().splitlines()[:150]
    return [
        *(" ".join(entry["CONTEXTS"]) for entry in list(pubmed.values())[:200]),
        *(json.loads(line)["question"] for line in questions),
    ]


def test_real_texts_have_the_same_ids(pair: Pair, shared: Path) -> None:
    same = 0
    for text in real_texts(shared):
        ids = pair.kept.renumbered(pair.whole.tokenize(text))
        if -1 not in ids:
            assert pair.cut.tokenize(text) == ids
            same += 1
    assert same > 340  # of 350; the others have a letter of another script


@pytest.mark.parametrize("special", [True, False])
def test_any_text_has_an_encoding_that_gives_it_back(pair: Pair, special: bool) -> None:
    every = [chr(code) for code in range(0x3000) if chr(code) != "▁"]  # which is how Gemma writes a space
    for text in (*OTHERS, *("".join(every[start : start + 256]) for start in range(0, len(every), 256))):
        for engine in (pair.whole, pair.cut):
            ids = engine.tokenize(text, special=special)
            assert b"".join(engine.piece(token, special=True) for token in ids) == text.encode()
        assert len(pair.cut.tokenize(text)) >= len(pair.whole.tokenize(text))


def test_logits_of_the_tokens_that_stay_are_the_same_bits(pair: Pair) -> None:
    text = "The heart is enlarged; pression artérielle 160/90 mmHg, ≥ 5 µg of TNF-α."
    ids = [2, *pair.whole.tokenize(text)]
    ours = pair.cut.logits(pair.kept.renumbered(ids))
    theirs = pair.whole.logits(ids)
    assert theirs.shape == (len(ids), pair.kept.of)
    np.testing.assert_array_equal(ours, theirs[:, pair.kept.ids])


def test_an_answer_about_an_image_is_the_same(pair: Pair) -> None:
    picture = Picture.of(get_profile("finetune-pil").resize(phantom(), pair.side), pair.tokens)
    before, after = (
        "<start_of_turn>user\n<start_of_image>",
        "<end_of_image>What is shown?<end_of_turn>\n<start_of_turn>model\n",
    )

    def ask(engine: Engine) -> list[int]:
        items: list[Item] = [2, *engine.tokenize(before), picture, *engine.tokenize(after)]
        return list(engine.generate(items, Sampling(8), past_end=True))

    answer = ask(pair.whole)
    assert len(answer) == 8
    assert ask(pair.cut) == pair.kept.renumbered(answer)


def test_a_bundle_says_what_was_cut_and_is_measured_on_the_rest(
    tiny_gemma: Path, few_images: Path, tmp_path: Path
) -> None:
    checkpoint = open_gemma(tiny_gemma)
    whole = generator_facts(checkpoint)
    pieces, stay = read_vocabulary(tiny_gemma, whole.vocabulary)[0], tokens_by_script(checkpoint, ("latin",))
    foreign = next(text for text in map(bytes.decode, pieces) if len(text) == 1 and not is_written_in(text, ("latin",)))
    texts = tmp_path / "texts.txt"
    texts.write_text(
        f"The heart is of normal size, both lungs are clear, and no fracture is seen; 5 µg. {foreign}\n" * 4
    )
    job = GeneratorJob(tiny_gemma, tmp_path / "cut", "f16", texts=(texts,), images=few_images, vocabulary="latin")
    bundle, report = export_medgemma(job)
    facts = bundle.manifest.generator
    assert facts.vocabulary == len(stay.ids) < whole.vocabulary
    assert whole.parameters - facts.parameters == (whole.vocabulary - facts.vocabulary) * facts.width
    told = f"Latin script, {facts.vocabulary:,} of {whole.vocabulary:,} tokens"
    assert bundle.manifest.towers["language"].decisions["vocabulary"] == told
    assert report is not None
    lost = report.figures.vocabulary
    assert lost is not None
    assert (lost.kept, lost.of) == (facts.vocabulary, whole.vocabulary)
    assert 0 < lost.missed_share < 0.05  # the foreign letter
    assert 0 < lost.dropped_mass < 1
    # Against PyTorch's whole model, over the tokens that stayed: what 16 bits cost, and no more.
    assert [gate.figure for gate in report.gates if gate.passed is False] == []
    assert f"is cut to {facts.vocabulary:,} of" in (bundle.folder / "parity.html").read_text(encoding="utf-8")
    # What stands beside the file counts tokens as the file does.
    config = json.loads((bundle.folder / "config.json").read_text())
    assert config["text_config"]["vocab_size"] == facts.vocabulary
    language = bundle.path("language")
    assert language is not None
    key = "tokenizer.ggml.tokens"
    kept = read_header(language, [key]).metadata[key]
    for name, token in (("image_token_index", b"<image_soft_token>"), ("boi_token_index", b"<start_of_image>")):
        assert kept[config[name]] == token
    # `medge parity` finds in the file itself which tokens it has.
    again = measure_generator_bundle(
        Bundle.open(bundle.folder, allow_failed_parity=True), tiny_gemma, Material([texts.read_text()])
    )[1]
    assert again.figures.vocabulary == lost
    assert again.figures.text.kld == report.figures.text.kld
    generator = load(bundle.folder, allow_failed_parity=True)
    assert all(holds for *_, holds in replay_answers(generator))


def test_a_configuration_that_names_a_dropped_token_is_refused(tiny_gemma: Path) -> None:
    checkpoint = open_gemma(tiny_gemma)
    assert tokens_of(checkpoint) is None
    with pytest.raises(CheckpointError, match="which a cut vocabulary drops"):
        cut(checkpoint, KeptTokens(np.arange(5), generator_facts(checkpoint).vocabulary))
