"""Speculative decoding: a small model guesses some tokens ahead, the large one reads them all at once and keeps what it would
have said itself (Leviathan et al. 2023, for greedy choice).

The answer is the large model's, token by token. One thing could tell it apart: llama.cpp adds up several tokens at once in
another order than one, so that logits differ in their last digits. Where the two best tokens are nearer to each other than
that, the position is evaluated again alone, as it would have been without a draft.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from .engine import Engine, Item, Picture
from .errors import BundleError

AHEAD = (2, 4, 8)  # numbers of guesses that are tried
MOST_AHEAD = max(AHEAD)
WORTH = 1.05  # speed, to that without a draft, from which on it is used
# Logits: how far several tokens at once may move them, with a margin (benchmarks/speculative.py prints what it is).
NEAR = 0.05
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
    target: Engine, draft: Engine, items: Sequence[Item], limit: int, ahead: int, stats: Speculation | None = None,
    *, past_end: bool = False,
) -> Iterator[int]:  # fmt: skip
    """Yield the tokens that `target.generate` yields greedily, sooner where the draft guesses well.

    Args:
        target: made with at least `ahead` tokens ahead.
        draft: of the same vocabulary; images are left out of its prompt where it has no tower.
        items, limit, past_end: as in `Engine.generate`.
        ahead: guesses in a round.
        stats: counts what is guessed and kept.
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
        room = min(limit - len(said), target.free, draft.context - len(prompt) - len(said))
        if limit - len(said) <= 0 or target.free <= 0:
            return
        count = max(0, min(ahead, room - 1))
        guesses = list(draft.generate([*prompt, *said], count, past_end=True)) if count else []
        given = [token, *guesses]
        choices, leads = target.read(given)
        kept = 0
        while True:
            if leads[kept] < NEAR and len(given) > 1:
                # Too near to call: as without a draft, alone. What was evaluated behind it has to go.
                target.take_back(len(given) - kept)
                choices[kept], guesses = target.read([given[kept]])[0][0], guesses[:kept]
                break
            if kept == len(guesses) or choices[kept] != guesses[kept]:
                target.take_back(len(guesses) - kept)
                break
            kept += 1
        if stats is not None:
            stats.guessed, stats.kept = stats.guessed + len(given) - 1, stats.kept + kept
        for guess in guesses[:kept]:
            if not past_end and target.ends(guess):
                return
            yield guess
            said.append(guess)
            if len(said) >= limit:
                return
        token = choices[kept]


def probe(target: Engine, draft: Engine) -> Speculation:
    """Measure on this device whether guessing pays, and how far ahead; both engines forget what they had evaluated."""
    prompt = [2, *target.tokenize(PROBE_TEXT)]
    plain = list(target.generate(prompt, PROBE_TOKENS, past_end=True))
    # How often the draft, told what the model has said so far, says what the model says next.
    whole = [*prompt, *plain]
    hits = [
        next(iter(draft.generate(whole[: len(prompt) + at], 1, past_end=True))) == plain[at] for at in range(len(plain))
    ]
    acceptance = sum(hits) / len(hits)
    target.prefill(whole)
    single = _time(lambda: _read_again(target, whole, 1))
    guess = _time(lambda: list(islice(draft.generate(whole, 5, past_end=True), 5))) / 5
    expected = {}
    for ahead in AHEAD:
        read = _time(partial(_read_again, target, whole, ahead + 1))
        tokens = sum(acceptance**power for power in range(ahead + 1))
        expected[ahead] = tokens * single / (ahead * guess + read)
    best = max(expected, key=lambda ahead: expected[ahead])
    for engine in (target, draft):
        engine.forget()
    if expected[best] < WORTH:
        return Speculation(0, acceptance, expected[best], "the draft would not make this device faster")
    return Speculation(best, acceptance, expected[best])


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
