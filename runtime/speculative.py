"""Speculative decoding: a small model guesses some tokens ahead, the large one reads them all at once and keeps what it would
have said itself (Leviathan et al. 2023, for greedy choice).

The answer is the large model's, token by token, if reading several tokens at once gives the same logits as one after the other.
llama.cpp's kernels do so for some formats and numbers of tokens only (docs/decisions/0010-distillation.md), so the probe compares
them bit by bit on this device, and guesses no further ahead than they agree.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from .engine import Engine, Item, Picture
from .errors import BundleError

AHEAD = (1, 2, 4, 8)  # numbers of guesses that are tried
MOST_AHEAD = max(AHEAD)
WORTH = 1.05  # speed, to that without a draft, from which on it is used
# From the next position on, llama.cpp 0.3.36's attention for a single token adds up in pieces, that for several does not
# (ggml-cpu/ops.cpp, use_split_kv_path: 512 cells, which it takes in steps of 256).
EXACT_POSITIONS = 256
PROBE_TOKENS = 24
PROBE_ROUNDS = 3
PROBE_TEXT = "Chest radiograph, frontal view. The heart is of normal size. There is no pneumothorax. The lungs"
SAMPLED_PIECES = 997  # every so-many-th token is compared between two vocabularies


@dataclass
class Speculation:
    """Whether and how far ahead a draft guesses on this device, and what came of it.

    Attributes:
        ahead: guesses in a round; 0 where it doesn't pay.
        acceptance: share of guesses that the large model kept, in the probe.
        expected: speed to expect of `ahead` (or of the best that was tried), to that without a draft.
        guessed, kept: counted over all answers since.
        reason: why it is off, or "".
    """

    ahead: int
    acceptance: float
    expected: float
    reason: str = ""
    guessed: int = field(default=0, compare=False)
    kept: int = field(default=0, compare=False)


def check_vocabularies(target: Engine, draft: Engine) -> None:
    """A draft must mean the same by a token id.

    Raises:
        BundleError: it does not.
    """
    size = target.vocabulary_size
    if draft.vocabulary_size == size and all(
        target.piece(token, special=True) == draft.piece(token, special=True)
        for token in range(0, size, SAMPLED_PIECES)
    ):
        return
    raise BundleError("the draft has another vocabulary than the model; use one that was distilled from it")


def generate(
    target: Engine, draft: Engine, items: Sequence[Item], limit: int, ahead: int, stats: Speculation | None = None, *,
    reach: int = EXACT_POSITIONS, past_end: bool = False,
) -> Iterator[int]:  # fmt: skip
    """Yield the tokens that `target.generate` yields greedily, sooner where the draft guesses well.

    Args:
        target: made with at least `ahead` tokens ahead.
        draft: of the same vocabulary; images are left out of its prompt where it has no tower.
        items, limit, past_end: as in `Engine.generate`.
        ahead: guesses in a round.
        stats: counts what is guessed and kept.
        reach: positions up to which guessing changes nothing; behind them, tokens are chosen one by one.
    """
    target.prefill(items)
    prompt = [item for item in items if draft.sees or not isinstance(item, Picture)]
    said: list[int] = []
    token = target.best()
    while True:
        if not past_end and target.ends(token):
            return
        yield token
        said.append(token)
        left = limit - len(said)
        # The token that was said last is not evaluated yet; it needs the next position.
        room = min(left, target.free - 1, draft.context - len(prompt) - len(said), reach - target.used)
        if left <= 0 or target.free <= 1:
            return
        count = max(0, min(ahead, room - 1))
        guesses = list(draft.generate([*prompt, *said], count, past_end=True)) if count else []
        choices = target.read([token, *guesses])
        kept = next((at for at, guess in enumerate(guesses) if choices[at] != guess), len(guesses))
        target.take_back(len(guesses) - kept)
        if stats is not None:
            stats.guessed, stats.kept = stats.guessed + len(guesses), stats.kept + kept
        for guess in guesses[:kept]:
            if not past_end and target.ends(guess):
                return
            yield guess
            said.append(guess)
            if len(said) >= limit:
                return
        token = choices[kept]


def probe(target: Engine, draft: Engine) -> Speculation:
    """Measure on this device how far ahead guessing changes nothing, and whether it pays; both engines forget what they had."""
    prompt = [2, *target.tokenize(PROBE_TEXT)]
    plain = list(target.generate(prompt, PROBE_TOKENS, past_end=True))
    whole = [*prompt, *plain]
    candidates = [ahead for ahead in AHEAD if same_logits(target, whole, ahead + 1)]
    # How often the draft, told what the model has said so far, says what the model says next.
    hits = [
        next(iter(draft.generate(whole[: len(prompt) + at], 1, past_end=True))) == plain[at] for at in range(len(plain))
    ]
    acceptance = sum(hits) / len(hits)
    expected: dict[int, float] = {}
    if candidates:
        target.prefill(whole)
        single = _time(lambda: _read_again(target, whole, 1))
        guess = _time(lambda: list(draft.generate(whole, 5, past_end=True))) / 5
    for ahead in candidates:
        read = _time(partial(_read_again, target, whole, ahead + 1))
        tokens = sum(acceptance**power for power in range(ahead + 1))
        expected[ahead] = tokens * single / (ahead * guess + read)
    for engine in (target, draft):
        engine.forget()
    if not candidates:
        return Speculation(
            0, acceptance, 0.0, "for this file, llama.cpp computes several tokens otherwise than one on this CPU"
        )
    best = max(expected, key=lambda ahead: expected[ahead])
    if expected[best] < WORTH:
        return Speculation(0, acceptance, expected[best], "the draft would not make this device faster")
    return Speculation(best, acceptance, expected[best])


def same_logits(engine: Engine, tokens: Sequence[int], count: int) -> bool:
    """Whether reading `count` tokens at once gives bit for bit what reading them one by one gives, at the end of `tokens`."""
    before, last = list(tokens[:-count]), list(tokens[-count:])
    engine.forget()
    engine.prefill(before)
    engine.read(last)
    together = engine.read_logits(count)
    engine.forget()
    engine.prefill(before)
    for token, row in zip(last, together, strict=True):
        engine.read([token])
        if not np.array_equal(engine.next_logits(), row):
            return False
    return True


def _read_again(target: Engine, items: Sequence[int], count: int) -> None:
    target.take_back(count)
    target.read(list(items[-count:]))


def _time(call: Callable[[], object]) -> float:
    times = []
    for _ in range(PROBE_ROUNDS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
