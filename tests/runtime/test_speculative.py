"""A draft that guesses ahead: the same tokens, or none of its guesses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from medge.runtime.engine import Engine
from medge.runtime.errors import BundleError
from medge.runtime.generator import Generator, user
from medge.runtime.generator import load as load_generator
from medge.runtime.speculative import (
    AHEAD,
    EXACT_POSITIONS,
    MOST_AHEAD,
    Speculation,
    check_vocabularies,
    generate,
    same_logits,
)


@pytest.fixture(scope="module")
def block_file(tmp_path_factory: pytest.TempPathFactory, gemma: Path) -> Path:
    """A random Gemma whose widths K-quants divide: what several tokens at once give is what one after the other gives."""
    from gemma_checkpoints import write_tiny_gemma

    from medge.export.build_generator import export_medgemma
    from medge.export.generator_job import GeneratorJob

    place = tmp_path_factory.mktemp("blocks")
    shape = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 256, "query_pre_attn_scalar": 256}
    write_tiny_gemma(place / "checkpoint", gemma, sees=False, text=shape)
    out = place / "bundle"
    export_medgemma(GeneratorJob(place / "checkpoint", out, "q6_k", without_importance=True, skip_parity=True))
    return out


@pytest.fixture
def pair(block_file: Path) -> Iterator[tuple[Engine, Engine]]:
    path = next(block_file.glob("*.gguf"))
    with Engine(path, context=512, ahead=MOST_AHEAD) as target, Engine(path, context=512) as draft:
        yield target, draft


def prompts(engine: Engine) -> list[list[int]]:
    return [
        [2, *engine.tokenize(text)] for text in ("The heart is", "A fracture of the left hand", "No effusion. Lungs")
    ]


@pytest.fixture
def ahead(pair: tuple[Engine, Engine]) -> int:
    """How far ahead guessing is exact here; which kernels llama.cpp has differs by CPU, and some have none that agree."""
    target, _ = pair
    tokens = [
        2,
        *target.tokenize(
            "Chest radiograph. The heart is of normal size and the lungs are clear. Bones and soft tissue."
        ),
    ]
    found = max((count for count in AHEAD if same_logits(target, tokens, count + 1)), default=0)
    if not found:
        pytest.skip(
            "this CPU's kernels compute several tokens otherwise than one, so there is no exact guessing to test"
        )
    return found


def test_guessing_ahead_gives_the_same_tokens(pair: tuple[Engine, Engine], ahead: int) -> None:
    """With the model itself as the draft, which guesses right, on both sides of where guessing has to stop."""
    target, draft = pair
    prompt = prompts(target)[0]
    expected = list(target.generate(prompt, 270, past_end=True))
    stats = Speculation(ahead, 0, 0)
    found = list(generate(target, draft, prompt, 270, ahead, stats, past_end=True))
    assert found == expected
    assert stats.kept > 0.9 * stats.guessed > 0
    assert stats.guessed < EXACT_POSITIONS


def test_a_draft_that_guesses_wrong_changes_nothing(
    pair: tuple[Engine, Engine], ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, draft = pair
    rng = np.random.default_rng(0)
    right = draft.generate

    def sometimes(items: list[int], limit: int, **options: bool) -> Iterator[int]:
        for token in list(right(items, limit, **options)):
            yield token if rng.random() < 0.6 else 1000 + int(rng.integers(1000))

    monkeypatch.setattr(draft, "generate", sometimes)
    for prompt in prompts(target):
        expected = list(target.generate(prompt, 50, past_end=True))
        stats = Speculation(ahead, 0, 0)
        assert list(generate(target, draft, prompt, 50, ahead, stats, past_end=True)) == expected
        assert 0.2 * stats.guessed < stats.kept < 0.9 * stats.guessed


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_limits_are_kept(pair: tuple[Engine, Engine], limit: int) -> None:
    target, draft = pair
    prompt = prompts(target)[0]
    assert len(list(generate(target, draft, prompt, limit, 2, past_end=True))) == limit
    long = (prompt * 200)[: target.context - 5]
    assert len(list(generate(target, draft, long, 50, 2, past_end=True))) == len(
        list(target.generate(long, 50, past_end=True))
    )


def test_the_end_of_an_answer_among_guesses_ends_it(
    pair: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    target, draft = pair
    prompt = prompts(target)[1]
    expected = list(target.generate(prompt, 30, past_end=True))
    stop = expected[7]
    monkeypatch.setattr(target, "ends", lambda token: token == stop)
    assert list(generate(target, draft, prompt, 30, 2)) == expected[: expected.index(stop)]


def test_the_stand_in_is_probed_and_answers_the_same(reader_bundles: Callable[[str], Path]) -> None:
    """q8_0's kernels differ for one token and several: the probe has to notice, and leave the draft off."""
    bundle = reader_bundles("q8_0")
    plain = load_generator(bundle)
    drafted = load_generator(bundle, draft=bundle)
    turns = [user("Which organ pumps the blood?")]
    try:
        expected = plain.chat(turns, limit=24).text
        assert drafted.chat(turns, limit=24).text == expected
        speculation = drafted.speculation
        assert speculation is not None
        assert speculation.acceptance > 0.9  # it guesses for itself
        tokens = [2, *drafted.engine.tokenize("The heart is of normal size and the lungs are clear.")]
        exact = any(same_logits(drafted.engine, tokens, ahead + 1) for ahead in AHEAD)
        assert (speculation.ahead == 0) or exact
        assert bool(speculation.reason) == (speculation.ahead == 0)
    finally:
        plain.close()
        drafted.close()


def test_sampling_and_schemas_go_without_the_draft(block_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medge.runtime import generator as module
    from medge.runtime.engine import Sampling

    drafted = load_generator(block_file, draft=block_file, allow_failed_parity=True, context=512)
    monkeypatch.setitem(drafted.__dict__, "speculation", Speculation(2, 1.0, 2.0))
    used: list[bool] = []
    original = module.speculative_tokens
    monkeypatch.setattr(module, "speculative_tokens", lambda *a, **k: used.append(True) or original(*a, **k))
    prompt = prompts(drafted.engine)[0]
    list(drafted.tokens(prompt, 3, Sampling(temperature=1.0)))
    list(drafted.tokens(prompt, 3, Sampling(grammar='root ::= "a"')))
    assert not used
    list(drafted.tokens(prompt, 3))
    assert used
    drafted.close()


def test_a_draft_of_another_vocabulary_is_refused(pair: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    target, draft = pair
    check_vocabularies(target, draft)
    monkeypatch.setattr(draft, "piece", lambda token, special=False: b"x")
    with pytest.raises(BundleError, match="another vocabulary"):
        check_vocabularies(target, draft)


def test_without_room_for_the_draft_the_model_answers_alone(block_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drafted = load_generator(block_file, draft=block_file, allow_failed_parity=True, context=512)
    monkeypatch.setitem(drafted.__dict__, "_draft", None)
    assert isinstance(drafted, Generator)
    speculation = drafted.speculation
    assert speculation is not None
    assert speculation.ahead == 0
    assert "memory" in speculation.reason
    drafted.close()
